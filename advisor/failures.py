"""How a command fails: as a message on standard error and an exit code, never as a traceback."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from advisor.errors import AdvisorError, EngineCrash
from advisor.printable import visible

LOG_TAIL_LINES = 10


@contextmanager
def errors_for_people() -> Iterator[None]:
    """Every way a command can fail, or be told to end, as a message on standard error and an exit code."""
    try:
        with ended_like_ctrl_c():
            yield
    except AdvisorError as error:
        _say_error(error)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        say("Interrupted.")
        raise typer.Exit(130) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        say(f"error: {type(error).__name__}, which is a defect of advisor; the details are in {_log_traceback()}")
        raise typer.Exit(3) from None


@contextmanager
def ended_like_ctrl_c() -> Iterator[None]:
    """While this is open a polite order to end (SIGTERM of a service manager or `timeout`; Ctrl-Break on Windows, which
    knows no other) is what Ctrl-C is: the best so far is printed, and nothing is left running."""
    is_main = threading.current_thread() is threading.main_thread()  # no other may say what a signal does
    names = [name for name in ("SIGTERM", "SIGBREAK") if hasattr(signal, name)] if is_main else []

    def end(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {name: signal.signal(getattr(signal, name), end) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def say(text: str) -> None:
    typer.echo(visible(text, keep_newlines=True), err=True)


def say_note(text: str) -> None:
    say(f"note: {text}")


def _say_error(error: AdvisorError) -> None:
    say("\n".join(part for part in (f"error: {error.what}", error.why, error.fix) if part))
    if isinstance(error, EngineCrash) and error.log_tail:
        for line in error.log_tail.splitlines()[-LOG_TAIL_LINES:]:
            say(f"  | {line}")


def _log_traceback() -> Path:
    """Append the current exception to the log in the data directory, or in a temporary one where that fails."""
    import tempfile
    import traceback
    from datetime import UTC, datetime

    entry = "\n".join(
        [datetime.now(UTC).isoformat(), f"advisor {version_of('draft-advisor')}", traceback.format_exc(), ""]
    )
    for directory in (_data_dir, lambda: Path(tempfile.gettempdir())):
        try:
            path = directory() / "errors.log"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8", errors="backslashreplace") as log:
                log.write(entry)
            return path
        except Exception:  # the store may be what is broken; the next folder is tried  # nosec B112
            continue
    return Path(os.devnull)


def _data_dir() -> Path:
    from advisor import store

    return store.data_dir()


def version_of(distribution: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "(not installed)"
