"""What others did with the processors while this process worked: other programs, the hypervisor, a CPU quota.

    before = meter.look()
    ...                               what is to be timed
    load = between(before, meter.look())

A look only reads counters; the difference of two of them is a ``Load``. The one costly part of a look is the list of
all programs, which tells who it was. This module knows nothing about what is being timed.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from advisor.host.cgroup import Group, groups, read_text
from advisor.host.cpu import usable_cores

# More than this share of the cores taken away is contention. llama.cpp's threads wait for the slowest, so what is
# taken of one core is lost on all of them, and candidates often differ by no more; the daemons of an idle desktop
# take less.
CONTENDED_SHARE = 0.05
# Counters advance in steps of 1/100 s (Linux, macOS) or 1/64 s (Windows): over a short time, one step per core means
# nothing.
_TICK_S = 1 / 64
_MOST_PROGRAMS = 3
_LEAST_CORES = 0.1
_LONGEST_NAME = 40
_IDLE = "System Idle Process"  # Windows lists what the cores did not do; kernel_task of macOS, also 0, is real work


@dataclass(frozen=True)
class Program:
    """Another program and the cores it took on average: all processes of one name together."""

    name: str
    cores: float


@dataclass(frozen=True)
class Load:
    """What others did with the processors between two looks.

    ``cores``: those this process may use, as ``cpu.usable_cores`` counts them. ``others_cores``: of those, taken on
    average by processes that are neither this one nor below it. ``stolen_cores``: of those, taken by the hypervisor;
    0 where it is not told. ``throttled_share``: of the wall time, in which a control group was stopped for having
    used its quota; 0 where it is not told. ``programs``: the busiest others, most first, with their names as they are,
    which may not be printable; () where one of the looks did not list them. ``own_cores``: taken on average by this
    process and those below it; of threads that spin, what is missing to their number was taken from them.
    """

    wall_s: float
    cores: int
    others_cores: float
    stolen_cores: float
    throttled_share: float
    programs: tuple[Program, ...]
    own_cores: float = 0.0


@dataclass(frozen=True)
class Core:
    """Seconds that one core has worked, and that the hypervisor has kept it from working, since the machine started."""

    busy_s: float
    stolen_s: float


@dataclass(frozen=True)
class Process:
    """``used_s``: processor seconds so far. ``reaped_s``: those of its children that ended and were waited for, with
    theirs; 0 where the system does not tell."""

    pid: int
    parent: int
    name: str
    used_s: float
    reaped_s: float = 0.0


@dataclass(frozen=True)
class Look:
    """Counters at one moment. ``others`` is None where the programs were not listed.

    ``cores`` by number: those this process may be scheduled on, of which a quota may leave ``usable_cores``.
    ``throttled_s`` by control group.
    """

    at_s: float
    cores: Mapping[int, Core]
    usable_cores: int
    throttled_s: Mapping[Path, float]
    own: Mapping[int, Process]
    others: Mapping[int, Process] | None


def _core_times() -> Sequence[Any]:
    """psutil's record of each core that is online; none where the system does not let it be read."""
    try:
        return psutil.cpu_times(percpu=True)
    except (OSError, RuntimeError, psutil.Error):
        return ()


def _affinity() -> frozenset[int]:
    """Numbers of the cores this process may run on (taskset, cpusets); none where processes cannot be pinned."""
    try:
        get_affinity = getattr(psutil.Process(), "cpu_affinity", None)  # macOS has none
        return frozenset(get_affinity() if get_affinity else ())
    except (OSError, psutil.Error):
        return frozenset()


def _all_processes() -> list[Process]:
    """Every process that may be read: 65 µs each, thousands on a server."""
    return _read(psutil.pids())


def _own_processes() -> list[Process]:
    """This process and those below it."""
    return _read(family(os.getpid()))


def family(pid: int, root: Path = Path("/")) -> list[int]:
    """``pid`` and the processes below it.

    Linux names the children of each thread in a file, so that nobody else need be looked at. Kernels built without
    these files, macOS and Windows are asked for the parent of everybody: 12 µs a process.
    """
    if not (root / f"proc/{pid}/task/{pid}/children").exists():
        return [pid, *_descendants(pid)]
    found = [pid]
    for one in found:
        found += _children(root / f"proc/{one}/task")
    return found


@dataclass(frozen=True)
class Sources:
    """Where a look is taken. The defaults are this machine; a test puts a recorded one here.

    ``root`` holds proc/ and sys/. ``core_times`` gives psutil's records, one for each core that is online.
    """

    root: Path = Path("/")
    clock: Callable[[], float] = time.perf_counter
    core_times: Callable[[], Sequence[Any]] = _core_times
    affinity: Callable[[], frozenset[int]] = _affinity
    own_processes: Callable[[], Iterable[Process]] = _own_processes
    all_processes: Callable[[], Iterable[Process]] = _all_processes


