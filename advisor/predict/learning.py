"""What others measured, kept as evidence, and the priors fitted again with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from advisor.catalog.load import Catalog
from advisor.errors import FileProblem, StoreError
from advisor.host.files import write_atomically
from advisor.predict import imported
from advisor.predict.belief import Posterior, posterior_to_json, user_path
from advisor.predict.evidence import Evidence
from advisor.predict.fit import compact, fit
from advisor.predict.reading import digest, digests_in, read_text
from advisor.store import data_dir

MAX_NOTES = 10


@dataclass(frozen=True)
class Learnt:
    """What one file brought. ``is_new``: it was not imported before."""

    name: str
    evidence: Evidence
    is_new: bool


@dataclass(frozen=True)
class Refit:
    """``start`` is None where nothing was known before."""

    fitted: Posterior
    start: Posterior | None
    evidence: Evidence


def import_files(files: Sequence[Path], catalog: Catalog) -> tuple[Learnt, ...]:
    """Keep these files as evidence. FileProblem for one that cannot be read or teaches nothing: then none is kept."""
    texts = [imported.Imported(path.name, _text(path)) for path in files]
    read = [read_text(path, one.text, catalog) for path, one in zip(files, texts, strict=True)]
    for path, evidence in zip(files, read, strict=True):
        _check_useful(path, evidence)
    new = [imported.keep(one, data_dir()) for one in texts]
    return tuple(Learnt(one.name, *found) for one, found in zip(texts, zip(read, new, strict=True), strict=True))


def collect(files: Sequence[Path], start: Posterior | None, catalog: Catalog, note: Callable[[str], None]) -> Evidence:
    """What was imported and these files, each text once, without what ``start`` has learnt from already."""
    known = digests_in(start.provenance if start else ())
    read = {one.text: evidence for one, evidence in imported.read_kept(data_dir(), catalog)}
    given = {_text(path): path for path in files}
    read |= {text: read_text(path, text, catalog) for text, path in given.items() if text not in read}
    total = Evidence()
    for text, evidence in read.items():
        if digest(text) in known:
            note(f"left out, because the shipped priors have learnt from it: {', '.join(evidence.provenance)}")
        else:
            total += evidence
    if not teaches(total):
        raise FileProblem(
            "There is nothing new to learn from.",
            why="Nothing was imported and no file given that the shipped priors do not know.",
            fix="Give draftbench results: advisor fit-priors FILE, or import them first.",
        )
    return total


def refit(evidence: Evidence, start: Posterior | None) -> Refit:
    """The priors fitted with ``evidence`` on top of ``start``; a minute or two."""
    return Refit(compact(fit(evidence, start=start)), start, evidence)


def put_in_use(fitted: Posterior) -> Path:
    """From now on predictions use it. Raises StoreError."""
    path = user_path(data_dir())
    try:
        write_atomically(path, posterior_to_json(fitted).encode())
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written.",
            why=f"The system says: {error.strerror or error}.",
            fix="Set ADVISOR_DATA_DIR to a directory that can be written.",
        ) from None
    return path


def teaches(evidence: Evidence) -> bool:
    return bool(evidence.pairs or evidence.decodes or evidence.verifies)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise FileProblem(
            f"{path} cannot be read.", why=f"{why}.", fix="Give draftbench results or a recommendation in JSON."
        ) from None


def _check_useful(path: Path, evidence: Evidence) -> None:
    if not teaches(evidence):
        raise FileProblem(
            f"{path} has nothing that the priors could learn from.",
            why=" ".join(first(evidence.notes)) or "It has neither pairs nor baselines.",
            fix="Give results with a baseline for each target, of models that the catalogue knows.",
        )


def first(notes: Sequence[str]) -> list[str]:
    """As many notes as a person reads, and how many more there are."""
    more = [f"and {len(notes) - MAX_NOTES} more"] if len(notes) > MAX_NOTES else []
    return [*notes[:MAX_NOTES], *more]
