"""The catalogue as this user has it: what is shipped, and the families and machines in the data directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from advisor.catalog.load import FOLDER, Catalog, load
from advisor.store import data_dir


def folder() -> Path:
    """Where a user's own families are."""
    return data_dir() / FOLDER


def user_catalog(note: Callable[[str], None] | None = None) -> Catalog:
    """``note`` is told of each file of the user's own that is left out, with line and reason. Raises FileProblem where
    their folder cannot be read."""
    catalog = load(folder())
    if note is not None:
        for problem in catalog.left_out:
            note(f"A file of your catalogue is left out: {problem.line}")
    return catalog