class LoadMeter:
    """Takes looks at one machine. It remembers nothing: any two of its looks can be compared."""

    def __init__(self, sources: Sources | None = None) -> None:
        self._sources = sources or Sources()

    def look(self, *, programs: bool = True) -> Look:
        """The counters now. Without ``programs`` the others are not listed: for the many looks around timings.

        Never raises for what cannot be read: it then counts as nothing.
        """
        sources = self._sources
        everyone = list(sources.all_processes()) if programs else None
        # Listing them is work of this process: its own time and the cores' are read together, after it.
        own = {one.pid: one for one in sources.own_processes()}
        cores = _cores(sources)
        return Look(
            at_s=sources.clock(),
            cores=cores,
            usable_cores=usable_cores(len(cores), sources.root),
            throttled_s={group.directory: _throttled_s(group) for group in groups("cpu", sources.root)},
            own=own,
            others=None if everyone is None else {one.pid: one for one in everyone if one.pid not in own},
        )


def between(before: Look, after: Look) -> Load:
    """What happened between two looks of one meter.

    A quota without pinning leaves ``usable_cores`` of many, wherever they are free: others take from these only what
    they take beyond the cores that the quota would leave idle anyway. Of stolen time, which falls on every core
    alike, the cores that may be used have their part; a group that was stopped on as many cores was stopped whole.
    Counters that went backwards, and no time at all, are zeros.
    """
    wall_s = max(0.0, after.at_s - before.at_s)
    if not wall_s:
        return Load(0.0, after.usable_cores, 0.0, 0.0, 0.0, ())
    scheduled = before.cores.keys() & after.cores.keys()
    usable = after.usable_cores
    spent_s = _spent_s(before, after)
    busy_s = sum(max(0.0, after.cores[core].busy_s - before.cores[core].busy_s) for core in scheduled)
    stolen_s = sum(max(0.0, after.cores[core].stolen_s - before.cores[core].stolen_s) for core in scheduled)
    own_s = sum(spent_s[pid] for pid in after.own)
    others = min(max(0.0, busy_s - own_s) / wall_s, len(scheduled))
    others_cores = max(0.0, others - max(0, len(scheduled) - usable))
    return Load(
        wall_s=wall_s,
        cores=usable,
        others_cores=others_cores,
        stolen_cores=usable * _share(stolen_s, wall_s * len(scheduled)),
        throttled_share=_share(_longest_s(before.throttled_s, after.throttled_s), wall_s * usable),
        programs=_programs(after.others or {}, spent_s, wall_s, others_cores),
        own_cores=own_s / wall_s,
    )


def is_contended(load: Load) -> bool:
    """Whether what was timed meanwhile was slowed by others: ``describe`` says by whom."""
    return bool(_causes(load))


def describe(load: Load) -> str:
    """Who took processor time from this process, as a part of a sentence; "" when nobody took enough to matter.

    The names of programs in it are as ``Load`` has them: it is made printable where it is shown.
    """
    return " and ".join(_causes(load))


def _causes(load: Load) -> list[str]:
    if not load.wall_s:
        return []
    least_share = max(CONTENDED_SHARE, _TICK_S / load.wall_s)
    causes = []
    if load.others_cores > least_share * load.cores:
        names = ", ".join(f"{program.name} {program.cores:.1f}" for program in load.programs)
        causes.append(f"other programs take {_of_cores(load.others_cores, load)}" + (f" ({names})" if names else ""))
    if load.stolen_cores > least_share * load.cores:
        causes.append(f"the hypervisor takes {_of_cores(load.stolen_cores, load)}")
    if load.throttled_share > least_share:
        percent = f"{100 * load.throttled_share:.0f} %"
        causes.append(f"the control group's CPU quota stops this process {percent} of the time")
    return causes


def _of_cores(taken: float, load: Load) -> str:
    return f"{taken:.1f} of {load.cores} core{'s' if load.cores > 1 else ''}"


def _share(part: float, whole: float) -> float:
    return min(1.0, part / whole) if whole else 0.0


def _cores(sources: Sources) -> dict[int, Core]:
    """The cores this process may be scheduled on. Where none of their numbers is known, as in a container that counts
    its cores anew, all that are shown."""
    times = sources.core_times()
    cores = dict(zip(_numbers(sources.root, len(times)), map(_core, times), strict=True))
    return {number: cores[number] for number in sources.affinity() & cores.keys()} or cores


