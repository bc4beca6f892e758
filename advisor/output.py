"""Where a report goes: to standard output, or whole into a file."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from advisor.errors import FileProblem, OptionError
from advisor.paths import expanded

if TYPE_CHECKING:
    from rich.console import Console

PIPED_WIDTH = 100
READABLE, READ_TO_RUN = 0o444, 2  # the bits of a mode, and how far right of them those that let it run are


def console_for(stream: TextIO) -> Console:
    """A console as wide as the terminal; a pipe or a file gets a fixed width, so that it does not depend on the day."""
    from rich.console import Console

    class ReportConsole(Console):
        def on_broken_pipe(self) -> None:
            raise  # to deliver, which ends quietly; rich would exit with 1

    width = None if stream.isatty() else PIPED_WIDTH
    return ReportConsole(file=stream, width=width, highlight=False, emoji=False, markup=False)


def deliver(write: Callable[[TextIO], None], output: Path | None, *, runs: bool = False) -> None:
    """``runs``: a file that is written is a program, and can be run by whoever can read it."""
    if output is not None:
        _write_file(write, expanded(output), runs)
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a model's name may not fit the terminal's code page
    try:
        write(sys.stdout)
        sys.stdout.flush()
    except OSError as error:
        _abandon(sys.stdout)
        if error.errno not in (errno.EPIPE, errno.EINVAL):  # Windows says EINVAL for a closed pipe
            raise FileProblem("The report cannot be written to standard output.", why=f"{error}.") from None


def _abandon(stream: TextIO) -> None:
    """Send what is still buffered nowhere, or Python complains about it when it exits."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def check_output(path: Path | None, *, option: str = "--output") -> None:
    """Find out before the measurement, not after it, that the report cannot be written."""
    if path is None:
        return
    path = expanded(path)
    if path.is_dir():
        raise OptionError(f"{option}: {path} is a directory.", fix="Name a file in it.")
    if not path.parent.is_dir():
        raise OptionError(f"{option}: the folder {path.parent} does not exist.", fix="Create it first.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise OptionError(f"{option}: {path} cannot be written.", fix="Check its permissions, or name another file.")


def is_special(path: Path) -> bool:
    """Whether it is a device or a pipe, which must not be replaced."""
    path = expanded(path)
    return path.exists() and not path.is_file()


def _write_file(write: Callable[[TextIO], None], path: Path, runs: bool) -> None:
    text = io.StringIO()
    write(text)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        if is_special(path):
            path.write_text(text.getvalue(), encoding="utf-8")
            return
        partial.write_text(text.getvalue(), encoding="utf-8")
        if runs:
            mode = stat.S_IMODE(partial.stat().st_mode)
            partial.chmod(mode | (mode & READABLE) >> READ_TO_RUN)
        partial.replace(path.resolve())
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise FileProblem(f"The report cannot be written to {path}.", why=f"{error}.") from None
