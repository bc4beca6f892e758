"""Paths as people write them."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from advisor.errors import OptionError


def expanded(path: str | PathLike[str]) -> Path:
    """With ~ as a home folder. OptionError where it is the home of somebody who is not known here."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise OptionError(
            f"{path}: the home folder {Path(path).parts[0]} is not known.", fix="Write the whole path, or another user."
        ) from None
