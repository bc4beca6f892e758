"""``advisor fleet``: one answer for many machines. ``advisor worker``: this machine replays drafts for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from advisor import api
from advisor.choices import ContextOption, Format, FormatOption, OutputOption, TemperatureOption
from advisor.failures import errors_for_people, say
from advisor.output import check_output, console_for, deliver


def register(app: typer.Typer) -> None:
    app.command()(fleet)
    app.command()(worker)


def fleet(
    inventory: Annotated[
        Path, typer.Option(metavar="FILE", help="The machines, as YAML: names of the catalogue, or saved probes.")
    ],
    target: Annotated[str, typer.Option(metavar="MODEL", help="A GGUF file, or a name such as qwen2.5-72b-q8.")],
    category: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="The kind of text. Can be repeated. [default: code]")
    ] = None,
    context: ContextOption = 4096,
    temperature: TemperatureOption = 0.0,
    k_max: Annotated[int, typer.Option(metavar="N", help="The longest draft to consider, in tokens.")] = 16,
    llama_build: Annotated[
        str | None,
        typer.Option(metavar="bN", help="Predict for a llama.cpp build, such as b7900. [default: current]"),
    ] = None,
    output_format: FormatOption = Format.text,
    output: OutputOption = None,
) -> None:
    """Say what each machine of an inventory should run.

    It also says which one pairing is best where all must run the same.

    Nothing is measured: rows are foreseen, or from imported profiles where those have a machine's own costs.
    """
    with errors_for_people():
        from advisor.fleet import table
        from advisor.report.json_document import dumps

        check_output(output)
        found = api.recommend_fleet(
            target,
            inventory,
            categories=category or (),
            context=context,
            temperature=temperature,
            k_max=k_max,
            llama_build=llama_build,
            note=say,
        )
        if output_format is Format.json:
            text = dumps(table.document(found))
            deliver(lambda stream: print(text, file=stream), output)
        else:
            deliver(lambda stream: table.render(found, console=console_for(stream)), output)


def worker(
    scheduler: Annotated[
        str, typer.Option(metavar="URL", help="The Dask scheduler to work for, such as tcp://192.168.1.5:8786.")
    ],
    models_dir: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="Where else draft files are. Can be repeated.")
    ] = None,
    threads: Annotated[int, typer.Option(metavar="N", min=0, help="CPU threads a replay; 0: one a core.")] = 0,
) -> None:
    """Replay drafts for `advisor recommend --scheduler`.

    It goes on until it is stopped. Only for networks that you trust.
    """
    with errors_for_people():
        api.run_worker(
            scheduler,
            models_dir or (),
            threads=threads,
            ready=lambda address: say(f"Ready to replay at {address} for {scheduler}."),
            note=say,
        )
