"""Memory of this very process: the most it held since a moment, and a limit on what a piece of work may add."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

_FORGET_THE_PEAK = "5"  # written to clear_refs; see proc(5)


def forget_peak() -> None:
    """From now on ``peak_bytes`` counts anew, where the system can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text(_FORGET_THE_PEAK)


def peak_bytes() -> int:
    """The most resident memory: since ``forget_peak`` on Linux, ever on Windows; on macOS what is resident now."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        if found:
            return int(found[1]) * 1024
    use = psutil.Process().memory_info()
    return int(getattr(use, "peak_wset", use.rss))


def with_peak(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``work`` replies, and the most this process held meanwhile."""
    forget_peak()
    reply = work()
    return {**reply, "peak_bytes": peak_bytes()}


@contextmanager
def at_most_more(extra_bytes: int) -> Iterator[None]:
    """Inside, taking more than ``extra_bytes`` of address space is a MemoryError. Linux only; elsewhere no limit."""
    if sys.platform != "linux":
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = psutil.Process().memory_info().vms + extra_bytes
    if before[0] != resource.RLIM_INFINITY:
        limit = min(limit, before[0])
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
