"""Between the advisor and a server: starts it, and ends it with all its children when the advisor is gone.

Run as ``python -m advisor.engines.guard PROGRAM ARGUMENTS``. Writes {"pid": ...} when the program has started and
{"exit": ...} when it has ended, one JSON a line, or {"error": ...} when it cannot be started. The end of stdin is the
order to end it: that comes when the advisor asks for it, and also when the advisor was killed, on every system.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import psutil

REAP_S = 5.0
# Ctrl-C in the terminal is the advisor's to handle: neither the guard nor the server gets it.
OWN_GROUP: dict[str, Any] = (
    {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    if os.name == "nt"
    else {"start_new_session": True}
)


def kill_tree(pid: int) -> None:
    """End a process started with OWN_GROUP and every process it started, also those that lost their parent."""
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        family = [*root.children(recursive=True), root]
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(family, timeout=REAP_S)
    if os.name != "nt":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def main(command: list[str]) -> None:
    try:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, **OWN_GROUP)
    except OSError as error:
        _say({"error": str(error)})
        return
    threading.Thread(target=_end_with_stdin, args=(server.pid,), daemon=True).start()
    _say({"pid": server.pid})
    code = server.wait()
    kill_tree(server.pid)
    _say({"exit": code})


def _end_with_stdin(pid: int) -> None:
    while os.read(0, 1024):  # not through sys.stdin: its lock would be held while the interpreter ends
        pass
    kill_tree(pid)


def _say(message: dict[str, object]) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