def _numbers(root: Path, count: int) -> Sequence[int]:
    """The number of each of ``count`` cores. Linux lists those that are online, so the place in the list is not it."""
    online = read_text(root / "sys/devices/system/cpu/online")  # such as "0-3,8"
    ranges = re.findall(r"(\d+)(?:-(\d+))?", online)
    numbers = [number for first, last in ranges for number in range(int(first), int(last or first) + 1)]
    return numbers if len(numbers) == count else range(count)


def _core(times: Any) -> Core:
    """From psutil's record. Guests run within user and nice; only Linux counts interrupts beside system."""
    interrupts_s = times.irq + times.softirq if hasattr(times, "softirq") else 0.0
    return Core(
        busy_s=times.user + getattr(times, "nice", 0.0) + times.system + interrupts_s,
        stolen_s=getattr(times, "steal", 0.0),
    )


def _throttled_s(group: Group) -> float:
    """How long the group has been stopped, summed over the cores it was stopped on."""
    name, per_second = ("throttled_usec", 1e6) if group.version == 2 else ("throttled_time", 1e9)
    found = re.search(rf"^{name} (\d+)$", group.text("cpu.stat"), re.MULTILINE)
    return int(found[1]) / per_second if found else 0.0


def _longest_s(before: Mapping[Path, float], after: Mapping[Path, float]) -> float:
    """A group and the one above it may have been stopped at the same time, so the worst counts and not the sum."""
    return max([0.0, *(after[group] - before[group] for group in before.keys() & after.keys())])


def _programs(
    others: Mapping[int, Process], spent_s: Mapping[int, float], wall_s: float, others_cores: float
) -> tuple[Program, ...]:
    """The busiest of ``others``. Where they ran is not known, so none has taken more than all have taken together."""
    taken: dict[str, float] = defaultdict(float)
    for one in others.values():
        if one.name != _IDLE:
            taken[one.name[:_LONGEST_NAME]] += spent_s.get(one.pid, 0.0) / wall_s
    busiest = sorted(taken.items(), key=lambda item: item[1], reverse=True)[:_MOST_PROGRAMS]
    programs = (Program(name, min(cores, others_cores)) for name, cores in busiest)
    return tuple(program for program in programs if program.cores >= _LEAST_CORES)


def _spent_s(before: Look, after: Look) -> dict[int, float]:
    """Processor seconds of each process of ``after``, with those of children that ended meanwhile.

    A child's time goes to its parent when it has ended, all of it, so what was seen of it before is taken off again.
    Where the system does not tell the time of children, they are lost from the last look on. The others are known
    only when both looks list them.
    """
    old, new = before.own, after.own
    if before.others is not None and after.others is not None:
        old, new = {**before.others, **old}, {**after.others, **new}
    nothing = Process(0, 0, "", 0.0)
    used_s = {pid: one.used_s - old.get(pid, nothing).used_s for pid, one in new.items()}
    reaped_s = {pid: one.reaped_s - old.get(pid, nothing).reaped_s for pid, one in new.items()}
    for pid in old.keys() - new.keys():
        heir = _heir(pid, old, new)
        if heir is not None:
            reaped_s[heir] -= old[pid].used_s + old[pid].reaped_s
    return {pid: max(0.0, used_s[pid]) + max(0.0, reaped_s[pid]) for pid in new}


def _heir(pid: int, old: Mapping[int, Process], new: Mapping[int, Process]) -> int | None:
    """The nearest ancestor of a process that has ended which has not; None where there is none."""
    seen = set()
    while pid in old and pid not in new and pid not in seen:  # some systems call 0 the parent of 0
        seen.add(pid)
        pid = old[pid].parent
    return pid if pid in new else None


def _read(pids: Iterable[int]) -> list[Process]:
    """Those of the processes that are still there and may be read."""
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.Error, OSError):
            found.append(_process(psutil.Process(pid)))
    return found


def _process(process: psutil.Process) -> Process:
    with process.oneshot():
        times = process.cpu_times()
        reaped_s = times.children_user + times.children_system
        return Process(
            pid=process.pid,
            parent=process.ppid(),
            name=process.name(),
            used_s=times.user + times.system,
            reaped_s=max(reaped_s, _reaped_s()) if process.pid == os.getpid() else reaped_s,
        )


def _reaped_s() -> float:
    """The time of this process's own children that ended: macOS tells it to nobody else, and psutil not at all."""
    times = os.times()
    return times.children_user + times.children_system


def _descendants(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except (OSError, psutil.Error):
        return []


def _children(threads: Path) -> Iterator[int]:
    """Children of the process with these ``threads`` (its folder task/), none when it ends meanwhile."""
    with contextlib.suppress(OSError):
        for thread in threads.iterdir():
            yield from map(int, read_text(thread / "children").split())
