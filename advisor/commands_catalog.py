"""The commands about models and priors: models, pull, import, fit-priors. As cli.py: parse, call, render.

Heavy modules are imported inside the functions that need them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from advisor.errors import FileProblem, OptionError, StoreError
from advisor.failures import errors_for_people, say
from advisor.output import check_output, console_for, deliver
from advisor.printable import visible

if TYPE_CHECKING:
    from advisor.catalog.load import Catalog
    from advisor.catalog.local import LocalModel
    from advisor.catalog.names import ModelRow, Named
    from advisor.catalog.pull import PullPlan
    from advisor.catalog.records import Entry, Repository
    from advisor.predict.evidence import Evidence
    from advisor.predict.prior import Posterior

MODELS_SCHEMA = "draft-advisor/models/1"
USUAL_QUANTS = ("Q2_K", "Q3_K_M", "Q4_0", "Q4_K_M", "MXFP4", "Q5_K_M", "Q6_K", "Q8_0", "BF16", "F16")
MAX_NOTES = 10
MOVED_COEFFICIENTS = 5


class Format(StrEnum):
    text = "text"
    json = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="text for people, json for programs.")]
ModelsDirs = Annotated[
    list[Path] | None, typer.Option("--models-dir", metavar="DIR", help="A folder with models. Can be repeated.")
]


def register(app: typer.Typer) -> None:
    app.command("models")(models)
    app.command("pull")(pull)
    app.command("import")(import_files)
    app.command("fit-priors")(fit_priors)


def _catalog() -> Catalog:
    from advisor import store
    from advisor.catalog.load import FOLDER, load

    return load(store.data_dir() / FOLDER)


# -- models ----------------------------------------------------------------------------------------------------------


def models(
    family: Annotated[str | None, typer.Option(metavar="NAME", help="Only this family, such as qwen3.")] = None,
    local: Annotated[bool, typer.Option("--local", help="The model files found on this machine.")] = False,
    models_dir: ModelsDirs = None,
    output_format: FormatOption = Format.text,
) -> None:
    """List the models of the catalogue, or with --local the model files on this machine."""
    with errors_for_people():
        from advisor.catalog.names import list_models

        if models_dir and not local:
            raise OptionError("--models-dir goes with --local.", fix="Add --local.")
        catalog = _catalog()
        rows = list_models(catalog, family)
        if local:
            wanted = {row.id for row in rows} if family else None
            _deliver_local(_local_models(catalog, models_dir or [], wanted), output_format)
        else:
            _deliver_models(rows, output_format)


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


def _local_models(catalog: Catalog, folders: Sequence[Path], wanted: set[str] | None) -> tuple[LocalModel, ...]:
    """``wanted``: ids of entries, None for all files, known or not."""
    from advisor.catalog.local import find_local, match_local
    from advisor.report.progress_bar import ProgressBar

    with ProgressBar(console_for(sys.stderr), None) as progress:
        files = find_local([folder.expanduser() for folder in folders], progress=progress)
        found = match_local(files, tuple(catalog.entries.values()), progress=progress)
    return tuple(one for one in found if wanted is None or (one.entry is not None and one.entry.id in wanted))


def _deliver_local(found: Sequence[LocalModel], output_format: Format) -> None:
    if output_format is Format.json:
        _deliver_json({"schema": MODELS_SCHEMA, "files": [_local_fields(one) for one in found]})
    else:
        deliver(lambda stream: _print_local(stream, found), None)


def _local_fields(one: LocalModel) -> dict[str, Any]:
    from advisor.catalog.local import contradictions, remarks

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


def _print_local(stream: TextIO, found: Sequence[LocalModel]) -> None:
    from advisor.catalog.local import contradictions, remarks
    from advisor.report.wording import size

    if not found:
        print("No model files were found. `advisor pull NAME` downloads one; --models-dir names a folder.", file=stream)
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


def _known_as(one: LocalModel) -> str:
    if one.entry is None:
        return f"{one.model.name} (not in the catalogue)"
    return f"{one.entry.id} (as {one.model.name})" if one.tuned else one.entry.id


# -- pull ------------------------------------------------------------------------------------------------------------


def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model, such as qwen2.5-1.5b-q4_k_m.")],
    models_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to put it. [default: the Hugging Face cache]")
    ] = None,
    quant: Annotated[str | None, typer.Option(metavar="QUANT", help="The quantization, where NAME has none.")] = None,
) -> None:
    """Download a model of the catalogue."""
    with errors_for_people():
        from advisor.catalog.names import resolve
        from advisor.catalog.pull import plan_pull

        catalog = _catalog()
        named = resolve(name, catalog)
        wanted = _wanted_quant(named, quant, catalog)
        folder = models_dir.expanduser() if models_dir else None
        plan = plan_pull(named.entry, wanted, _repository(named, wanted, catalog))
        paths = _download(plan, folder)
        deliver(lambda stream: print("\n".join(visible(str(path)) for path in paths), file=stream), None)
        _say_how_to_go_on(paths[0])


def _wanted_quant(named: Named, option: str | None, catalog: Catalog) -> str:
    from advisor.catalog.names import quant_named

    if option is None:
        if named.quant is None:
            raise OptionError(
                f"Which quantization of {named.entry.id}?",
                why=_offered(named.entry, catalog),
                fix=f"Add it to the name, such as {_example(named.entry)}, or name it with --quant.",
            )
        return named.quant
    quant = quant_named(option)
    if quant is None:
        raise OptionError(f"--quant: {option} is not a quantization.", fix="Write for example Q8_0 or Q4_K_M.")
    if named.quant not in (None, quant):
        raise OptionError(f"The name says {named.quant}, --quant says {quant}.", fix="Leave one of them out.")
    return quant


def _repository(named: Named, quant: str, catalog: Catalog) -> Repository:
    from advisor.catalog.describe import repository_of

    repository = named.repository or repository_of(named.entry, quant)
    if repository is None:
        raise OptionError(
            f"No repository is known to publish {named.entry.id} in {quant}.",
            why=_offered(named.entry, catalog),
            fix="Choose one of these, or name a repository: owner/name:QUANT.",
        )
    return repository


def _offered(entry: Entry, catalog: Catalog) -> str:
    """The quantizations of an entry with their sizes, smallest first."""
    from advisor.catalog.describe import file_size_bytes, quants_of
    from advisor.report.wording import size

    group = catalog.tokenizers[entry.tokenizer]
    sizes = [f"{quant} {size(file_size_bytes(entry, quant, group))}" for quant in quants_of(entry)]
    return f"There is {', '.join(sizes)}." if sizes else "The catalogue knows no files of it."


def _example(entry: Entry) -> str:
    from advisor.catalog.describe import quants_of

    known = quants_of(entry)
    quant = next((one for one in ("Q4_K_M", "Q8_0") if one in known), known[0] if known else "Q4_K_M")
    return f"{entry.id}-{quant.lower()}"


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


# -- import ----------------------------------------------------------------------------------------------------------


def import_files(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="draftbench results, or recommendations in JSON.")
    ],
) -> None:
    """Keep measurements of others, or of your other machines, as evidence for the priors."""
    with errors_for_people():
        from advisor import store
        from advisor.predict import imported
        from advisor.predict.reading import read_text

        catalog = _catalog()
        texts = [imported.Imported(path.name, _text(path)) for path in (one.expanduser() for one in files)]
        read = [read_text(path.expanduser(), one.text, catalog) for path, one in zip(files, texts, strict=True)]
        for path, evidence in zip(files, read, strict=True):
            _check_useful(path, evidence)
        new = [imported.keep(one, store.data_dir()) for one in texts]
        lines = [line for one in zip(texts, read, new, strict=True) for line in _import_lines(one[0].name, *one[1:])]
        if any(new):
            lines.append("Refit the priors with them: advisor fit-priors")
        _deliver_lines(lines)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise FileProblem(
            f"{path} cannot be read.", why=f"{why}.", fix="Give draftbench results or a recommendation in JSON."
        ) from None


def _check_useful(path: Path, evidence: Evidence) -> None:
    if not (evidence.pairs or evidence.decodes or evidence.verifies):
        raise FileProblem(
            f"{path} has nothing that the priors could learn from.",
            why=" ".join(_first(evidence.notes)) or "It has neither pairs nor baselines.",
            fix="Give results with a baseline for each target, of models that the catalogue knows.",
        )


def _import_lines(name: str, evidence: Evidence, is_new: bool) -> Iterator[str]:
    yield f"{name}: imported" if is_new else f"{name}: was imported before; nothing has changed"
    yield f"  {_contents(evidence)}"
    hosts = dict.fromkeys(
        f"{machine.host or 'unknown'} ({machine.backend}, {machine.bandwidth_bytes_per_s / 1e9:.0f} GB/s)"
        for machine in _machines(evidence)
    )
    yield f"  host: {', '.join(hosts)}"
    for target in dict.fromkeys(pair.target for pair in evidence.pairs):
        speeds = [pair.speedup for pair in evidence.pairs if pair.target == target]
        yield f"  {target}: {len(speeds)} pairs, {min(speeds):.2f}x to {max(speeds):.2f}x"
    yield from (f"  note: {note}" for note in _first(evidence.notes))


def _machines(evidence: Evidence) -> Iterator[Any]:
    yield from (pair.case.machine for pair in evidence.pairs)
    yield from (row.machine for row in evidence.decodes)
    yield from (row.machine for row in evidence.verifies)


def _contents(evidence: Evidence) -> str:
    from advisor.report.wording import counted

    baselines = sum(row.is_baseline for row in evidence.decodes)
    parts = [counted(len(evidence.pairs), "pair"), counted(baselines, "baseline")]
    if others := len(evidence.decodes) - baselines:
        parts.append(counted(others, "decode speed"))
    if evidence.verifies:
        parts.append(counted(len(evidence.verifies), "verify cost"))
    return ", ".join(parts)


def _first(notes: Sequence[str]) -> list[str]:
    more = [f"and {len(notes) - MAX_NOTES} more"] if len(notes) > MAX_NOTES else []
    return [*notes[:MAX_NOTES], *more]


# -- fit-priors ------------------------------------------------------------------------------------------------------


def fit_priors(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE...]", help="More evidence, beside what was imported.")
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Learn from the given and imported evidence alone.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write it. [default: in use at once]")
    ] = None,
) -> None:
    """Fit the priors again, with what was imported and the files given on top of what is shipped."""
    with errors_for_people():
        from advisor import store
        from advisor.predict.fit import compact, fit
        from advisor.predict.prior import posterior_to_json, shipped, user_path

        check_output(output)
        start = None if from_scratch else shipped()
        evidence = _evidence([path.expanduser() for path in files or []], start)
        say(f"Fitting {_contents(evidence)}; this takes up to a minute or two.")
        fitted = compact(fit(evidence, start=start))
        text = posterior_to_json(fitted)
        path = output.expanduser() if output else user_path(store.data_dir())
        if output:
            deliver(lambda stream: print(text, file=stream, end=""), path)
        else:
            _put_in_use(path, text)
        _deliver_lines(_fit_lines(fitted, start, evidence, path, in_use=output is None))


def _evidence(files: Sequence[Path], start: Posterior | None) -> Evidence:
    """What was imported and these files, each text once, without what ``start`` has learnt from already."""
    from advisor import store
    from advisor.predict import imported
    from advisor.predict.evidence import Evidence
    from advisor.predict.reading import digest, digests_in, read_text

    catalog, known = _catalog(), digests_in(start.provenance if start else ())
    read = {one.text: evidence for one, evidence in imported.read_kept(store.data_dir(), catalog)}
    given = {_text(path): path for path in files}
    read |= {text: read_text(path, text, catalog) for text, path in given.items() if text not in read}
    total = Evidence()
    for text, evidence in read.items():
        if digest(text) in known:
            say(f"note: left out, because the shipped priors have learnt from it: {', '.join(evidence.provenance)}")
        else:
            total += evidence
    if not (total.pairs or total.decodes or total.verifies):
        raise FileProblem(
            "There is nothing new to learn from.",
            why="Nothing was imported and no file given that the shipped priors do not know.",
            fix="Give draftbench results: advisor fit-priors FILE, or import them first.",
        )
    return total


def _put_in_use(path: Path, text: str) -> None:
    from advisor.host.files import write_atomically

    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written.",
            why=f"The system says: {error.strerror or error}.",
            fix="Set ADVISOR_DATA_DIR to a directory that can be written.",
        ) from None


def _fit_lines(
    fitted: Posterior, start: Posterior | None, evidence: Evidence, path: Path, *, in_use: bool
) -> Iterator[str]:
    yield from (f"learnt from {line}" for line in evidence.provenance)
    yield from (f"note: {note}" for note in _first(evidence.notes))
    yield f"row_sd {fitted.row_sd:.3f}: how far one pair's log(speedup) strays from the fit"
    yield "What moved most, in units of what was uncertain before:"
    yield from _moves(fitted, start)
    yield f"Written to {path}" + (", which predictions now use." if in_use else ".")


def _moves(fitted: Posterior, start: Posterior | None) -> Iterator[str]:
    from advisor.predict.prior import assumed

    before = start.over(fitted.names) if start else None
    moves = []
    for place, name in enumerate(fitted.names):
        if before is None:
            mean, sd = assumed(name)
        else:
            mean, sd = float(before.mean[place]), math.sqrt(float(before.covariance[place, place]))
        new = float(fitted.mean[place])
        moves.append(((new - mean) / max(sd, 1e-9), name, mean, new))
    moves.sort(key=lambda move: -abs(move[0]))
    for sds, name, old, new in moves[:MOVED_COEFFICIENTS]:
        yield f"  {name:<28} {old:8.3f} -> {new:8.3f}   ({sds:+.1f})"


# -- output ----------------------------------------------------------------------------------------------------------


def _deliver_lines(lines: Iterable[str]) -> None:
    text = "\n".join(visible(line) for line in lines)
    deliver(lambda stream: print(text, file=stream), None)


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
