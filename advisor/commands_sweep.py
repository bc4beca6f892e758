"""``advisor sweep``: every draft at every length, run for real, for those who want the whole map."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from advisor.asking import understand_sweep
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
from advisor.errors import OptionError
from advisor.failures import errors_for_people, say
from advisor.output import check_output, console_for, deliver

if TYPE_CHECKING:
    from advisor.types import Recommendation


def register(app: typer.Typer) -> None:
    app.command()(sweep)


def sweep(
    target: Annotated[Path, typer.Option(metavar="FILE", help="The model to make faster.")],
    draft: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="A draft model of the grid. Can be repeated.")
    ] = None,
    draft_dir: DraftDirOption = None,
    k: Annotated[
        list[int] | None,
        typer.Option("--k", metavar="N", help="A draft length of the grid. Can be repeated. [default: 2, 4, 8, 16]"),
    ] = None,
    p_min: Annotated[
        list[float] | None, typer.Option(metavar="N", help="A p_min of the grid. Can be repeated. [default: 0]")
    ] = None,
    prompts: Annotated[int, typer.Option(metavar="N", help="On how many prompts each cell is run.")] = 4,
    workload: WorkloadOption = None,
    context: ContextOption = 4096,
    max_tokens: MaxTokensOption = 128,
    temperature: TemperatureOption = 0.0,
    seed: SeedOption = 1,
    threads: Annotated[int, typer.Option(metavar="N", help="CPU threads; 0: as many as cores.")] = 0,
    engine: Annotated[
        Engine, typer.Option(help="What runs: llama-cpp-python in this process, or the llama-server that you deploy.")
    ] = Engine.llama_cpp_python,
    llama_server: ServerOption = None,
    draftbench: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also write the table as draftbench does, one JSON file a draft length."),
    ] = None,
    output_format: FormatOption = Format.text,
    fresh: FreshOption = False,
    output: OutputOption = None,
) -> None:
    """Run every draft at every length for real.

    Each has its own baseline beside it. It takes long; `recommend` needs minutes.

    Cells are kept: the same command goes on where it was interrupted.
    """
    with errors_for_people():
        from advisor import pipeline
        from advisor.report.progress_bar import ProgressBar

        check_output(output)
        _check_folder(draftbench)
        asked, grid = understand_sweep(
            target=str(target),
            drafts=draft or (),
            draft_dirs=draft_dir or (),
            lengths=k or (),
            p_mins=p_min or (),
            prompts=prompts,
            workload=workload,
            context=context,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            threads=threads,
            server=server_asked(engine, llama_server),
            fresh=fresh,
            note=say,
        )

        def show(rec: Recommendation) -> None:
            deliver(_writer(rec, output_format), output)
            if draftbench is not None:
                _write_tables(rec, draftbench)

        try:
            with ProgressBar(console_for(sys.stderr), None) as progress:
                rec = pipeline.sweep(asked.request(progress), grid, progress)
        except pipeline.Interrupted as interrupted:
            if interrupted.recommendation is None:
                say("Interrupted before the first cell was done. Run the same command again to go on from here.")
            else:
                say("Interrupted: these cells are done. Run the same command again to go on from here.")
                show(interrupted.recommendation)
            raise typer.Exit(130) from None
        show(rec)


def _writer(rec: Recommendation, output_format: Format) -> Callable[[TextIO], None]:
    from advisor.exporters import llama_server as exporter
    from advisor.report import json_document, sweep_map

    command = exporter.command(rec)
    if output_format is Format.json:
        text = json_document.dumps(json_document.document(rec, command=command, show_all=True))
        return lambda stream: print(text, file=stream)
    shell = exporter.shell(command)
    return lambda stream: sweep_map.render(rec, console=console_for(stream), command=shell)


def _write_json(document: dict[str, Any], stream: TextIO) -> None:
    print(json.dumps(document, indent=2), file=stream)


def _check_folder(folder: Path | None) -> None:
    if folder is not None and not folder.is_dir():
        raise OptionError(f"--draftbench: {folder} is not a directory.", fix="Make it first.")


def _write_tables(rec: Recommendation, folder: Path) -> None:
    from advisor.exporters import draftbench

    documents = draftbench.documents(rec)
    if not documents:
        say("No table was written: draftbench has none for cells with p_min. Add --p-min 0 to the grid.")
    for k, document in documents.items():
        path = folder / f"sweep_k{k}.json"
        deliver(partial(_write_json, document), path)
        say(f"Wrote {path}.")
