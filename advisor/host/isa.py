"""Which vector and matrix instructions the processor has: those that decide which kernels llama.cpp runs.

Every system tells a part of it under its own names; what ggml reports of its own build is added, since a build
that runs at all uses nothing the processor lacks.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from advisor.host.cgroup import read_text
from advisor.host.cpu import fields

FLAGS = (
    *("sse4_2", "avx", "avx2", "f16c", "fma", "avx512f", "avx512vnni", "avx512bf16", "avx_vnni"),
    *("amx_tile", "amx_int8", "amx_bf16", "neon", "dotprod", "i8mm", "sve", "sme"),
)

_LINUX = {"avx512_vnni": "avx512vnni", "avx512_bf16": "avx512bf16", "asimd": "neon", "asimddp": "dotprod"}
_MACOS = {
    "hw.optional.sse4_2": "sse4_2",
    "hw.optional.avx1_0": "avx",
    "hw.optional.avx2_0": "avx2",
    "hw.optional.f16c": "f16c",
    "hw.optional.fma": "fma",
    "hw.optional.avx512f": "avx512f",
    "hw.optional.avx512vnni": "avx512vnni",
    "hw.optional.neon": "neon",
    "hw.optional.AdvSIMD": "neon",
    "hw.optional.arm.FEAT_DotProd": "dotprod",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_SME": "sme",
}
_WINDOWS = {  # the PF_..._INSTRUCTIONS_AVAILABLE numbers of winnt.h
    19: "neon",
    38: "sse4_2",
    39: "avx",
    40: "avx2",
    41: "avx512f",
    43: "dotprod",
    46: "sve",
    66: "i8mm",
    70: "sme",
}
_GGML = {  # the feature names in ggml/src/ggml-cpu/ggml-cpu.cpp
    "AVX": "avx",
    "AVX2": "avx2",
    "F16C": "f16c",
    "FMA": "fma",
    "AVX512": "avx512f",
    "AVX512_VNNI": "avx512vnni",
    "AVX512_BF16": "avx512bf16",
    "AVX_VNNI": "avx_vnni",
    "AMX_INT8": "amx_int8",
    "NEON": "neon",
    "DOTPROD": "dotprod",
    "MATMUL_INT8": "i8mm",
    "SVE": "sve",
    "SME": "sme",
}


def read_isa(system: str, root: Path = Path("/"), sysctl_text: str = "", ggml_system_info: str = "") -> tuple[str, ...]:
    """The flags of FLAGS this processor has, in the order of FLAGS. ``system`` is "Linux", "macOS" or "Windows"."""
    found = set(_from_ggml(ggml_system_info))
    if system == "Linux":
        found |= set(_from_cpuinfo(read_text(root / "proc/cpuinfo")))
    elif system == "macOS":
        found |= set(_from_sysctl(fields(sysctl_text)))
    elif system == "Windows":
        found |= set(flags_present_on_windows(_windows_feature_test()))
    return tuple(flag for flag in FLAGS if flag in found)


def flags_present_on_windows(is_present: Callable[[int], bool]) -> Iterable[str]:
    """``is_present`` answers as IsProcessorFeaturePresent does, for a PF_ number."""
    return [flag for number, flag in _WINDOWS.items() if is_present(number)]


def _from_cpuinfo(text: str) -> Iterable[str]:
    """x86 writes "flags", Arm writes "Features"."""
    values = fields(text)
    words = f"{values.get('flags', '')} {values.get('Features', '')}".split()
    return [_LINUX.get(word, word) for word in words]


def _from_sysctl(values: Mapping[str, str]) -> Iterable[str]:
    return [flag for key, flag in _MACOS.items() if values.get(key) == "1"]


def _from_ggml(system_info: str) -> Iterable[str]:
    """From a text such as "CPU : SSE3 = 1 | AVX512_VNNI = 1 | "."""
    return [_GGML[name] for name, value in re.findall(r"(\w+) = (\w+)", system_info) if name in _GGML and value != "0"]


def _windows_feature_test() -> Callable[[int], bool]:
    if sys.platform != "win32":
        return lambda number: False
    import ctypes

    kernel32 = ctypes.WinDLL("kernel32")
    return lambda number: bool(kernel32.IsProcessorFeaturePresent(number))
