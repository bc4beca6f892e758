"""How many cores this process may use, and what the processor calls itself."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from advisor.host.cgroup import Group, groups, read_text

# Arm boards do not print "model name"; the board or the system on a chip is then the best name there is.
_NAME_FIELDS = ("model name", "Hardware", "Model", "cpu", "uarch")


def physical_cores() -> int:
    """Cores without hyper-threads; the logical count where the system does not tell them apart."""
    import psutil

    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


def schedulable_cores() -> int:
    """Logical cores this process may be scheduled on (taskset, cpusets, process affinity)."""
    get_affinity = getattr(os, "sched_getaffinity", None)
    if get_affinity is not None:
        return len(get_affinity(0))
    import psutil

    get_affinity = getattr(psutil.Process(), "cpu_affinity", None)  # Windows has it, macOS has no affinity at all
    return len(get_affinity() if get_affinity else ()) or os.cpu_count() or 1


def usable_cores(schedulable: int, root: Path = Path("/")) -> int:
    """``schedulable``, capped by the CPU quota of every control group above this process; at least 1.

    A quota of 2.5 cores counts as 2: a third thread would be stopped half of the time, and llama.cpp's threads
    wait for the slowest.
    """
    quotas = [quota for group in groups("cpu", root) if (quota := _quota_cores(group)) is not None]
    return max(1, int(min([schedulable, *quotas])))


def brand(system: str, root: Path = Path("/"), sysctl_text: str = "") -> str:
    """The processor's own name, e.g. "AMD Ryzen 9 7950X 16-Core Processor" or "Apple M4 Max"."""
    names = {
        "Linux": lambda: _linux_brand(root),
        "macOS": lambda: _sysctl_brand(sysctl_text),
        "Windows": _windows_brand,
    }
    name = names.get(system, str)()
    return " ".join(name.split()) or platform.processor() or platform.machine() or "unknown"


def sysctl() -> str:
    """What macOS says about its processor, as "key: value" lines; "" elsewhere."""
    if sys.platform != "darwin":
        return ""
    try:
        asked = subprocess.run(
            ["/usr/sbin/sysctl", "hw.optional", "machdep.cpu.brand_string", "hw.l2cachesize", "hw.l3cachesize"],
            capture_output=True,
            timeout=10,
            check=False,  # Apple silicon has no hw.l3cachesize: the rest is printed all the same
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.decode("utf-8", errors="replace")


def last_level_cache_bytes(root: Path = Path("/"), sysctl_text: str = "") -> int:
    """All caches of the last level together (two sockets have two); 0 where the system does not tell."""
    size_of_cache: dict[tuple[int, str], int] = {}
    for index in (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cache/index[0-9]*"):
        level, size = read_text(index / "level").strip(), read_text(index / "size").strip()
        if level.isdigit() and size.endswith("K"):
            size_of_cache[int(level), read_text(index / "shared_cpu_list").strip()] = int(size[:-1]) * 1024
    if size_of_cache:
        last = max(level for level, _ in size_of_cache)
        return sum(size for (level, _), size in size_of_cache.items() if level == last)
    values = fields(sysctl_text)
    return max(
        (int(values[key]) for key in ("hw.l2cachesize", "hw.l3cachesize") if values.get(key, "").isdigit()), default=0
    )


def fields(text: str) -> dict[str, str]:
    """ "key: value" lines as a dictionary; the first of equal keys wins (/proc/cpuinfo repeats them per core)."""
    found: dict[str, str] = {}
    for key, value in _pairs(text):
        found.setdefault(key, value)
    return found


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, separator, value = line.partition(":")
        if separator and value.strip():
            yield key.strip(), value.strip()


def _quota_cores(group: Group) -> float | None:
    """CPU seconds per second the group may use; None where it is not limited."""
    if group.version == 2:
        quota, _, period = group.text("cpu.max").strip().partition(" ")
        return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None
    quota_us, period_us = group.number("cpu.cfs_quota_us"), group.number("cpu.cfs_period_us")
    return quota_us / period_us if quota_us and quota_us > 0 and period_us else None


def _linux_brand(root: Path) -> str:
    values = fields(read_text(root / "proc/cpuinfo"))
    named = next((values[field] for field in _NAME_FIELDS if field in values), "")
    return named or read_text(root / "proc/device-tree/model").rstrip("\0")


def _sysctl_brand(sysctl_text: str) -> str:
    return fields(sysctl_text).get("machdep.cpu.brand_string", "")


def _windows_brand() -> str:
    if sys.platform != "win32":
        return ""
    import winreg

    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"HARDWARE\DESCRIPTION\System\CentralProcessor\0") as key:
            return str(winreg.QueryValueEx(key, "ProcessorNameString")[0])
    except OSError:
        return ""
