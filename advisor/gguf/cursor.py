"""Reading positions in a file that may be damaged: nothing is read, allocated or walked beyond what is there."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from advisor.errors import FileProblem, GGUFError

MAX_STRINGS = 8_000_000  # in one file; the largest vocabularies have 1M tokens and merges together

SCALARS = {
    number: struct.Struct("<" + code)
    for number, code in {
        0: "B",
        1: "b",
        2: "H",
        3: "h",
        4: "I",
        5: "i",
        6: "f",
        7: "?",
        10: "Q",
        11: "q",
        12: "d",
    }.items()
}
U32, U64 = SCALARS[4], SCALARS[10]


def damaged(path: Path, why: str, *, offset: int = 0, field: str = "") -> GGUFError:
    where = f"{field or 'header'}, byte {offset}" if offset else field or "header"
    return GGUFError(
        f"The model file {path.name} cannot be read ({where}).",
        why=f"{why[0].upper()}{why[1:]}.",
        fix="Download or convert the file again; if it was split, all its parts must be complete.",
        offset=offset,
        field=field,
    )


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """The file as read-only memory."""
    try:
        with path.open("rb") as file:
            if not file.seek(0, 2):
                raise damaged(path, "the file is empty", field="magic")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
                yield memory
    except OSError as error:
        raise FileProblem(
            f"The model file {path} cannot be opened.",
            why=f"{error.strerror or error}.",
            fix="Check the path and that you may read it.",
        ) from None


class Cursor:
    """A position in a file that never passes its end: running out raises GGUFError with the field being read."""

    def __init__(self, path: Path, memory: mmap.mmap) -> None:
        self.path, self.memory, self.size = path, memory, len(memory)
        self.at = 0
        self.strings_left = MAX_STRINGS

    def error(self, why: str, field: str, offset: int | None = None) -> GGUFError:
        return damaged(self.path, why, offset=self.at if offset is None else offset, field=field)

    def need(self, length: int, field: str) -> None:
        left = self.size - self.at
        if length > left:
            raise self.error(f"the file ends here: {length} bytes are needed, {left} are left", field)

    def number(self, layout: struct.Struct, field: str) -> int | float | bool:
        self.need(layout.size, field)
        value: int | float | bool = layout.unpack_from(self.memory, self.at)[0]
        self.at += layout.size
        return value

    def unsigned(self, layout: struct.Struct, field: str) -> int:
        return int(self.number(layout, field))

    def raw_text(self, field: str, limit: int) -> bytes:
        length = self.unsigned(U64, field)
        if length > limit:
            raise self.error(f"a text of {length} bytes is longer than the {limit} allowed", field, self.at - 8)
        self.need(length, field)
        self.at += length
        return self.memory[self.at - length : self.at]

    def skip_strings(self, count: int, field: str) -> None:
        self.need(8 * count, field)
        if count > self.strings_left:
            raise self.error(f"more than {MAX_STRINGS} strings are implausible", field)
        self.strings_left -= count
        # Hot: 300k turns for a large vocabulary. The last 8 readable bytes bound every length prefix.
        start, read, memory, at, last = self.at, U64.unpack_from, self.memory, self.at, self.size - 8
        for _ in range(count):
            if at > last:
                break
            at += 8 + read(memory, at)[0]
        else:
            if at <= self.size:
                self.at = at
                return
        raise self._broken_string(start, field)

    def _broken_string(self, at: int, field: str) -> GGUFError:
        """Walks the strings from ``at`` again, to name the one that passes the end of the file."""
        index = 0
        while at <= self.size - 8:
            end = at + 8 + U64.unpack_from(self.memory, at)[0]
            if end > self.size:
                break
            index, at = index + 1, end
        return self.error("the file ends inside a string", f"{field}[{index}]", at)
