"""Where llama-server is, and what it speaks. A program is an argv: a binary, or the module that serves xllamacpp."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from advisor.dialect import Dialect, read_dialect
from advisor.engines.guard import OWN_GROUP, kill_tree
from advisor.engines.process import describe_exit, server_environment, tail
from advisor.errors import AdvisorError, EngineTimeout, FileProblem, OptionError
from advisor.paths import expanded
from advisor.types import Build, Device

PACKAGE = "xllamacpp"
PACKAGED = (sys.executable, "-P", "-m", "advisor.engines.packaged_server")
SCRIPT = "advisor-llama-server.exe" if os.name == "nt" else "advisor-llama-server"
LONGEST_HELP_BYTES = 1 << 20
DEVICE = re.compile(r"\s+(\S+): (.+) \((?P<total>\d+) MiB, (\d+) MiB free\)\s*$")
METAL_NAMES = ("MTL", "Metal")
LIBRARIES = re.compile(r"(lib)?(ggml|llama|mtmd|cuda|cublas).*\.(so|dylib|dll)[.\d]*", re.IGNORECASE)


@dataclass(frozen=True)
class Program:
    """``argv`` starts it; ``name`` is for people."""

    argv: tuple[str, ...]
    name: str

    @property
    def packaged(self) -> bool:
        return self.argv == PACKAGED


def find_server(asked: str = "", environment: Mapping[str, str] = os.environ) -> Program:
    """The binary that was asked for, else the first on PATH or in a usual place, else the one in a Python package.

    Raises FileProblem when there is none, or not where it was asked for.
    """
    name = "llama-server.exe" if os.name == "nt" else "llama-server"
    if asked:
        return _asked(expanded(asked), name)
    for folder in _folders(environment):
        if _can_run(folder / name):
            return _binary(folder / name)
    if importlib.util.find_spec(PACKAGE) is not None:
        return Program(PACKAGED, f"llama-server of the package {PACKAGE} {importlib.metadata.version(PACKAGE)}")
    raise FileProblem(
        "No llama-server was found.",
        why="It is neither on PATH nor in a usual place.",
        fix=f"Name it with --llama-server PATH, install llama.cpp, or run: {_install_command()}",
    )


def _install_command() -> str:
    """What installs the package that has a llama-server beside this copy of the advisor, a checkout or a wheel."""
    checkout = _checkout()
    wanted = ["-e", f"{checkout}[server]"] if checkout else ["draft-advisor[server]"]
    return shlex.join([sys.executable, "-m", "pip", "install", *wanted])


def _checkout() -> Path | None:
    """The folder that this copy is installed from with ``pip install -e``, None where it is not."""
    try:
        origin = json.loads(importlib.metadata.distribution("draft-advisor").read_text("direct_url.json") or "{}")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None
    if not origin.get("dir_info", {}).get("editable"):
        return None
    return Path(url2pathname(urlsplit(origin["url"]).path))


def packaged_script() -> Path | None:
    """The packaged server as a program to name, None where this installation has its scripts elsewhere."""
    script = Path(sysconfig.get_path("scripts")) / SCRIPT
    return script if _can_run(script) else None


def speech(program: Program, *, within_s: float) -> tuple[Dialect, Build]:
    """What the program speaks and which build it is, asked once for each state of its file.

    Raises OptionError when it is no llama-server or does not start here, EngineTimeout when it has not answered each
    of two questions ``within_s``.
    """
    return _speech(program, _digest(program), within_s)


def build_of(program: Program, *, within_s: float) -> str:
    """The build as the program itself names it. Raises as speech."""
    named = re.search(r"version: (.+)", _said(program, "--version", within_s))
    return named[1].strip() if named else "of unknown build"


def devices(program: Program, *, within_s: float) -> tuple[Device, ...] | None:
    """What the program can offload to, by ``--list-devices``; None where it cannot say."""
    try:
        said = _said(program, "--list-devices", within_s)
    except AdvisorError:
        return None
    if "Available devices" not in said:
        return None
    found = (DEVICE.match(line) for line in said.splitlines())
    return tuple(_device(*match.groups()) for match in found if match and int(match["total"]))


def _device(name: str, description: str, total: str, free: str) -> Device:
    unified = name.startswith(METAL_NAMES)
    return Device(name, description, "igpu" if unified else "gpu", int(total) << 20, int(free) << 20, unified)


@functools.cache
def _speech(program: Program, digest: str, within_s: float) -> tuple[Dialect, Build]:
    version = _said(program, "--version", within_s)
    dialect = read_dialect(version, _said(program, "--help", within_s))
    named = re.search(r"version: (\S+)", version)
    own = dialect.build and not dialect.borrowed
    label = f"b{dialect.build}" if own else (named[1] if named else "unknown")
    return dialect, Build("llama-server", label, dialect.build, digest)


def _asked(path: Path, name: str) -> Program:
    if path.is_dir():
        path = path / name
    if not path.exists():
        raise FileProblem(f"There is no llama-server at {path}.", fix="Check the path given to --llama-server.")
    if not _can_run(path):
        raise FileProblem(f"{path} cannot be run.", why="It is not an executable file.", fix=f"Try: chmod +x {path}")
    return _binary(path)


def _binary(path: Path) -> Program:
    return Program((str(path.absolute()),), str(path))


def _can_run(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _folders(environment: Mapping[str, str]) -> Iterator[Path]:
    """PATH first. Its relative entries are left out: the folder the user is in must not decide what is run."""
    listed = [Path(part) for part in environment.get("PATH", "").split(os.pathsep) if part]
    yield from (folder for folder in listed if folder.is_absolute())
    home = Path(environment.get("HOME") or environment.get("USERPROFILE") or Path.home())
    for folder in ("/opt/homebrew/bin", "/usr/local/bin", "/home/linuxbrew/.linuxbrew/bin", "/snap/bin"):
        yield Path(folder)
    for folder in (".local/bin", "llama.cpp/build/bin", "llama.cpp/build/bin/Release", "llama.cpp"):
        yield home / folder
    if "LOCALAPPDATA" in environment:
        yield Path(environment["LOCALAPPDATA"]) / "Microsoft" / "WinGet" / "Links"
    if "ProgramFiles" in environment:
        yield Path(environment["ProgramFiles"]) / "llama.cpp"


def _said(program: Program, flag: str, within_s: float) -> str:
    """What it prints on stdout and stderr; builds differ in which one they use, and in how they end after it."""
    with tempfile.TemporaryFile() as output:  # a pipe would be kept open by whatever the program leaves running
        try:
            asked = subprocess.Popen(
                [*program.argv, flag],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=server_environment(),
                **OWN_GROUP,
            )
        except OSError as error:
            raise OptionError(f"{program.name} cannot be run.", why=str(error), fix=_CHECK) from None
        try:
            code = asked.wait(timeout=within_s)
        except BaseException as error:  # also Ctrl-C; a script around a server has started more than itself
            kill_tree(asked.pid)
            asked.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise EngineTimeout(f"{program.name} did not answer {flag} within {within_s:g} s.", fix=_CHECK) from None
        if code:
            raise OptionError(
                f"{program.name} does not start on this machine ({describe_exit(code)}).", why=tail(output), fix=_CHECK
            )
        output.seek(0)
        return output.read(LONGEST_HELP_BYTES).decode("utf-8", "replace")


_CHECK = "Check that the program is llama.cpp's llama-server, built for this machine."


def _digest(program: Program) -> str:
    """Names, sizes and times of the binary and of the libraries beside it: a rebuilt one is another build."""
    try:
        facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in _files(program)]
    except OSError as error:
        raise AdvisorError(f"{program.name} cannot be read.", why=str(error)) from None
    return hashlib.sha256(repr((program.argv, facts)).encode()).hexdigest()[:10]


def _files(program: Program) -> list[Path]:
    if program.packaged:
        spec = importlib.util.find_spec(PACKAGE)
        folder = Path(spec.origin).parent if spec and spec.origin else Path()
        return sorted(folder.glob(f"{PACKAGE}*"))
    binary = Path(program.argv[-1])
    return [binary, *sorted(file for file in binary.parent.iterdir() if LIBRARIES.fullmatch(file.name))]
