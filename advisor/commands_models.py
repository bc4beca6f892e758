"""The commands about models: models, pull. As cli.py: parse, call, render.

Heavy modules are imported inside the functions that need them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from advisor import api, completion
from advisor.choices import Format, FormatOption
from advisor.errors import OptionError
from advisor.failures import errors_for_people, say, say_note
from advisor.output import console_for, deliver
from advisor.paths import expanded
from advisor.printable import visible

if TYPE_CHECKING:
    from advisor.catalog.matching import LocalModel
    from advisor.catalog.names import ModelRow
    from advisor.catalog.pull import PullPlan
    from advisor.catalog.records import HostEntry

MODELS_SCHEMA = "draft-advisor/models/1"
USUAL_QUANTS = ("Q2_K", "Q3_K_M", "Q4_0", "Q4_K_M", "MXFP4", "Q5_K_M", "Q6_K", "Q8_0", "BF16", "F16")

ModelsDirs = Annotated[
    list[Path] | None, typer.Option("--models-dir", metavar="DIR", help="A folder with models. Can be repeated.")
]


def register(app: typer.Typer) -> None:
    app.command()(models)
    app.command()(pull)


def models(
    family: Annotated[str | None, typer.Option(metavar="NAME", help="Only this family, such as qwen3.")] = None,
    local: Annotated[bool, typer.Option("--local", help="The model files found on this machine.")] = False,
    models_dir: ModelsDirs = None,
    hosts: Annotated[bool, typer.Option("--hosts", help="The machines that --host knows.")] = False,
    output_format: FormatOption = Format.text,
) -> None:
    """List models of the catalogue, model files, or machines.

    Without an option the catalogue, with --local the model files on this machine, with --hosts known machines.
    """
    with errors_for_people():
        if hosts and (family or local or models_dir):
            raise OptionError("--hosts lists machines, not models.", fix="Give it alone.")
        if hosts:
            _deliver_hosts(api.hosts(note=say_note), output_format)
            return
        if models_dir and not local:
            raise OptionError("--models-dir goes with --local.", fix="Add --local.")
        rows = api.models(family, note=say_note)
        if local:
            wanted = {row.id for row in rows} if family else None
            _deliver_local(_local_models(models_dir or [], wanted), models_dir or [], output_format)
        else:
            _deliver_models(rows, output_format)


def _deliver_hosts(entries: Sequence[HostEntry], output_format: Format) -> None:
    if output_format is Format.json:
        fields = [
            {"names": list(one.names), "device": one.name, "bandwidth_gb_per_s": one.bandwidth_gb_per_s}
            for one in entries
        ]
        _deliver_json({"schema": MODELS_SCHEMA, "hosts": fields})
        return
    cells = [(name, one.name, f"{one.bandwidth_gb_per_s:g} GB/s") for one in entries for name in one.names]
    deliver(lambda stream: _print_table(stream, ("host", "device", "bandwidth"), cells), None)


def _deliver_models(rows: Sequence[ModelRow], output_format: Format) -> None:
    if output_format is Format.json:
        _deliver_json({"schema": MODELS_SCHEMA, "models": [_model_fields(row) for row in rows]})
        return
    cells = [
        (row.id, _parameters(row.parameters), _some_quants(row.quants), row.tokenizer, row.licence) for row in rows
    ]
    deliver(lambda stream: _print_table(stream, ("model", "size", "quants", "tokenizer", "licence"), cells), None)


def _model_fields(row: ModelRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "family": row.family,
        "parameters": row.parameters,
        "quants": list(row.quants),
        "tokenizer": row.tokenizer,
        "licence": row.licence,
    }


def _some_quants(quants: Sequence[str]) -> str:
    usual = [quant for quant in quants if quant in USUAL_QUANTS]
    others = len(quants) - len(usual)
    return " ".join(usual) + (f" +{others}" if others else "") if usual else f"{others} quants" if others else "-"


def _parameters(count: int) -> str:
    return f"{count / 1e9:.1f}B" if count >= 1e9 else f"{count / 1e6:.0f}M"


def _local_models(folders: Sequence[Path], wanted: set[str] | None) -> tuple[LocalModel, ...]:
    """``wanted``: ids of entries, None for all files, known or not."""
    from advisor.report.progress_bar import ProgressBar

    with ProgressBar(console_for(sys.stderr), None) as progress:
        found = api.local_models(folders, progress=progress)
    return tuple(one for one in found if wanted is None or (one.entry is not None and one.entry.id in wanted))


def _deliver_local(found: Sequence[LocalModel], folders: Sequence[Path], output_format: Format) -> None:
    if output_format is Format.json:
        _deliver_json({"schema": MODELS_SCHEMA, "files": [_local_fields(one) for one in found]})
    else:
        deliver(lambda stream: _print_local(stream, found, _looked_in(folders)), None)


def _local_fields(one: LocalModel) -> dict[str, Any]:
    from advisor.catalog.matching import contradictions, remarks

    return {
        "origin": one.origin,
        "path": one.model.path,
        "paths": list(one.model.paths),
        "name": one.model.name,
        "model": one.entry.id if one.entry else None,
        "tuned": one.tuned,
        "quant": one.quant,
        "size_bytes": one.model.weights_bytes,
        "contradictions": contradictions(one.entry, one.model) if one.entry else [],
        "remarks": remarks(one.entry, one.model) if one.entry else [],
    }


def _looked_in(folders: Sequence[Path]) -> str:
    from advisor.catalog.local import searched_folders

    searched = searched_folders([expanded(folder) for folder in folders])
    named = [f"{folder}" if folder.is_dir() else f"{folder} (not there)" for folder in searched]
    return f"Looked in {', '.join(named)}."


def _print_local(stream: TextIO, found: Sequence[LocalModel], looked_in: str) -> None:
    from advisor.catalog.matching import contradictions, remarks
    from advisor.report.wording import size

    if not found:
        print("No model files were found. `advisor pull NAME` downloads one; --models-dir names a folder.", file=stream)
        print(visible(looked_in), file=stream)
        return
    cells = [(_known_as(one), one.quant, size(one.model.weights_bytes), one.origin, one.model.path) for one in found]
    _print_table(stream, ("model", "quant", "size", "origin", "path"), cells)
    for one in found:
        if one.entry is None:
            continue
        for said in contradictions(one.entry, one.model):
            print(visible(f"note: {one.model.path}: {said}. The header wins."), file=stream)
        for said in remarks(one.entry, one.model):
            print(visible(f"note: {one.model.path}: {said}."), file=stream)
    print(visible(looked_in), file=stream)


def _known_as(one: LocalModel) -> str:
    if one.entry is None:
        return f"{one.model.name} (not in the catalogue)"
    return f"{one.entry.id} (as {one.model.name})" if one.tuned else one.entry.id


def _deliver_json(document: dict[str, Any]) -> None:
    from advisor.report.json_document import dumps

    deliver(lambda stream: print(dumps(document), file=stream), None)


def _print_table(stream: TextIO, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell, the last one whatever is left: a path must stay whole to be copied."""
    cells = [[visible(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head) - 1)]
    for row in cells:
        padded = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False))
        print("  ".join([*padded, row[-1]]).rstrip(), file=stream)


