"""The catalogue as this user has it: what is shipped, and the families and machines in the data directory."""

from __future__ import annotations

from pathlib import Path

from advisor.catalog.load import FOLDER, Catalog, load
from advisor.store import data_dir


def folder() -> Path:
    """Where a user's own families are."""
    return data_dir() / FOLDER


def user_catalog() -> Catalog:
    """Raises FileProblem for a file of the user's own that is no catalogue."""
    return load(folder())
