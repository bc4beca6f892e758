"""What workers were asked, written down by the workers themselves as it ends: one JSON a line."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

LEDGER = "CHAOS_LEDGER"


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
    """In the worker: one write, so that lines of several workers do not mix."""
    path = os.environ.get(LEDGER)
    if path:
        line = json.dumps(asdict(entry)).encode() + b"\n"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
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
