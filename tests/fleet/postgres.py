"""A PostgreSQL of the test's own, on a socket in a folder of its own; no port, no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SYSTEM_USER = "postgres"  # PostgreSQL does not run as root


def missing() -> str:
    """Why there can be none here, "" where there can."""
    if _program("initdb") is None or _program("pg_ctl") is None:
        return "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    if os.name == "nt":
        return "a socket in a folder is needed"
    if os.geteuid() == 0:
        import pwd

        try:
            pwd.getpwnam(SYSTEM_USER)
        except KeyError:
            return f"PostgreSQL does not run as root, and there is no user {SYSTEM_USER}"
    return ""


@contextmanager
def postgres() -> Iterator[str]:
    """The address of an empty database."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, SYSTEM_USER)
        data = folder / "data"
        _run("initdb", "-D", data, "-U", "advisor", "-A", "trust", "--no-sync")
        options = f"-k {folder} -c listen_addresses= -c fsync=off"
        _run("pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://advisor@/postgres?host={folder}"
        finally:
            _run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)


def _run(program: str, *arguments: str | Path) -> None:
    found = _program(program)
    assert found is not None
    user = SYSTEM_USER if os.geteuid() == 0 else None
    subprocess.run(
        [found, *map(str, arguments)],
        user=user,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        cwd="/",
    )


def _program(name: str) -> str | None:
    places = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    return next((found for place in [None, *places] if (found := shutil.which(name, path=place))), None)
