from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from advisor.host.devices import library_directory, library_file_names, list_devices, parse_listing
from advisor.types import Device

GIB = 1024**3


def entry(name: str, description: str, kind: int, total_gib: float = 0, free_gib: float = 0) -> dict[str, Any]:
    total_bytes, free_bytes = int(total_gib * GIB), int(free_gib * GIB)
    return {
        "name": name,
        "description": description,
        "type": kind,
        "total_bytes": total_bytes,
        "free_bytes": free_bytes,
    }


def report(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"devices": list(entries), "system_info": "CPU : AVX = 1 | ", "missing": ""}


def saying(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_two_cuda_cards() -> None:
    cards = [entry(f"CUDA{i}", "NVIDIA GeForce RTX 3090", 1, 24, 23.5) for i in range(2)]
    listing = parse_listing(report(*cards, entry("CPU", "AMD Ryzen 9 5950X", 0, 64, 64)))
    assert listing.devices == (
        Device("CUDA0", "NVIDIA GeForce RTX 3090", "gpu", 24 * GIB, int(23.5 * GIB), unified=False),
        Device("CUDA1", "NVIDIA GeForce RTX 3090", "gpu", 24 * GIB, int(23.5 * GIB), unified=False),
        Device("CPU", "AMD Ryzen 9 5950X", "cpu", 64 * GIB, 64 * GIB, unified=True),
    )
    assert listing.note == ""


def test_apple_silicon_shares_its_memory() -> None:
    apple = parse_listing(
        report(
            entry("MTL0", "Apple M4 Max", 1, 96, 96),
            entry("BLAS", "Accelerate", 3),
            entry("CPU", "Apple M4 Max", 0, 128, 128),
        )
    )
    metal, blas, _ = apple.devices
    assert (metal.kind, metal.unified, metal.memory_total_bytes) == ("gpu", True, 96 * GIB)
    assert (blas.kind, blas.unified) == ("accelerator", False)


def test_a_discrete_card_in_an_intel_mac_does_not() -> None:
    (card,) = parse_listing(report(entry("MTL0", "AMD Radeon Pro 5500M", 1, 8, 8))).devices
    assert not card.unified


def test_integrated_gpus_share_memory_and_wrappers_are_left_out() -> None:
    listing = parse_listing(report(entry("Vulkan0", "Intel Iris Xe", 2, 16, 12), entry("Meta", "all of them", 4)))
    assert [(device.name, device.kind, device.unified) for device in listing.devices] == [("Vulkan0", "igpu", True)]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (saying("import sys; sys.exit(3)"), "exit code 3"),
        (saying("print('no devices today')"), "makes no sense"),
        (saying("print('{}')"), "makes no sense"),
        (saying("print('[1, 2]')"), "makes no sense"),
        (["/nonexistent/python"], "did not start"),
    ],
)
def test_a_failing_child_is_a_note_and_not_a_failure(command: list[str], reason: str) -> None:
    listing = list_devices(command=command)
    assert listing.devices == ()
    assert reason in listing.note
    assert "for the CPU only" in listing.note


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_crash_is_named_by_its_signal() -> None:
    listing = list_devices(command=saying("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))
    assert listing.devices == ()
    assert "SIGKILL" in listing.note


def test_a_hanging_driver_is_left_behind() -> None:
    listing = list_devices(command=saying("while True: pass"), limit_s=0.3)
    assert listing.devices == ()
    assert "no answer" in listing.note


def test_the_child_of_this_machine_lists_its_cpu() -> None:
    listing = list_devices()
    assert listing.note == ""
    assert "cpu" in {device.kind for device in listing.devices}
    assert "CPU" in listing.system_info


def test_an_environment_without_the_engine_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path / "gone"))
    listing = list_devices()
    assert listing.devices == ()
    assert "llama-cpp-python is not installed" in listing.note


def test_libraries_are_found_without_importing_the_engine() -> None:
    code = (
        "import sys; from advisor.host.devices import library_directory, library_file_names as names\n"
        "found = any((library_directory() / n).exists() for n in names('llama', sys.platform))\n"
        "import json; print(json.dumps({'devices': [], 'system_info': f'{found} {\"llama_cpp\" in sys.modules}'}))"
    )
    assert library_directory() is not None
    assert list_devices(command=saying(code)).system_info == "True False"


def test_library_names() -> None:
    assert "ggml-base.dll" in library_file_names("ggml-base", "win32")
    assert "libggml-base.dylib" in library_file_names("ggml-base", "darwin")
    assert library_file_names("ggml-base", "linux") == ("libggml-base.so",)


def test_banners_of_drivers_do_not_spoil_the_answer() -> None:
    """What native code writes to descriptor 1 must not end up in the JSON."""
    code = (
        "import os; from advisor.host import devices\n"
        "answer = {'devices': [], 'system_info': 'fine', 'missing': ''}\n"
        "devices.ask_ggml = lambda directory: (os.write(1, b'ggml: found 1 device'), answer)[1]\n"
        "devices.main()"
    )
    assert list_devices(command=saying(code)).system_info == "fine"