# -- pull ------------------------------------------------------------------------------------------------------------


def pull(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A model, such as qwen2.5-1.5b-q4_k_m.", autocompletion=completion.models),
    ],
    models_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to put it. [default: the Hugging Face cache]")
    ] = None,
    quant: Annotated[str | None, typer.Option(metavar="QUANT", help="The quantization, where NAME has none.")] = None,
) -> None:
    """Download a model of the catalogue."""
    with errors_for_people():
        from advisor.catalog.pull.named import plan_named
        from advisor.user_catalog import user_catalog

        folder = expanded(models_dir) if models_dir else None
        plan = plan_named(name, user_catalog(say_note), quant)
        paths = _download(plan, folder)
        deliver(lambda stream: print("\n".join(visible(str(path)) for path in paths), file=stream), None)
        _say_how_to_go_on(paths[0])


def _download(plan: PullPlan, folder: Path | None) -> tuple[Path, ...]:
    from advisor.catalog import pull as pulling
    from advisor.report.progress_bar import ProgressBar

    say(_announcement(plan, folder))
    pulling.check_disk(plan, folder)
    try:
        with ProgressBar(console_for(sys.stderr), None) as progress:
            return pulling.pull(plan, folder, progress).paths
    except KeyboardInterrupt:
        say("Interrupted: what has arrived stays. Run the same command again to go on from there.")
        raise typer.Exit(130) from None


def _announcement(plan: PullPlan, folder: Path | None) -> str:
    from advisor.catalog.pull import free_bytes, missing_bytes
    from advisor.report.wording import counted, size

    missing, free = missing_bytes(plan, folder), free_bytes(plan, folder)
    text = f"{plan.repo} {plan.quant}: {counted(len(plan.files), 'file')}, {size(plan.total_bytes)}"
    if missing < plan.total_bytes:
        text += f", {size(missing)} still to download" if missing else ", already on disk"
    return text + (f"; {size(free)} are free." if free is not None else ".")


def _say_how_to_go_on(path: Path) -> None:
    say("As a draft:  " + _one_line(["advisor", "recommend", "--target", "TARGET.gguf", "--draft", str(path)]))
    say("As a target: " + _one_line(["advisor", "recommend", "--target", str(path), "--draft", "DRAFT.gguf"]))


def _one_line(argv: Sequence[str]) -> str:
    from advisor.exporters.llama_server import shell

    return " ".join(line.removesuffix(" \\").strip() for line in shell(argv).splitlines())
