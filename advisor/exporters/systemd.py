"""A recommendation as a systemd user unit: on loopback, started when it is healthy, started again when it fails.

The start is waited for, but no longer than the server lives: one that crashes while it loads has failed to start.

Quoting follows systemd.service(5) and systemd.syntax(7): C escapes in double quotes, %% for a percent sign, $$ for a
dollar.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import PurePosixPath

from advisor.engines.base import Role
from advisor.exporters.deployment import (
    Deployment,
    absolute,
    cannot,
    check_known,
    harmless,
    moved,
    remarks,
    slug,
    start_s,
)
from advisor.exporters.llama_server import by_flag, flags, reasons
from advisor.types import Model

CONSUMER = "systemd"
STARTED_ELSEWHERE = True
HOST, PORT = "127.0.0.1", 8080
WAIT = (
    f"until curl --fail --silent --output /dev/null http://{HOST}:{PORT}/health; "
    'do kill -0 "$MAINPID" || exit 1; sleep 1; done'
)
NOT_IN_A_PROGRAM = frozenset("\"'\\$\x7f")  # the path of a program must be free of them; arguments may have them
_PLAIN = re.compile(r"[A-Za-z0-9_./:=+,@-]+")


def text(deployment: Deployment) -> str:
    check_known(deployment, CONSUMER)
    rec = moved(deployment.rec, deployment.config, _with_whole_path)
    argv = flags(rec, deployment.config, deployment.dialect)
    argv += ["--host", HOST, "--port", str(PORT)]
    command = " \\\n    ".join(" ".join(flag) for flag in [[_program(deployment.program)], *_quoted_flags(argv)])
    lines = [
        *remarks(deployment.rec),
        *reasons(argv),
        *_about_program(deployment.program),
        "Save as ~/.config/systemd/user/llama-server.service, then:",
        "systemctl --user daemon-reload, systemctl --user enable --now llama-server",
    ]
    return "\n".join(
        [
            *(f"# {line}" for line in lines),
            "[Unit]",
            f"Description=llama-server with {slug(deployment.rec.target)}",
            "",
            "[Service]",
            "Type=exec",
            f"ExecStart={command}",
            "# It counts as started once it is healthy, and as failed once its process is gone.",
            f"ExecStartPost=/bin/sh -c {quote(WAIT)}",
            f"TimeoutStartSec={start_s(deployment)}",
            "Restart=on-failure",
            "RestartSec=5",
            "NoNewPrivileges=yes",
            "",
            "[Install]",
            "WantedBy=default.target",
            "",
        ]
    )


def _with_whole_path(model: Model, _role: Role) -> Model:
    if not model.path:
        return model
    path = absolute(model.path, CONSUMER)
    if not PurePosixPath(path).is_absolute():
        raise cannot(CONSUMER, f"the path {path}", why="systemd runs on Linux, where no file has such a path.")
    return replace(model, path=path)


def _quoted_flags(argv: list[str]) -> list[list[str]]:
    return [[quote(arg) for arg in flag] for flag in by_flag(["", *argv])][1:]


def _about_program(program: str) -> list[str]:
    if PurePosixPath(program).is_absolute():
        return []
    return [
        f"systemd looks for {harmless(program)} in folders of its own, /usr/local/bin and /usr/bin among them:",
        "write its whole path in ExecStart where it is elsewhere, or export with --llama-server FILE.",
    ]


def _program(program: str) -> str:
    if NOT_IN_A_PROGRAM & set(program) or any(ord(character) < 0x20 for character in program):
        raise cannot(CONSUMER, f"the program {program}", why="It starts none with quotes or the like in its path.")
    return quote(program)


def quote(arg: str) -> str:
    """The argument as one word of ExecStart, in ASCII whatever is in it."""
    if _PLAIN.fullmatch(arg):
        return arg
    escaped = "".join(_escaped(byte) for byte in os.fsencode(arg))
    return f'"{escaped}"'


def _escaped(byte: int) -> str:
    character = chr(byte)
    if character in '\\"':
        return f"\\{character}"
    if character in "%$":
        return character * 2
    return character if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"
