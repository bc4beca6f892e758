"""This repository, and an older commit of it in a folder of its own whose package is run instead of this one's."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from advisor.errors import EngineError

ROOT = Path(__file__).parent.parent


def git(root: Path, *arguments: str) -> str:
    """What it prints. OSError where there is no git, CalledProcessError when it fails."""
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def has(root: Path, commit: str) -> bool:
    """A shallow clone has no old commits, a source distribution none at all."""
    try:
        git(root, "cat-file", "-e", f"{commit}^{{commit}}")
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@contextlib.contextmanager
def worktree(root: Path, commit: str) -> Iterator[Path]:
    """A folder with the commit, gone afterwards. EngineError where git makes none, or where the package that a Python
    in its ``environment`` imports is another one."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder).resolve() / commit
        try:
            git(root, "worktree", "add", "--detach", str(tree), commit)
        except subprocess.CalledProcessError as error:
            raise EngineError(f"git could not check out {commit}.", why=error.stderr.strip()) from None
        try:
            _check_package(tree)
            yield tree
        finally:
            git(root, "worktree", "remove", "--force", str(tree))


def environment(root: Path) -> dict[str, str]:
    """In which `python -P` and its children import the packages below ``root``, whatever is installed."""
    inherited = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *inherited])}


def _check_package(tree: Path) -> None:
    asked = [sys.executable, "-P", "-c", "import advisor; print(advisor.__file__)"]
    found = subprocess.run(asked, env=environment(tree), capture_output=True, text=True).stdout.strip()
    if not Path(found).resolve().is_relative_to(tree):
        raise EngineError(f"The advisor of {tree.name} cannot be asked: {found or 'none'} is imported instead.")
