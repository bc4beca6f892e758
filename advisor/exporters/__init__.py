"""A recommendation as the configuration of a program that serves models: one module per consumer.

A module has ``text(deployment) -> str``, and is named in EXPORTERS: nothing else is to be done for a new one. Where the
usual options do not fit it says so: ``TAKES_NAMES = True`` for a consumer with model files of its own, which takes
--target-name and --draft-name; ``TAKES_BUILD = False`` for one that no build of llama.cpp's programs is behind;
``STARTED_ELSEWHERE = True`` for one that starts llama-server where the user's PATH is not known, so by its whole path;
``SCRIPT = True`` for one whose text is a command for a shell.
``advisor.testing.exporters`` checks what every exporter owes.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from advisor import options
from advisor.errors import FileProblem, OptionError

if TYPE_CHECKING:
    from advisor.dialect import Dialect
    from advisor.engines.find_server import Program
    from advisor.exporters.deployment import Deployment
    from advisor.types import Recommendation

DEFAULT_CONSUMER = "llama-server"
EXPORTERS = {
    "llama-server": "llama_server",
    "llama-cli": "llama_cli",
    "llama-swap": "llama_swap",
    "docker-compose": "docker_compose",
    "systemd": "systemd",
    "lm-studio": "lm_studio",
    "mlx-lm": "mlx_lm",
    "vllm": "vllm",
    "llama-cpp-python": "llama_cpp_python",
    "json": "json_text",
}
"""The consumers by the name that ``advisor export --to`` takes, and their modules, imported when one is asked for."""


@dataclass(frozen=True)
class Exporter:
    """What writes for one consumer. See above."""

    text: Callable[[Deployment], str]
    takes_names: bool = False
    takes_build: bool = True
    started_elsewhere: bool = False
    script: bool = False


def exporter(name: str) -> Exporter:
    """Raises OptionError for a name that is none."""
    if name not in EXPORTERS:
        raise OptionError(f"--to: there is no export to {name!r}.", fix=f"Known are {', '.join(EXPORTERS)}.")
    module = importlib.import_module(f"{__name__}.{EXPORTERS[name]}")
    return Exporter(
        module.text,
        takes_names=getattr(module, "TAKES_NAMES", False),
        takes_build=getattr(module, "TAKES_BUILD", True),
        started_elsewhere=getattr(module, "STARTED_ELSEWHERE", False),
        script=getattr(module, "SCRIPT", False),
    )


def export(
    rec: Recommendation,
    to: str = DEFAULT_CONSUMER,
    *,
    llama_server: Path | None = None,
    llama_build: str | None = None,
    target_name: str | None = None,
    draft_name: str | None = None,
    windows: bool | None = None,
    next_best: bool = False,
    note: Callable[[str], None] = lambda _text: None,
) -> str:
    """The text for a consumer; see ``advisor.export``. ``windows``: for its shells, by default where this runs."""
    chosen = exporter(to)
    if llama_server is not None and llama_build is not None:
        raise OptionError("--llama-server and --llama-build exclude each other.", fix="Give one of them.")
    for name, value, takes in (
        ("--llama-server", llama_server, chosen.takes_build),
        ("--llama-build", llama_build, chosen.takes_build),
        ("--target-name", target_name, chosen.takes_names),
        ("--draft-name", draft_name, chosen.takes_names),
    ):
        if value and not takes:
            raise OptionError(f"{name} has no meaning for --to {to}.", fix="Leave it out.")
    from advisor.exporters.deployment import Deployment, SettingRefused

    if llama_server is None and llama_build is None:
        llama_server = _server_to_name(to, chosen, note)
    dialect, program = _speech(rec, llama_server, llama_build)
    on_windows = os.name == "nt" if windows is None else windows
    deployment = Deployment(rec, dialect, program, target_name or "", draft_name or "", on_windows)
    try:
        return chosen.text(deployment)
    except SettingRefused as refusal:
        from advisor.exporters.next_best import text_of_next_best, with_a_way_out

        if not next_best:
            raise with_a_way_out(chosen.text, deployment, refusal) from None
        return text_of_next_best(chosen.text, deployment, refusal, note)


def _server_to_name(to: str, chosen: Exporter, note: Callable[[str], None]) -> Path | None:
    """The llama-server of this machine, for what names it by its whole path; None where there is no binary. A note
    says so, unless a command that leaves the program to PATH may be for another machine."""
    if not chosen.started_elsewhere and to != DEFAULT_CONSUMER:
        return None
    program = _server_here()
    if program is not None and not program.packaged:
        return Path(program.argv[-1]) if chosen.started_elsewhere else None
    if program is not None or chosen.started_elsewhere:
        note(_missing(program))
    return None


def _server_here() -> Program | None:
    from advisor.engines.find_server import find_server

    try:
        return find_server()
    except FileProblem:
        return None


def _missing(packaged: Program | None) -> str:
    only = f" but the {packaged.name}" if packaged is not None else ""
    said = (
        f"There is no llama-server on this machine{only}. What is written says only llama-server: "
        "put its whole path there, or give --llama-server FILE."
    )
    return f"{said} {_how_it_is_started(packaged)}" if packaged is not None else said


def _how_it_is_started(packaged: Program) -> str:
    from advisor.engines.find_server import packaged_script

    script = packaged_script()
    if script is not None:
        return f"The packaged one takes the same flags, and is written with --llama-server {script}"
    return f"The packaged one takes the same flags: {' '.join(packaged.argv)}"


def _speech(rec: Recommendation, llama_server: Path | None, llama_build: str | None) -> tuple[Dialect, str]:
    """What the llama-server of the export speaks, and how it is started."""
    from advisor.dialect import dialect_of
    from advisor.exporters.llama_server import PROGRAM, measured_dialect

    if llama_server is not None:
        from advisor.engines.find_server import find_server, speech
        from advisor.engines.server_process import Deadlines

        program = find_server(str(llama_server))
        return speech(program, within_s=Deadlines().speak_s)[0], program.argv[-1]
    if llama_build is not None:
        return dialect_of(options.build_number(llama_build)), PROGRAM
    return measured_dialect(rec), PROGRAM
