"""The parts of a split model file: ``name-00001-of-00003.gguf`` and so on. Any part names them all."""

from __future__ import annotations

import re
from pathlib import Path

from advisor.errors import GGUFError

_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)


def all_parts(path: Path) -> tuple[Path, ...]:
    """All parts in order; a file that is not split is its own only part. GGUFError naming the first missing part."""
    match = _PART.fullmatch(path.name)
    if match is None or int(match["count"]) < 2:
        return (path,)
    count, suffix = int(match["count"]), path.name[-5:]
    parts = [path.with_name(f"{match['stem']}-{number:05d}-of-{count:05d}{suffix}") for number in range(1, count + 1)]
    for part in parts:
        if not part.exists():
            raise GGUFError(
                f"The model {match['stem']} is incomplete: {part.name} is missing.",
                why=f"It is split into {count} files and all of them are needed.",
                fix=f"Download {part.name} into {part.parent}.",
                field=part.name,
            )
    return tuple(parts)


def first_part(path: Path) -> Path:
    return all_parts(path)[0]


def model_stem(path: Path) -> str:
    """The file name without the extension and the part number."""
    match = _PART.fullmatch(path.name)
    return match["stem"] if match else path.stem
