"""What happened, written down as it ends by whoever did it: one JSON a line.

Workers tell what they were asked, the advisor what it has stored: so that nobody asks a store what it should contain.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

LEDGER = "CHAOS_LEDGER"
STORED = ".stored"  # behind the name of the ledger


@dataclass(frozen=True)
class Entry:
    """``advisor``: the process that asked. Seconds are those of the machine's monotonic clock."""

    advisor: int
    call: str
    asked: str
    models: str
    begin_s: float
    end_s: float


def write(entry: Entry) -> None:
    """In the worker."""
    _append("", asdict(entry))


def report(kind: str, key: str) -> None:
    """In the advisor: this measurement is stored."""
    _append(STORED, [kind, key])


def reported(path: Path) -> set[tuple[str, str]]:
    """(kind, key) of what the advisor has said that it stored."""
    stored = path.with_name(path.name + STORED)
    lines = stored.read_text().splitlines() if stored.exists() else []
    return {(kind, key) for kind, key in map(json.loads, lines)}


def _append(to: str, what: object) -> None:
    """One write, so that lines of several processes do not mix."""
    path = os.environ.get(LEDGER)
    if path:
        line = json.dumps(what).encode() + b"\n"
        descriptor = os.open(path + to, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


def read(path: Path) -> tuple[Entry, ...]:
    if not path.exists():
        return ()
    return tuple(Entry(**json.loads(line)) for line in path.read_text().splitlines())


def fingerprint(arguments: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest()[:16]
