"""What the functions share: paths as they may be given, the engine that is meant, the folder where things are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.errors import OptionError
from advisor.paths import expanded
from advisor.types import Workload

if TYPE_CHECKING:
    from advisor.engines import StartEngine

PathText = str | PathLike[str]
Note = Callable[[str], None]


def silent(_text: str) -> None:
    """The Note of who wants none."""


def one_path(path: PathText | None) -> Path | None:
    return None if path is None else expanded(path)


def many_paths(paths: Sequence[PathText], name: str) -> list[Path]:
    """``name``: of the argument, for the OptionError where it is one path."""
    if isinstance(paths, str | PathLike):
        raise OptionError(f"{name} is one path, not a list of paths.", fix=f"Write {name}=[{str(paths)!r}].")
    return [expanded(path) for path in paths]


def one_workload(workload: PathText | Workload | None) -> Path | Workload | None:
    return workload if workload is None or isinstance(workload, Workload) else Path(workload)


def one_engine(engine: str | StartEngine, llama_server: PathText | None) -> tuple[StartEngine | None, str | None]:
    """What starts the engine that looks inside models, None for the usual one, and the server that runs, if any."""
    from advisor.engines import ENGINES, RUNNERS

    if llama_server is not None:
        return None, str(llama_server)
    if callable(engine):
        return engine, None
    if engine in RUNNERS:
        return None, ""
    if engine not in ENGINES:
        raise OptionError(f"--engine: {engine!r} is none.", fix=f"Known are {', '.join((*ENGINES, *RUNNERS))}.")
    return ENGINES[engine], None


@contextmanager
def kept_in(store: PathText | None) -> Iterator[None]:
    """Everything is kept in the folder ``store`` while this is open; None: in the usual one."""
    from advisor import store as stores

    with stores.kept_in(one_path(store)):
        yield
