"""Text of unknown origin (file names, model names, prompts) made safe to show on a terminal.

A model file may call itself "\\x1b[2J" or hide a right-to-left override in its name. What cannot be printed is written
as an escape, so that the reader sees it and the terminal does not obey it.
"""

from __future__ import annotations

import unicodedata

# control, format (bidirectional overrides, zero-width), surrogate, line and paragraph separator
_NOT_PRINTABLE = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))


def is_printable(character: str) -> bool:
    return unicodedata.category(character) not in _NOT_PRINTABLE


def visible(text: str, *, keep_newlines: bool = False) -> str:
    """The text with every character that a terminal would act on, or not show, replaced by its escape."""
    return "".join(
        character if is_printable(character) or (keep_newlines and character == "\n") else _escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
