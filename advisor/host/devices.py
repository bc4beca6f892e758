"""The compute devices of this machine as ggml lists them, asked in a child process.

Drivers hang and native code crashes; neither may take the advisor with it. ``list_devices`` starts
``python -m advisor.host.devices``, which loads the libraries that llama-cpp-python ships, prints what they know as
one JSON object and ends. A listing that fails is a listing without devices and with a note.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advisor.types import Device, DeviceKind

# enum ggml_backend_dev_type in ggml/include/ggml-backend.h. A "meta" device (4) only wraps others: it is not listed.
_CPU, _GPU, _INTEGRATED, _ACCELERATOR = range(4)
_KIND_OF_TYPE: dict[int, DeviceKind] = {_CPU: "cpu", _GPU: "gpu", _INTEGRATED: "igpu", _ACCELERATOR: "accelerator"}
_METAL_NAMES = ("MTL", "Metal")
_TIME_LIMIT_S = 30.0  # a first CUDA start on a cold machine takes several seconds


@dataclass(frozen=True)
class Listing:
    """``system_info`` is llama_print_system_info(). ``note`` is a sentence for people when something went wrong."""

    devices: tuple[Device, ...] = ()
    system_info: str = ""
    note: str = ""


def list_devices(*, command: Sequence[str] = (), limit_s: float = _TIME_LIMIT_S) -> Listing:
    """Asks a child process for the devices. Never raises for what happens in the child.

    ``command`` replaces the child, for tests.
    """
    asked = list(command) or [sys.executable, "-P", "-m", "advisor.host.devices"]
    try:
        child = subprocess.run(
            asked, capture_output=True, stdin=subprocess.DEVNULL, timeout=limit_s, env=_environment(), check=False
        )
    except subprocess.TimeoutExpired:
        return _nothing(f"the process that asks ggml for it gave no answer in {limit_s:.0f} s")
    except OSError as error:
        return _nothing(f"the process that asks ggml for it did not start ({error})")
    if child.returncode != 0:
        return _nothing(f"the process that asks ggml for it ended with {_ending(child.returncode)}")
    try:
        return parse_listing(json.loads(child.stdout.decode("utf-8", errors="replace")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return _nothing("the answer of the process that asks ggml for it makes no sense")


def parse_listing(report: Mapping[str, Any]) -> Listing:
    """A child's report -> Listing. KeyError, TypeError or ValueError where it is not one."""
    devices = tuple(
        Device(
            name=str(entry["name"]),
            description=str(entry["description"]),
            kind=_KIND_OF_TYPE[entry["type"]],
            memory_total_bytes=int(entry["total_bytes"]),
            memory_free_bytes=int(entry["free_bytes"]),
            unified=_shares_host_memory(entry),
        )
        for entry in report["devices"]
        if entry["type"] in _KIND_OF_TYPE
    )
    missing = _without_devices(str(report["missing"])) if report.get("missing") else ""
    return Listing(devices=devices, system_info=str(report["system_info"]), note=missing)


def main() -> None:
    """The child: one JSON object on standard output, whatever the drivers print there."""
    answer = os.dup(1)
    os.dup2(2, 1)  # libraries write their banners to descriptor 1; they go to standard error from here on
    report = ask_ggml(library_directory())
    with os.fdopen(answer, "w", encoding="utf-8") as out:
        json.dump(report, out)


def library_directory() -> Path | None:
    """Where llama-cpp-python keeps its libraries, found without importing it; None where it is not installed."""
    override = os.environ.get("LLAMA_CPP_LIB_PATH")  # the package's own variable
    if override:
        return Path(override)
    spec = importlib.util.find_spec("llama_cpp")
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) / "lib" if places else None


def ask_ggml(directory: Path | None) -> dict[str, Any]:
    """Device entries (name, description, type, total_bytes, free_bytes) and the system info; may crash the process."""
    if directory is None or not directory.is_dir():
        return {"devices": [], "system_info": "", "missing": "llama-cpp-python is not installed"}
    ggml = _Ggml(directory)
    return {"devices": ggml.devices(), "system_info": ggml.system_info(), "missing": ""}


