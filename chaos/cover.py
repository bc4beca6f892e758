"""Which of many files are worth keeping as seeds: those that make the header reader take a step no smaller one made."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import advisor.gguf
from advisor.errors import AdvisorError
from advisor.gguf import read_model

PACKAGE = str(Path(advisor.gguf.__file__).parent)

Step = tuple[str, int, int]
"""(file, line before, line)"""


def worth_keeping(files: Iterable[Path], known: Iterable[Path] = ()) -> Iterator[Path]:
    """The files, smallest first, that add a step to those of ``known`` and of the ones before."""
    seen: set[Step] = set()
    for path in known:
        seen |= steps(path)
    for path in sorted(files, key=lambda file: (file.stat().st_size, file.name)):
        taken = steps(path)
        if not taken <= seen:
            seen |= taken
            yield path


def steps(path: Path) -> frozenset[Step]:
    """What reading the file makes ``advisor.gguf`` do."""
    taken: set[Step] = set()
    before: dict[int, int] = {}

    def enter(frame: FrameType, _event: str, _argument: object) -> Any:
        before.pop(id(frame), None)  # of a frame that is gone
        return follow if frame.f_code.co_filename.startswith(PACKAGE) else None

    def follow(frame: FrameType, _event: str, _argument: object) -> Any:
        line = frame.f_lineno or 0
        taken.add((frame.f_code.co_filename, before.get(id(frame), 0), line))
        before[id(frame)] = line
        return follow

    traced = sys.gettrace()
    sys.settrace(enter)
    try:
        with contextlib.suppress(AdvisorError):
            read_model(path)
    finally:
        sys.settrace(traced)
    return frozenset(taken)
