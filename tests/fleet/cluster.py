"""A Dask cluster of separate processes on loopback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


class Cluster:
    """A scheduler; workers come and go. ``inside``: what starts a command on the scheduler's host, where that is not
    this one."""

    def __init__(self, stack: ExitStack, folder: Path, inside: Sequence[str] = ()) -> None:
        self._stack, self._folder = stack, folder
        self._count = 0
        host = "0.0.0.0" if inside else "127.0.0.1"
        program = "distributed.cli.dask_scheduler"
        self.scheduler = self._started("-m", program, "--host", host, *NO_DASHBOARD, inside=inside)
        self.address = _line_with(self.scheduler, r"Scheduler at:\s+(tcp://\S+)")

    def seen_from(self, host: str) -> str:
        """The scheduler's address where its host is known by this one."""
        return f"tcp://{host}:{self.address.rsplit(':', 1)[1]}"

    def simulated_worker(
        self, kind: str = "sound", address: str = "", inside: Sequence[str] = ()
    ) -> subprocess.Popen[str]:
        worker = self._started("-m", "tests.fleet.simulated_worker", address or self.address, kind, inside=inside)
        _line_with(worker, "(ready)")
        return worker

    def worker(self, *options: str | Path) -> subprocess.Popen[str]:
        """`advisor worker` itself."""
        worker = self._started("-m", "advisor", "worker", "--scheduler", self.address, *map(str, options))
        _line_with(worker, "(Ready to replay)")
        return worker

    def _started(self, *arguments: str, inside: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Each process is on a machine of its own: it has its own timing lock."""
        self._count += 1
        self.locks_of_last = locks = self._folder / str(self._count)
        process = subprocess.Popen(
            [*inside, sys.executable, *arguments],
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "PYTHONUNBUFFERED": "1",
                "ADVISOR_LOCK_DIR": str(locks),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._stack.callback(_end, process)
        return process


NO_DASHBOARD = ("--port", "0", "--no-dashboard")


@contextmanager
def cluster(inside: Sequence[str] = ()) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(stack, Path(stack.enter_context(tempfile.TemporaryDirectory())), inside)


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
