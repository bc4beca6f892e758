"""A Dask cluster of separate processes on loopback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


class Cluster:
    """A scheduler; workers come and go."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.scheduler = self._started("-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", *NO_DASHBOARD)
        self.address = _line_with(self.scheduler, r"Scheduler at:\s+(tcp://\S+)")

    def simulated_worker(self, kind: str = "sound") -> subprocess.Popen[str]:
        worker = self._started("-m", "tests.fleet.simulated_worker", self.address, kind)
        _line_with(worker, "(ready)")
        return worker

    def worker(self, *options: str | Path) -> subprocess.Popen[str]:
        """`advisor worker` itself."""
        worker = self._started("-m", "advisor", "worker", "--scheduler", self.address, *map(str, options))
        _line_with(worker, "(Ready to replay)")
        return worker

    def _started(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._stack.callback(_end, process)
        return process


NO_DASHBOARD = ("--port", "0", "--no-dashboard")


@contextmanager
def cluster() -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(stack)


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    """Until the process prints this word."""
    _line_with(process, f"({word})")


def _line_with(process: subprocess.Popen[str], pattern: str) -> str:
    seen = []
    for line in process.stdout or ():
        seen.append(line)
        found = re.search(pattern, line)
        if found:
            return found[1]
    raise AssertionError(f"{process.args} ended with {process.wait()}:\n{''.join(seen)}")


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