class _Ggml:
    """The few functions of ggml that list devices; llama-cpp-python declares none of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._libraries: dict[str, ctypes.CDLL] = {}
        if sys.platform == "win32":
            os.add_dll_directory(str(directory))

    def devices(self) -> list[dict[str, Any]]:
        count = self._function("ggml_backend_dev_count", ctypes.c_size_t)
        if count() == 0:
            # A build with backends as plug-ins registers none by itself, and would search for them beside python.
            load = self._function("ggml_backend_load_all_from_path", None, ctypes.c_char_p)
            load(os.fsencode(self._directory))
        get = self._function("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
        return [self._entry(ctypes.c_void_p(get(index))) for index in range(count())]

    def system_info(self) -> str:
        return _text(self._function("llama_print_system_info", ctypes.c_char_p)())

    def _entry(self, device: ctypes.c_void_p) -> dict[str, Any]:
        name = self._function("ggml_backend_dev_name", ctypes.c_char_p, ctypes.c_void_p)
        description = self._function("ggml_backend_dev_description", ctypes.c_char_p, ctypes.c_void_p)
        kind = self._function("ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)
        size_pointer = ctypes.POINTER(ctypes.c_size_t)
        memory = self._function("ggml_backend_dev_memory", None, ctypes.c_void_p, size_pointer, size_pointer)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        memory(device, ctypes.byref(free), ctypes.byref(total))
        return {
            "name": _text(name(device)),
            "description": _text(description(device)),
            "type": kind(device),
            "total_bytes": total.value,
            "free_bytes": free.value,
        }

    def _function(self, name: str, result: Any, *arguments: Any) -> Any:
        """A function of any of the libraries.

        libllama comes first: on Linux and macOS a lookup in it reaches the ggml libraries it was linked with, and
        only through it are they certain to be the same copies. Windows looks in one library at a time.
        """
        for base_name in ("llama", "ggml", "ggml-base"):
            found = getattr(self._library(base_name), name, None)
            if found is not None:
                found.restype, found.argtypes = result, list(arguments)
                return found
        raise AttributeError(f"{name} is in none of the libraries in {self._directory}")

    def _library(self, base_name: str) -> ctypes.CDLL | None:
        if base_name not in self._libraries:
            paths = [self._directory / file_name for file_name in library_file_names(base_name, sys.platform)]
            path = next((path for path in paths if path.exists()), None)
            if path is None:
                return None
            self._libraries[base_name] = ctypes.CDLL(str(path))
        return self._libraries[base_name]


def library_file_names(base_name: str, platform: str) -> tuple[str, ...]:
    """What llama-cpp-python may call a library on a platform (a value of sys.platform)."""
    if platform == "win32":
        return (f"{base_name}.dll", f"lib{base_name}.dll")
    if platform == "darwin":
        return (f"lib{base_name}.dylib", f"lib{base_name}.so")
    return (f"lib{base_name}.so",)


def _shares_host_memory(entry: Mapping[str, Any]) -> bool:
    """Metal reports every GPU as a discrete one; on Apple's own chips, named "Apple M…", the memory is one."""
    is_metal = str(entry["name"]).startswith(_METAL_NAMES)
    return entry["type"] in (_CPU, _INTEGRATED) or (is_metal and str(entry["description"]).startswith("Apple"))


def _environment() -> dict[str, str]:
    """The child finds this package even where it is not installed but run from a checkout."""
    package_parent = str(Path(__file__).resolve().parents[2])
    python_path = os.pathsep.join(part for part in (package_parent, os.environ.get("PYTHONPATH", "")) if part)
    return {**os.environ, "PYTHONPATH": python_path}


def _nothing(why: str) -> Listing:
    return Listing(note=_without_devices(why))


def _without_devices(why: str) -> str:
    return f"GPUs were not looked at: {why}. The advice is for the CPU only."


def _ending(returncode: int) -> str:
    if returncode < 0:
        try:
            return signal.Signals(-returncode).name
        except ValueError:
            return f"signal {-returncode}"
    return f"exit code {returncode}"


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", errors="replace")


if __name__ == "__main__":
    main()
