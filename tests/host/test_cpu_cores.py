from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from advisor.host.cpu import brand, last_level_cache_bytes, physical_cores, schedulable_cores
from advisor.host.isa import FLAGS, flags_present_on_windows, read_isa

EPYC = """\
processor	: 0
vendor_id	: AuthenticAMD
model name	: AMD EPYC 9654  96-Core Processor
flags		: fpu sse sse2 fma sse4_1 sse4_2 avx f16c avx2 avx512f avx512vl avx512_bf16 avx512_vnni

processor	: 1
vendor_id	: AuthenticAMD
model name	: AMD EPYC 9654  96-Core Processor
flags		: fpu sse
"""
SAPPHIRE_RAPIDS = """\
model name	: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags		: sse4_2 fma avx f16c avx2 avx512f avx_vnni avx512_bf16 avx512_vnni amx_bf16 amx_tile amx_int8
"""
RASPBERRY_PI_5 = """\
processor	: 0
BogoMIPS	: 108.00
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer	: 0x41
CPU part	: 0xd0b

Model		: Raspberry Pi 5 Model B Rev 1.0
"""
GRAVITON_3 = """\
processor	: 0
Features	: fp asimd aes atomics fphp asimdhp asimdrdm asimddp sve asimdfhm svei8mm i8mm bf16
CPU part	: 0xd40
"""
APPLE_M4_SYSCTL = """\
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_I8MM: 1
hw.optional.arm.FEAT_BF16: 1
hw.optional.arm.FEAT_SME: 1
hw.optional.floatingpoint: 1
hw.optional.AdvSIMD: 1
hw.optional.arm64: 1
machdep.cpu.brand_string: Apple M4 Max
hw.l2cachesize: 4194304
"""
APPLE_M1_SYSCTL = """\
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_I8MM: 0
hw.optional.neon: 1
machdep.cpu.brand_string: Apple M1
"""
INTEL_MAC_SYSCTL = """\
hw.optional.sse4_2: 1
hw.optional.avx1_0: 1
hw.optional.avx2_0: 1
hw.optional.avx512f: 0
hw.optional.f16c: 1
hw.optional.fma: 1
machdep.cpu.brand_string: Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz
hw.l2cachesize: 262144
hw.l3cachesize: 12582912
"""


def linux(root: Path, cpuinfo: str) -> Path:
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text(cpuinfo, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("cpuinfo", "name", "isa"),
    [
        (EPYC, "AMD EPYC 9654 96-Core Processor", "sse4_2 avx avx2 f16c fma avx512f avx512vnni avx512bf16"),
        (
            SAPPHIRE_RAPIDS,
            "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
            "sse4_2 avx avx2 f16c fma avx512f avx512vnni avx512bf16 avx_vnni amx_tile amx_int8 amx_bf16",
        ),
        (RASPBERRY_PI_5, "Raspberry Pi 5 Model B Rev 1.0", "neon dotprod"),
    ],
)
def test_linux_processors(tmp_path: Path, cpuinfo: str, name: str, isa: str) -> None:
    root = linux(tmp_path, cpuinfo)
    assert brand("Linux", root) == name
    assert read_isa("Linux", root) == tuple(isa.split())


def test_an_arm_server_without_any_name_still_has_one(tmp_path: Path) -> None:
    root = linux(tmp_path, GRAVITON_3)
    assert brand("Linux", root)
    assert read_isa("Linux", root) == ("neon", "dotprod", "i8mm", "sve")


@pytest.mark.parametrize(
    ("text", "name", "isa"),
    [
        (APPLE_M4_SYSCTL, "Apple M4 Max", "neon dotprod i8mm sme"),
        (APPLE_M1_SYSCTL, "Apple M1", "neon dotprod"),
        (INTEL_MAC_SYSCTL, "Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz", "sse4_2 avx avx2 f16c fma"),
    ],
)
def test_macs(text: str, name: str, isa: str) -> None:
    assert brand("macOS", sysctl_text=text) == name
    assert read_isa("macOS", sysctl_text=text) == tuple(isa.split())


def test_windows_feature_numbers() -> None:
    snapdragon = {19, 29, 43}  # NEON, v8, dot product
    assert set(flags_present_on_windows(snapdragon.__contains__)) == {"neon", "dotprod"}
    ryzen = {10, 38, 39, 40, 41}
    assert set(flags_present_on_windows(ryzen.__contains__)) == {"sse4_2", "avx", "avx2", "avx512f"}


def test_what_ggml_uses_the_processor_has(tmp_path: Path) -> None:
    system_info = "CUDA : ARCHS = 890 | USE_GRAPHS = 1 | CPU : SSE3 = 1 | AVX512 = 1 | AVX512_VNNI = 1 | AVX2 = 0 | "
    assert read_isa("Linux", tmp_path, ggml_system_info=system_info) == ("avx512f", "avx512vnni")
    arm = "CPU : NEON = 1 | ARM_FMA = 1 | MATMUL_INT8 = 1 | SVE_CNT = 16 | DOTPROD = 1 | "
    assert read_isa("Windows", tmp_path, ggml_system_info=arm) == ("neon", "dotprod", "i8mm")


def test_flags_are_words_of_the_list_only(tmp_path: Path) -> None:
    assert set(read_isa("Linux", linux(tmp_path, EPYC))) <= set(FLAGS)


def test_last_level_cache_counts_every_instance_once(tmp_path: Path) -> None:
    # two cores share each of two 32 MiB caches; their own 1 MiB caches are not the last level
    for core, shared in enumerate(("0-1", "0-1", "2-3", "2-3")):
        for index, (level, size, cores) in enumerate([("2", "1024K", str(core)), ("3", "32768K", shared)]):
            directory = tmp_path / f"sys/devices/system/cpu/cpu{core}/cache/index{index}"
            directory.mkdir(parents=True)
            (directory / "level").write_text(level + "\n")
            (directory / "size").write_text(size + "\n")
            (directory / "shared_cpu_list").write_text(cores + "\n")
    assert last_level_cache_bytes(tmp_path) == 64 * 1024**2


def test_last_level_cache_of_macs(tmp_path: Path) -> None:
    assert last_level_cache_bytes(tmp_path, INTEL_MAC_SYSCTL) == 12582912
    assert last_level_cache_bytes(tmp_path, APPLE_M4_SYSCTL) == 4194304
    assert last_level_cache_bytes(tmp_path, "") == 0


def test_this_machine_has_cores() -> None:
    assert physical_cores() >= 1
    assert schedulable_cores() >= 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin processes")
def test_a_pinned_process_has_one_core() -> None:
    code = (
        "import os; from advisor.host.cpu import schedulable_cores\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(schedulable_cores())"
    )
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert asked.stdout.strip() == "1"
