"""How much RAM this process may use: the machine's, or what its control groups and its own limit leave of it.

This module knows nothing about models; it counts bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from advisor.host.cgroup import Group, groups


@dataclass(frozen=True)
class Ram:
    total_bytes: int
    available_bytes: int


def physical_ram() -> Ram:
    """What the operating system reports, whoever asks."""
    import psutil

    memory = psutil.virtual_memory()
    return Ram(total_bytes=int(memory.total), available_bytes=int(memory.available))


@dataclass(frozen=True)
class AddressSpace:
    """The limit that ``ulimit -v`` sets (RLIMIT_AS), which every child process inherits, and what this one uses."""

    limit_bytes: int
    used_bytes: int


def address_space() -> AddressSpace | None:
    """None where there is no limit."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    import psutil

    return AddressSpace(limit, int(psutil.Process().memory_info().vms))


def usable_ram(physical: Ram, root: Path = Path("/"), space: AddressSpace | None = None) -> Ram:
    """``physical``, capped by every control group above this process and by its address space.

    A worker is a process like this one: before it loads a model it takes about as much address space as is used here.
    """
    total, available = physical.total_bytes, physical.available_bytes
    for group in groups("memory", root):
        limit, used, reclaimable = _account(group)
        if limit is not None:
            total = min(total, limit)
            available = min(available, limit - used + reclaimable)
    if space is not None:
        total = min(total, space.limit_bytes)
        available = min(available, space.limit_bytes - space.used_bytes)
    return Ram(total_bytes=total, available_bytes=max(0, available))


def _account(group: Group) -> tuple[int | None, int, int]:
    """Limit, bytes charged to the group, and how many of those are file cache that the kernel gives back."""
    if group.version == 2:
        # Above memory.high nothing is killed, but the kernel throttles so hard that no model runs.
        limits = [group.number(name) for name in ("memory.max", "memory.high")]
        limit = min((value for value in limits if value is not None), default=None)
        used = group.number("memory.current")
        cache = _file_cache(group.text("memory.stat"), prefix="")
    else:
        limit = group.number("memory.limit_in_bytes")
        used = group.number("memory.usage_in_bytes")
        cache = _file_cache(group.text("memory.stat"), prefix="total_")
    used = used or 0
    return limit, used, min(cache, used)


def _file_cache(stat: str, prefix: str) -> int:
    """Bytes on the file LRU lists, which the kernel drops on demand.

    The active list counts as well, as it does in the kernel's own MemAvailable: a model file that was mapped and
    read twice is all "active", and it must not make the next run seem not to fit.
    """
    values = dict(line.split(maxsplit=1) for line in stat.splitlines() if " " in line)
    names = (f"{prefix}inactive_file", f"{prefix}active_file")
    return sum(int(values[name]) for name in names if values.get(name, "").isdigit())
