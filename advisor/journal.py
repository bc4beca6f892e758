"""The file in which a search keeps its trials: one JSON a line, appended. Made sound again after a crash.

A process killed in the midst of a line leaves a part of it, and the next line would be written behind that part: the
whole file could then not be read. The caller must be the only one that writes (the timing lock).

This module knows nothing about what the lines mean.
"""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path


def mended(path: Path) -> Path | None:
    """Cuts off a last line that was not finished. A file that is damaged elsewhere is renamed: the new name.

    Raises OSError.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    whole = content[: content.rfind(b"\n") + 1]
    if not _is_sound(whole):
        return kept_aside(path)
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    return None


def kept_aside(path: Path) -> Path:
    """Renames the file to a name that nothing has, and returns it. Raises OSError."""
    names = (path.with_name(f"{path.name}.kept-{number}") for number in itertools.count(1))
    kept = next(name for name in names if not name.exists())
    path.rename(kept)
    return kept


def _is_sound(lines: bytes) -> bool:
    try:
        return all(isinstance(json.loads(line), dict) for line in lines.splitlines())
    except ValueError:
        return False
