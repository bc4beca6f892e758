"""The commands: parse, call the pipeline, choose a renderer. No logic.

Heavy modules are imported inside the functions that need them, so that ``advisor --help`` is instant.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from advisor import (
    api,
    commands_doctor,
    commands_explain,
    commands_export,
    commands_fleet,
    commands_models,
    commands_priors,
    commands_profile,
    commands_sweep,
    commands_watch,
    completion,
)
from advisor.asking import Measurement, Prediction, understand
from advisor.choices import (
    ContextOption,
    DraftDirOption,
    Engine,
    Format,
    FormatOption,
    FreshOption,
    MaxTokensOption,
    OutputOption,
    SeedOption,
    ServerOption,
    TemperatureOption,
    WorkloadOption,
    server_asked,
)
from advisor.failures import errors_for_people, say
from advisor.output import check_output, console_for, deliver

if TYPE_CHECKING:
    from advisor.types import Host, Recommendation

EXIT_CODES = """\b
Exit codes:
  0    done
  1    a check that did not hold: export --check is outside the interval, watch --once is below break-even
  2    something in the request or on this machine can be changed: the message says what
  3    the engine, the hub or the store failed
  130  interrupted: what was measured is kept, the same command goes on from there

NO_COLOR=1 turns colours off. --install-completion teaches your shell the commands and options."""

app = typer.Typer(
    name="advisor",
    help="Which draft model should I use? Measured advice for speculative decoding with llama.cpp.",
    no_args_is_help=True,
    epilog=EXIT_CODES,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """The console script."""
    try:
        app()
    except KeyboardInterrupt:  # before or after a command; inside one it has been dealt with
        sys.exit(130)


def _print_version(wanted: bool) -> None:
    if wanted:
        from advisor.checkup import versions

        typer.echo("\n".join(versions()))
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print versions and builds, and exit."),
    ] = False,
) -> None:
    pass


@app.command()
def recommend(
    target: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="The model to make faster: a GGUF file, or a name such as qwen2.5-72b-q8 (no file needed).",
        ),
    ] = None,
    draft: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="A draft model to consider. Can be repeated.")
    ] = None,
    draft_dir: DraftDirOption = None,
    workload: WorkloadOption = None,
    category: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only prompts of this category; of a prediction, the kind of text: code, chat ... Can be repeated.",
        ),
    ] = None,
    context: ContextOption = 4096,
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="How long it may take: 90s, 5m, 1h30m. [default: 5m; 3m30s with --demo]"),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="End at the first answer, in a third of the time, not refined.")
    ] = False,
    temperature: TemperatureOption = 0.0,
    top_p: Annotated[float, typer.Option(metavar="N", help="The top-p you will sample with.")] = 0.95,
    seed: SeedOption = 1,
    max_tokens: MaxTokensOption = 256,
    k_max: Annotated[int, typer.Option(metavar="N", help="The longest draft to consider, in tokens.")] = 16,
    threads: Annotated[int, typer.Option(metavar="N", help="CPU threads; 0 chooses.")] = 0,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Predict for this machine, such as m4-max-128gb or rtx-4090, not for this one.",
            autocompletion=completion.hosts,
        ),
    ] = None,
    baseline_tps: Annotated[
        float | None, typer.Option(metavar="N", help="Predict from what the target gives today, in tokens per second.")
    ] = None,
    llama_build: Annotated[
        str | None,
        typer.Option(metavar="bN", help="Predict for a llama.cpp build, such as b7900. [default: current]"),
    ] = None,
    k: Annotated[int | None, typer.Option("--k", metavar="N", help="Predict for this draft length only.")] = None,
    p_min: Annotated[float | None, typer.Option(metavar="N", help="Predict for this p_min only.")] = None,
    predict: Annotated[
        bool, typer.Option("--predict", help="Only predict, though the models are here to be measured.")
    ] = False,
    models_dir: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="Where else your models are. Can be repeated.")
    ] = None,
    engine: Annotated[
        Engine,
        typer.Option(
            help="What answers and runs: llama-cpp-python in this process, or the llama-server that you deploy."
        ),
    ] = Engine.llama_cpp_python,
    llama_server: ServerOption = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Take acceptance from this profile, measure costs here. [default: an imported one that fits]",
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Replay drafts on the `advisor worker`s of this Dask scheduler.", show_default=False
        ),
    ] = None,
    shared_search: Annotated[
        str | None,
        typer.Option(
            "--share-search",
            metavar="URL",
            help="Keep the search in this database, and share its real runs with other machines of the same kind: "
            "postgresql+psycopg://USER@HOST/DATABASE.",
            show_default=False,
        ),
    ] = None,
    output_format: FormatOption = Format.text,
    show_all: Annotated[bool, typer.Option("--all", help="List every candidate, not the best of each draft.")] = False,
    fresh: FreshOption = False,
    demo: Annotated[bool, typer.Option("--demo", help="Use small models built from an installed package.")] = False,
    output: OutputOption = None,
) -> None:
    """Say which draft model, if any, makes the target faster.

    The answer has the command that runs it. With files it is measured on this machine; with a name it is predicted, in
    a second or two, before any download.
    """
    with errors_for_people():
        check_output(output)

        def show(rec: Recommendation) -> None:
            deliver(_report_writer(rec, output_format, show_all=show_all), output)

        asked = understand(
            target=target,
            drafts=draft or (),
            draft_dirs=draft_dir or (),
            workload=workload,
            categories=category or (),
            context=context,
            budget=budget,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            max_tokens=max_tokens,
            k_max=k_max,
            threads=threads,
            host=host,
            baseline_tps=baseline_tps,
            llama_build=llama_build,
            k=k,
            p_min=p_min,
            predict=predict,
            models_dirs=models_dir or (),
            server=server_asked(engine, llama_server),
            fresh=fresh,
            demo=demo,
            note=say,
            profile=profile,
            scheduler=scheduler,
            shared_search=shared_search,
            quick=quick,
        )
        if isinstance(asked, Prediction):
            show(_foresee(asked))
        else:
            _measure(asked, show)


@app.command()
def probe(
    output_format: FormatOption = Format.text,
    fresh: FreshOption = False,
) -> None:
    """Print this machine's memory, cores, devices and bandwidth.

    Its instruction sets too. The bandwidth of reading memory is measured once.
    """
    with errors_for_people():
        deliver(_host_writer(api.probe(fresh=fresh), output_format), None)


def _foresee(asked: Prediction) -> Recommendation:
    from advisor import pipeline

    return pipeline.foresee(asked.question, asked.settings, note=say)


def _measure(asked: Measurement, show: Callable[[Recommendation], None]) -> None:
    from advisor import pipeline
    from advisor.budget import Budget
    from advisor.report.progress_bar import ProgressBar

    budget = Budget(asked.settings.budget_s)
    try:
        with ProgressBar(console_for(sys.stderr), asked.settings.budget_s) as progress:
            rec = pipeline.recommend(asked.request(progress), progress, budget=budget)
    except pipeline.Interrupted as interrupted:
        if interrupted.recommendation is None:
            say("Interrupted before there was an answer. Run the same command again to go on from here.")
        else:
            say("Interrupted: this is the best so far. Run the same command again to go on from here.")
            show(interrupted.recommendation)
        raise typer.Exit(130) from None
    show(rec)


def _report_writer(rec: Recommendation, output_format: Format, *, show_all: bool) -> Callable[[TextIO], None]:
    from advisor.exporters import llama_server
    from advisor.report import json_document, terminal

    command = llama_server.command(rec)
    if output_format is Format.json:
        text = json_document.dumps(json_document.document(rec, command=command, show_all=show_all))
        return lambda stream: print(text, file=stream)
    shell = llama_server.shell(command)
    return lambda stream: terminal.render(rec, console=console_for(stream), command=shell, show_all=show_all)


def _host_writer(host: Host, output_format: Format) -> Callable[[TextIO], None]:
    from advisor.report import json_document, terminal

    if output_format is Format.json:
        text = json_document.dumps(json_document.host_document(host))
        return lambda stream: print(text, file=stream)
    return lambda stream: terminal.render_host(host, console=console_for(stream))


commands_models.register(app)
commands_priors.register(app)
commands_doctor.register(app)
commands_explain.register(app)
commands_export.register(app)
commands_fleet.register(app)
commands_profile.register(app)
commands_sweep.register(app)
commands_watch.register(app)
