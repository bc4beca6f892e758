"""Imported profiles on disk: one file each, named by its digest, so that nothing is there twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from advisor.errors import FileProblem, StoreError
from advisor.host.files import write_atomically
from advisor.profiles.record import Profile, dumps, read

FOLDER = "profiles"


def path_of(digest: str, data_dir: Path) -> Path:
    return data_dir / FOLDER / f"{digest}.json"


def keep(profile: Profile, data_dir: Path) -> bool:
    """False when it is kept already; a file of its name that is damaged is replaced. StoreError when it cannot be
    written."""
    path = path_of(profile.digest, data_dir)
    if _is_sound(path):
        return False
    try:
        write_atomically(path, dumps(profile))
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written.",
            why=f"The system says: {error.strerror or error}.",
            fix="Set ADVISOR_DATA_DIR to a directory that can be written.",
        ) from None
    return True


def kept(data_dir: Path, note: Callable[[str], None]) -> list[Profile]:
    """Everything imported, the newest first. ``note`` is told of each file that cannot be used, and why."""
    profiles = []
    for path in sorted((data_dir / FOLDER).glob("*.json")):
        try:
            profiles.append(read(path))
        except FileProblem as error:
            note(f"An imported profile is left out: {error.what} {error.why} Delete {path}, or import it again.")
    return sorted(profiles, key=lambda one: (one.created_at, one.digest), reverse=True)


def find(digest: str, data_dir: Path) -> Profile | None:
    """The profile with this digest, None where it is not kept. FileProblem as ``read``."""
    path = path_of(digest, data_dir)
    try:
        return read(path) if path.exists() else None
    except OSError:  # not even whether it is there can be known
        return read(path)


def _is_sound(path: Path) -> bool:
    try:
        read(path)
    except FileProblem:
        return False
    return True
