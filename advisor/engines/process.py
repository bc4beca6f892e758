"""The parent's side of a worker process: start, ask with a time limit, and turn its death into a typed error.

This module knows nothing about models: it moves messages and watches a process.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any

from advisor.engines.base import NO_LIMIT, Waiting
from advisor.engines.frames import read_frame, write_frame
from advisor.errors import EngineCrash, EngineRefusal, EngineTimeout, OutOfTime

LOG_TAIL_LINES = 12
REAP_S = 5.0  # for a process that has been told to leave
LEAST_S = 1e-6  # no time at all is some to a worker, whose clock begins when it reads
# Deaths by the code's own fault. A kill from outside (out of memory) says nothing about kernels. Windows reports an
# access violation and an illegal instruction as exit codes.
CODE_CRASHES = {"SIGSEGV", "SIGILL", "SIGBUS", "SIGABRT", "SIGFPE", "exit code 3221225477", "exit code 3221225501"}
# What lets the threads of an operation sleep while they wait for the last of them: the words of every OpenMP, and those
# of LLVM's, which sleeps only so. A build without OpenMP has its own threads, which always spin.
ASLEEP = {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}
# llama-server reads its options from these too: what the user has set for a server of their own must not reach ours.
FOREIGN_SETTINGS = ("LLAMA_ARG_", "LLAMA_API_KEY")
LOAD_BYTES_PER_S = 20e6  # a slow disk: the time limit of a load grows with the file
WORKER_MODULE = "advisor.engines.worker"


class WorkerProcess:
    """One child process. Started by the first ``ask``; after a crash or a timeout it is gone and ``ask`` raises."""

    def __init__(self, module: str = WORKER_MODULE, waiting: Waiting = "as built") -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        self._last_words = ""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],  # -P: nothing is imported from the folder the user is in
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=child_environment(waiting),
        )
        self._replies: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(
        self, call: str, arguments: dict[str, Any], *, timeout_s: float, within_s: float = NO_LIMIT
    ) -> dict[str, Any]:
        """The reply to one request.

        Raises EngineCrash when the process dies, EngineTimeout after ``timeout_s`` (the process is killed then),
        EngineRefusal when the worker lives but says no, OutOfTime when it says that ``within_s`` were too few.
        """
        overdue = threading.Event()
        # A stopped process does not even read: writing to it must end as well.
        limit = threading.Timer(timeout_s, self._stop, (overdue,))
        limit.daemon = True
        limit.start()
        try:
            told = {} if within_s == NO_LIMIT else {"within_s": max(within_s, LEAST_S)}
            reply = self._exchange({"call": call, "arguments": arguments, **told}, timeout_s + REAP_S)
        finally:
            limit.cancel()
        if reply is None and overdue.is_set():
            self.kill()
            raise EngineTimeout(
                f"The engine did not finish '{call}' within {timeout_s:.0f} s and was stopped.",
                why=self._log_tail(),
                fix="Try a smaller context or fewer threads; other drafts go on.",
            )
        if reply is None:
            raise self._crash(call)
        if "late" in reply:
            raise OutOfTime
        if "error" in reply:
            raise EngineRefusal(f"The engine refused '{call}': {reply['error']}.", why=self._log_tail())
        result: dict[str, Any] = reply["ok"]
        return result

    def _exchange(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any] | None:
        """The reply; None when there will be none."""
        assert self._process.stdin is not None
        try:
            write_frame(self._process.stdin, request)
            return self._replies.get(timeout=timeout_s)
        except (OSError, queue.Empty):
            return None

    def _stop(self, overdue: threading.Event) -> None:
        overdue.set()
        self._process.kill()

    def kill(self) -> None:
        self._process.kill()
        self._reap()

    def close(self) -> None:
        """Ask the worker to leave; make it leave when it does not."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(timeout=REAP_S)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
        self._reap()

    def _reap(self) -> None:
        self._process.wait()
        self._reader.join(timeout=REAP_S)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # unsent bytes of a dead pipe
                    stream.close()
        if not self._log.closed:
            self._last_words = tail(self._log)
            self._log.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while True:
            try:
                reply = read_frame(self._process.stdout)
            except (OSError, ValueError):
                reply = None
            self._replies.put(reply)
            if reply is None:
                return

    def _crash(self, call: str) -> EngineCrash:
        try:
            self._process.wait(timeout=REAP_S)
        except subprocess.TimeoutExpired:  # it lives, and what it writes is no answer
            self._process.kill()
        self._reap()
        name = describe_exit(self._process.returncode)
        return EngineCrash(
            f"The engine process died ({name}) during '{call}'.",
            why=self._log_tail(),
            fix="If it happens with every model, reinstall llama-cpp-python for this machine.",
            signal_name=name,
            log_tail=self._log_tail(),
        )

    def _log_tail(self) -> str:
        return self._last_words if self._log.closed else tail(self._log)


def describe_exit(returncode: int) -> str:
    """ "SIGSEGV" for a process that a signal ended, else "exit code N"."""
    if returncode < 0:
        try:
            return signal.Signals(-returncode).name
        except ValueError:
            return f"signal {-returncode}"
    return f"exit code {returncode}"


def child_environment(waiting: Waiting = "as built") -> dict[str, str]:
    """The environment of a child that runs a module of this package, from wherever this one was imported. When
    llama.cpp aborts, the last words are its reason, not the stack that a debugger would print after it."""
    inherited = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    package_root = str(Path(__file__).resolve().parents[2])
    return {
        **os.environ,
        **(ASLEEP if waiting == "asleep" else {}),
        "PYTHONPATH": os.pathsep.join([package_root, *inherited]),
        "GGML_NO_BACKTRACE": "1",
    }


def server_environment(waiting: Waiting = "as built") -> dict[str, str]:
    """As ``child_environment``, without the settings that a user has made for a llama-server of their own."""
    return {name: value for name, value in child_environment(waiting).items() if not name.startswith(FOREIGN_SETTINGS)}


def tail(log: IO[bytes]) -> str:
    """The last lines of a log, each cut to what a message can hold."""
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - 8192))
    lines = log.read().decode("utf-8", "replace").splitlines()
    return "\n".join(line[:300] for line in lines[-LOG_TAIL_LINES:])
