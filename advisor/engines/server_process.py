"""One running llama-server: start it, wait until it is healthy, ask it, end it. Every wait has a deadline.

The server runs below a guard (``guard.py``) that ends it when this process dies. This module knows nothing about
models: it moves JSON and watches a process.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from advisor.engines.base import NO_LIMIT, Waiting
from advisor.engines.guard import OWN_GROUP, kill_tree
from advisor.engines.process import describe_exit, server_environment, tail
from advisor.errors import EngineCrash, EngineError, EngineRefusal, EngineTimeout, OutOfTime
from advisor.http_call import EndlessAnswer, call, error_message
from advisor.server_metrics import samples

LOOPBACK = "127.0.0.1"
LONGEST_ANSWER_BYTES = 64 << 20
LONGEST_LOG_BYTES = 4 << 20
POLL_S = 0.05
STARTS = 3  # a port that was free can be taken before the server has it


@dataclass(frozen=True)
class Deadlines:
    """``speak_s``: to print its version, and its options; a first start waits for a virus scanner or a GPU library.
    ``start_s`` is beside the time that reading the files may take. ``death_s``: how long a connection may be broken
    before the process is known to have ended."""

    speak_s: float = 60.0
    start_s: float = 120.0
    answer_s: float = 600.0
    death_s: float = 2.0
    stop_s: float = 10.0


class Server:
    """A llama-server that is healthy once ``start`` has returned it."""

    def __init__(
        self, command: Sequence[str], port: int, name: str, deadlines: Deadlines, waiting: Waiting = "as built"
    ) -> None:
        self.port, self._name, self._deadlines = port, name, deadlines
        self.peak_memory_bytes = 0
        self._last_words = ""
        self._exit: str | None = None
        self._stopped = False
        self._folder = tempfile.TemporaryDirectory(prefix="advisor-server-", ignore_cleanup_errors=True)
        path = Path(self._folder.name) / "log"
        with path.open("wb") as log:
            # a handle of its own, because the server writes where the other one stands
            self._log = path.open("rb")
            self._guard = subprocess.Popen(
                [sys.executable, "-P", "-m", "advisor.engines.guard", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=server_environment(waiting),
                **OWN_GROUP,
            )
        self._folder.cleanup()  # where open files can be removed nothing is left behind, whatever happens
        self._messages: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.pid = 0

    @staticmethod
    def start(
        program: Sequence[str],
        flags: Sequence[str],
        deadlines: Deadlines,
        *,
        load_s: float,
        within_s: float = NO_LIMIT,
        waiting: Waiting = "as built",
    ) -> Server:
        """A healthy server of this program. ``load_s`` is added to the deadline for the size of the files.

        Raises EngineCrash when it ends before it is healthy, EngineTimeout when it is not in time, EngineRefusal when
        it cannot be started, OutOfTime when ``within_s`` were too few.
        """
        patience_s = deadlines.start_s + load_s
        until = time.monotonic() + min(patience_s, within_s)
        for attempt in range(STARTS):
            port, name = _free_port(), f"advisor-{secrets.token_hex(8)}"
            command = [*program, *flags, "--host", LOOPBACK, "--port", str(port), "--alias", name]
            try:
                server = Server(command, port, name, deadlines, waiting)
            except OSError as error:
                raise EngineRefusal(
                    "llama-server could not be started.",
                    why=f"The system gave no process or no temporary file for it: {error}.",
                    fix="Free some memory, disk or processes.",
                ) from error
            try:
                server._wait_until_healthy(until)
            except EngineCrash as crash:
                server.stop()
                if attempt + 1 < STARTS and _port_was_busy(crash.log_tail):
                    continue
                raise
            except EngineTimeout:
                server.stop()
                if within_s < patience_s:
                    raise OutOfTime from None
                raise
            except BaseException:
                server.stop()
                raise
            return server
        raise AssertionError("the last start returns or raises")

    def post(self, path: str, body: object, within_s: float = NO_LIMIT) -> dict[str, Any]:
        """The answer to a request.

        Raises EngineCrash when the server dies, EngineTimeout after ``answer_s`` (the server is ended then),
        EngineRefusal when it answers with an error or with something else than JSON, OutOfTime after ``within_s``: the
        server lives, and gives the request up.
        """
        answer = self._call("POST", path, json.dumps(body).encode(), within_s)
        try:
            value = json.loads(answer)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            if self._ended(within_s=self._deadlines.death_s):  # in the midst of its answer
                raise self._crash(f"during {path}")
            raise self.nonsense(path, answer[:120].decode("utf-8", "replace"))
        return value

    def metrics(self, within_s: float = NO_LIMIT) -> dict[str, float]:
        """The samples of ``/metrics`` by name, the label included. Errors as ``post``."""
        try:
            return samples(self._call("GET", "/metrics", within_s=within_s).decode("utf-8", "replace"))
        except ValueError as error:
            raise self.nonsense("/metrics", str(error)[:120]) from None

    def nonsense(self, path: str, said: str) -> EngineRefusal:
        """The error for an answer that makes no sense."""
        return EngineRefusal(
            f"llama-server answered {path} with something that is not an answer.",
            why=f"It said: {said}",
            fix="Check that the program is llama.cpp's llama-server, and update it.",
        )

    def log_tail(self) -> str:
        if self._stopped:
            return self._last_words
        return tail(self._log)

    def log_line(self, pattern: re.Pattern[str]) -> str:
        """The first line of the log in which the pattern is found, "" where there is none."""
        if self._stopped:
            return ""
        self._log.seek(0)
        lines = self._log.read(LONGEST_LOG_BYTES).decode("utf-8", "replace").splitlines()
        return next((line[:300] for line in lines if pattern.search(line)), "")

    def note_memory(self) -> None:
        """Sampled between answers, where nothing is timed. llama.cpp gives no memory back while it serves."""
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(self.pid)
            family = [root, *root.children(recursive=True)]
            self.peak_memory_bytes = max(self.peak_memory_bytes, sum(one.memory_info().rss for one in family))

    def stop(self) -> None:
        """End it with its children. Can be called twice."""
        if self._stopped:
            return
        assert self._guard.stdin is not None
        with contextlib.suppress(OSError):
            self._guard.stdin.close()
        try:
            self._guard.wait(timeout=self._deadlines.stop_s)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        self._ended()  # so that its process id is known
        if self._guard.returncode and self.pid:  # the guard did not come to do it
            kill_tree(self.pid)
        self._reader.join(timeout=self._deadlines.stop_s)
        if self._guard.stdout is not None:
            self._guard.stdout.close()
        self._last_words = self.log_tail()
        self._stopped = True
        self._log.close()
        self._folder.cleanup()

    # -- start ---------------------------------------------------------------------------------------------------------

    def _wait_until_healthy(self, until: float) -> None:
        while True:
            if self._ended(within_s=POLL_S):
                raise self._crash("before it was ready")
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise EngineTimeout(
                    "llama-server did not become ready in time and was ended.",
                    why=self.log_tail(),
                    fix="Try a smaller context or model; if the disk is slow, ask again: the file is cached now.",
                )
            if self._is_healthy(left_s):
                self.note_memory()
                return

    def _is_healthy(self, left_s: float) -> bool:
        try:
            status, _ = _request(self.port, "GET", "/health", None, left_s)
            if status != 200:
                return False
            status, listing = _request(self.port, "GET", "/v1/models", None, left_s)
        except (OSError, http.client.HTTPException, EndlessAnswer):
            return False
        if self._name.encode() in listing:
            return True
        if status != 200 or self._ended(within_s=self._deadlines.death_s):
            return False  # its end is seen by the caller
        raise EngineRefusal(
            f"Another server answers on port {self.port}, or this is not llama.cpp's llama-server.",
            why=f"It does not go by the name it was started with: {listing[:120].decode('utf-8', 'replace')}",
            fix="Ask again, or check the program.",
        )

    # -- ask -----------------------------------------------------------------------------------------------------------

    def _call(self, method: str, path: str, body: bytes | None = None, within_s: float = NO_LIMIT) -> bytes:
        if within_s <= 0:
            raise OutOfTime
        try:
            status, answer = _request(self.port, method, path, body, min(within_s, self._deadlines.answer_s))
        except TimeoutError:
            if self._ended():
                raise self._crash(f"during {path}") from None
            if within_s < self._deadlines.answer_s:
                raise OutOfTime from None
            self.stop()
            raise EngineTimeout(
                f"llama-server did not answer {path} within {self._deadlines.answer_s:.0f} s and was ended.",
                why=self._last_words,
                fix="Try a smaller context or shorter answers; other drafts go on.",
            ) from None
        except (OSError, http.client.HTTPException, EndlessAnswer) as error:
            if self._ended(within_s=self._deadlines.death_s):
                raise self._crash(f"during {path}") from None
            raise self.nonsense(path, str(error) or type(error).__name__) from None
        if status != 200:
            raise EngineRefusal(
                f"llama-server refused {path} ({status}): {error_message(answer)}",
                why=self.log_tail(),
                fix="A smaller context or shorter prompts may help.",
            )
        return answer

    # -- the process ---------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        assert self._guard.stdout is not None
        for line in self._guard.stdout:
            with contextlib.suppress(ValueError):
                self._messages.put(json.loads(line))
        self._messages.put({"exit": None})  # the guard is gone, and with it all control of the server

    def _ended(self, within_s: float = 0.0) -> bool:
        """Whether the server has ended, told by the guard; waits at most ``within_s`` for that."""
        until = time.monotonic() + within_s
        while self._exit is None:
            left_s = until - time.monotonic()
            try:
                message = self._messages.get(timeout=left_s) if left_s > 0 else self._messages.get_nowait()
            except queue.Empty:
                return False
            if "error" in message:
                self._exit = str(message["error"])
            elif "exit" in message:
                code = message["exit"]
                self._exit = describe_exit(code) if code is not None else "its guard was killed"
            else:
                self.pid = int(message["pid"])
        return True

    def _crash(self, when: str) -> EngineError:
        self.stop()
        if self.pid == 0:
            return EngineRefusal(
                "llama-server could not be started.",
                why=f"{self._exit}. {self._last_words}".strip(),
                fix="Check the path given to --llama-server, and that the file can be run.",
            )
        name = self._exit or "unknown"
        return EngineCrash(
            f"llama-server died ({name}) {when}.",
            why=self._last_words,
            fix="The lines above are its own last words; other drafts go on.",
            signal_name=name,
            log_tail=self._last_words,
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _port_was_busy(log: str) -> bool:
    words = log.lower()
    return "couldn't bind" in words or "address already in use" in words


def _request(port: int, method: str, path: str, body: bytes | None, timeout_s: float) -> tuple[int, bytes]:
    """(status, content). TimeoutError after ``timeout_s`` all in all, however slowly bytes arrive."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=timeout_s)
    headers = {"Content-Type": "application/json"} if body else {}
    return call(
        connection, method, path, body=body, headers=headers, timeout_s=timeout_s, longest_bytes=LONGEST_ANSWER_BYTES
    )
