"""Faults that happen inside a worker, at a stage and to a model of choice, a number of times.

They travel to the worker in the environment; how often each has happened is counted in a file, because the worker that
counts does not live to tell.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

FAULTS, FOLDER = "CHAOS_FAULTS", "CHAOS_FOLDER"

STAGES = {
    "load": "open",
    "generate": "answer",
    "score": "score",
    "time": "time_decodes",
    "speculative run": "speculate",
}
"""The words of the promise -> the worker's call."""

KINDS = ("SIGKILL", "SIGSEGV", "SIGABRT", "hang", "memory")
ALWAYS = -1
STEP_BYTES = 16 << 20
MEMORY_LEFT_BYTES = 64 << 20


@dataclass(frozen=True)
class Fault:
    """``model``: the stem of the file of the draft (or of the target where no draft is loaded), "" for any.
    ``times``: how often, ALWAYS for each time."""

    call: str
    kind: str
    model: str = ""
    times: int = ALWAYS
    with_extra_buffers_only: bool = False


def variables(folder: Path, *faults: Fault) -> dict[str, str]:
    """The environment in which these faults happen. ``folder`` must exist."""
    return {FAULTS: json.dumps([asdict(fault) for fault in faults]), FOLDER: str(folder)}


def strike(call: str, model: str, *, extra_buffers: bool = True) -> None:
    """In the worker: let what is due happen."""
    for number, raw in enumerate(json.loads(os.environ.get(FAULTS, "[]"))):
        fault = Fault(**raw)
        spared = fault.with_extra_buffers_only and not extra_buffers
        if fault.call == call and fault.model in ("", model) and not spared and _is_due(fault, number):
            _happen(fault.kind)


def happened(folder: Path, number: int = 0) -> int:
    """How often the fault has struck."""
    path = folder / f"fault-{number}"
    return path.stat().st_size if path.exists() else 0


def _is_due(fault: Fault, number: int) -> bool:
    folder = Path(os.environ[FOLDER])
    if fault.times != ALWAYS and happened(folder, number) >= fault.times:
        return False
    with (folder / f"fault-{number}").open("ab") as count:
        count.write(b"x")
    return True


def _happen(kind: str) -> None:
    """Does not return. "memory" raises MemoryError, as Python does at a limit."""
    if kind == "memory":
        _run_out_of_memory()
    if kind != "hang":
        os.kill(os.getpid(), signal.Signals[kind])
    threading.Event().wait()  # also the moment that a signal to oneself may take


def _run_out_of_memory() -> None:
    """What the kernel's own killer does is SIGKILL; this is the other way it happens, at a limit of the process."""
    import resource

    import psutil

    limit = psutil.Process().memory_info().vms + MEMORY_LEFT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    taken = []
    while True:
        taken.append(bytearray(STEP_BYTES))
