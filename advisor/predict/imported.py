"""Evidence that the user imported: whole texts on disk, read afresh by whoever learns from them.

One file a text, named by its content, so that nothing is there twice. Texts are kept as they came: a later version
may read more in them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from advisor.catalog.load import Catalog
from advisor.errors import FileProblem, StoreError
from advisor.host.files import write_atomically
from advisor.predict.evidence import Evidence
from advisor.predict.reading import read_text

SCHEMA = "draft-advisor/evidence/1"


@dataclass(frozen=True)
class Imported:
    """A text and the name of the file that it came from, without folders."""

    name: str
    text: str


def keep(one: Imported, data_dir: Path) -> bool:
    """False when the same text is kept already. Raises StoreError when it cannot be written."""
    path = _folder(data_dir) / f"{hashlib.sha256(one.text.encode()).hexdigest()}.json"
    content = {"schema": SCHEMA, "name": one.name, "text": one.text}
    try:
        if path.exists():
            return False
        write_atomically(path, json.dumps(content).encode())
    except OSError as error:
        raise _refused(path, f"The system says: {error.strerror or error}.") from None
    return True


def kept(data_dir: Path) -> tuple[Imported, ...]:
    """Everything imported, in an order that does not change. StoreError naming a damaged file."""
    return tuple(_load(path) for path in sorted(_folder(data_dir).glob("*.json")))


def read_kept(data_dir: Path, catalog: Catalog) -> tuple[tuple[Imported, Evidence], ...]:
    """Every text with what it says; one that can no longer be read, such as of a host that left the catalogue, says a
    note only. StoreError as ``kept``."""
    return tuple((one, _read(one, catalog)) for one in kept(data_dir))


def _read(one: Imported, catalog: Catalog) -> Evidence:
    try:
        return read_text(Path(one.name), one.text, catalog)
    except FileProblem as error:
        return Evidence(notes=(f"{one.name}, imported before, is left out: {error.what}",))


def _folder(data_dir: Path) -> Path:
    return data_dir / "evidence"


def _load(path: Path) -> Imported:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise ValueError(f"its schema is {content['schema']!r}")
        return Imported(str(content["name"]), str(content["text"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(
            f"Imported evidence cannot be read: {path}",
            why=f"{error}.",
            fix="Delete this file, then import what it came from again.",
        ) from None


def _refused(path: Path, why: str) -> StoreError:
    return StoreError(
        f"{path} cannot be written.", why=why, fix="Set ADVISOR_DATA_DIR to a directory that can be written."
    )
