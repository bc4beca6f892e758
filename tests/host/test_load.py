"""What others did with the processors, on counters as they were recorded on real systems and on simulated ones."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.host.load import (
    Load,
    LoadMeter,
    Look,
    Process,
    Program,
    Sources,
    between,
    describe,
    family,
    is_contended,
)

OWN = 100  # the pid of the process that looks
# psutil's records of one core
LinuxTimes = namedtuple("LinuxTimes", "user nice system idle iowait irq softirq steal guest guest_nice")
MacTimes = namedtuple("MacTimes", "user nice system idle")
WindowsTimes = namedtuple("WindowsTimes", "user system idle interrupt dpc")

V2_MOUNT = "31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNT = "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"


def linux_core(user: float = 0.0, steal: float = 0.0) -> LinuxTimes:
    return LinuxTimes(user, 0.0, 0.0, 500.0, 0.0, 0.0, 0.0, steal, 0.0, 0.0)


class Machine:
    """A machine whose counters a test moves. Time stands still but for ``passes``."""

    def __init__(self, root: Path, cores: list[Any], *processes: Process) -> None:
        self.root, self.cores, self.pinned_to = root, cores, frozenset[int]()
        self.processes = {one.pid: one for one in (Process(OWN, 1, "advisor", 50.0), *processes)}
        self.now_s, self.listings = 1000.0, 0

    def look(self, *, programs: bool = True) -> Look:
        sources = Sources(
            root=self.root,
            clock=lambda: self.now_s,
            core_times=lambda: list(self.cores),
            affinity=lambda: self.pinned_to,
            own_processes=self.own,
            all_processes=self.everyone,
        )
        return LoadMeter(sources).look(programs=programs)

    def own(self) -> list[Process]:
        """Every process here has a smaller number than those below it."""
        found = [OWN]
        for pid in sorted(self.processes):
            if self.processes[pid].parent in found:
                found.append(pid)
        return [self.processes[pid] for pid in found]

    def everyone(self) -> list[Process]:
        self.listings += 1
        return list(self.processes.values())

    def passes(self, seconds: float, *busy_s: float) -> None:
        """Time passes, in which the cores worked so many seconds each."""
        self.now_s += seconds
        for core, spent_s in enumerate(busy_s):
            self.cores[core] = self.cores[core]._replace(user=self.cores[core].user + spent_s)

    def runs(self, pid: int, seconds: float) -> None:
        one = self.processes[pid]
        self.processes[pid] = dataclasses.replace(one, used_s=one.used_s + seconds)

    def starts(self, pid: int, parent: int, name: str = "child") -> None:
        self.processes[pid] = Process(pid, parent, name, 0.0)

    def ends(self, pid: int, *, told: bool = True) -> None:
        """A process ends and is waited for; ``told``: its time goes to its parent, as on Linux."""
        gone = self.processes.pop(pid)
        heir = self.processes[gone.parent]
        reaped_s = heir.reaped_s + (gone.used_s + gone.reaped_s if told else 0.0)
        self.processes[heir.pid] = dataclasses.replace(heir, reaped_s=reaped_s)


@pytest.fixture
def two_cores(tmp_path: Path) -> Machine:
    return Machine(
        tmp_path,
        [linux_core(), linux_core()],
        Process(1, 0, "systemd", 9.0),
        Process(7, 1, "chrome", 300.0),
        Process(8, 7, "chrome", 200.0),
        Process(9, 1, "cc1plus", 80.0),
    )


def rounded(load: Load) -> Load:
    programs = tuple(Program(one.name, round(one.cores, 6)) for one in load.programs)
    changes = {name: round(getattr(load, name), 6) for name in ("others_cores", "stolen_cores", "throttled_share")}
    return dataclasses.replace(load, programs=programs, own_cores=0.0, **changes)


def control_group(root: Path, mount: str, own: str, files: dict[str, str]) -> None:
    """``files`` below sys/fs/cgroup/."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(own)
    (root / "proc/self/mountinfo").write_text(mount)
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def test_an_idle_machine_is_no_cause_for_a_word(two_cores: Machine) -> None:
    before = two_cores.look()
    two_cores.passes(10.0, 0.2, 0.1)
    two_cores.runs(7, 0.3)
    load = between(before, two_cores.look())
    assert rounded(load) == Load(10.0, 2, 0.03, 0.0, 0.0, ())
    assert not is_contended(load)
    assert describe(load) == ""


def test_own_work_on_every_core_is_not_others(two_cores: Machine) -> None:
    before = two_cores.look()
    two_cores.passes(10.0, 10.0, 10.0)
    two_cores.runs(OWN, 20.0)
    assert between(before, two_cores.look()).others_cores == pytest.approx(0.0)


def test_other_programs_are_named_and_merged(two_cores: Machine) -> None:
    before = two_cores.look()
    two_cores.passes(10.0, 10.0, 10.0)
    two_cores.runs(OWN, 10.0)
    two_cores.runs(7, 1.0)
    two_cores.runs(8, 2.0)
    two_cores.runs(9, 7.0)
    load = between(before, two_cores.look())
    assert rounded(load).programs == (Program("cc1plus", 0.7), Program("chrome", 0.3))
    assert is_contended(load)
    assert describe(load) == "other programs take 1.0 of 2 cores (cc1plus 0.7, chrome 0.3)"


def test_three_programs_at_most_and_none_that_hardly_works(tmp_path: Path) -> None:
    others = [Process(pid, 1, f"program-{pid}", 5.0) for pid in range(2, 9)]
    machine = Machine(tmp_path, [linux_core()] * 4, *others)
    before = machine.look()
    machine.passes(10.0, 9.0, 9.0, 9.0, 0.0)
    for pid in range(2, 7):
        machine.runs(pid, float(pid))
    assert [one.name for one in between(before, machine.look()).programs] == ["program-6", "program-5", "program-4"]
    machine.runs(8, 0.9)
    before = machine.look()
    machine.passes(10.0, 0.9, 0.0, 0.0, 0.0)
    machine.runs(8, 0.9)
    assert between(before, machine.look()).programs == ()


def test_a_name_is_cut_and_stays_as_it_is(tmp_path: Path) -> None:
    """A program may call itself anything; it is made printable where it is shown."""
    machine = Machine(tmp_path, [linux_core()], Process(5, 1, "\x1b[2J" + "x" * 80, 0.0))
    before = machine.look()
    machine.passes(1.0, 1.0)
    machine.runs(5, 1.0)
    assert between(before, machine.look()).programs == (Program("\x1b[2J" + "x" * 36, 1.0),)


def test_windows_does_not_call_idleness_a_program(tmp_path: Path) -> None:
    cores = [WindowsTimes(100.0, 40.0, 900.0, 4.0, 6.0), WindowsTimes(90.0, 50.0, 900.0, 5.0, 1.0)]
    machine = Machine(tmp_path, cores, Process(0, 0, "System Idle Process", 1800.0), Process(4, 0, "System", 70.0))
    before = machine.look()
    # interrupts and deferred calls are a part of system time
    machine.cores = [WindowsTimes(101.0, 44.0, 905.0, 6.0, 8.0), WindowsTimes(90.0, 50.0, 910.0, 5.0, 1.0)]
    machine.now_s += 10.0
    machine.runs(0, 15.0)
    machine.runs(4, 4.0)
    load = between(before, machine.look())
    assert load.others_cores == pytest.approx(0.5)
    assert [one.name for one in load.programs] == ["System"]


def test_the_kernel_of_a_hot_mac_is_a_program(tmp_path: Path) -> None:
    """kernel_task keeps the cores busy so that they cool down; like the idle process of Windows it is number 0."""
    machine = Machine(tmp_path, [MacTimes(10.0, 1.0, 20.0, 400.0)] * 8, Process(0, 0, "kernel_task", 900.0))
    before = machine.look()
    machine.cores = [MacTimes(10.0, 1.0, 27.0, 403.0)] * 8
    machine.now_s += 10.0
    machine.runs(0, 56.0)
    assert describe(between(before, machine.look())) == "other programs take 5.6 of 8 cores (kernel_task 5.6)"


def test_linux_counts_guests_once_and_waiting_never(tmp_path: Path) -> None:
    before = LinuxTimes(100.0, 5.0, 20.0, 900.0, 30.0, 1.0, 2.0, 0.0, 60.0, 3.0)
    after = LinuxTimes(104.0, 6.0, 21.0, 901.0, 38.0, 1.5, 2.5, 0.0, 64.0, 4.0)
    machine = Machine(tmp_path, [before])
    first = machine.look()
    machine.cores, machine.now_s = [after], machine.now_s + 10.0
    assert between(first, machine.look()).others_cores == pytest.approx(0.7)


def test_the_hypervisor_is_told_apart_from_programs(two_cores: Machine) -> None:
    before = two_cores.look()
    two_cores.passes(10.0, 6.0, 10.0)
    two_cores.runs(OWN, 16.0)
    two_cores.cores[0] = two_cores.cores[0]._replace(steal=4.0)
    assert describe(between(before, two_cores.look())) == "the hypervisor takes 0.4 of 2 cores"


def test_all_causes_are_joined() -> None:
    load = Load(10.0, 1, 0.4, 0.2, 0.3, ())
    assert describe(load) == (
        "other programs take 0.4 of 1 core and the hypervisor takes 0.2 of 1 core and "
        "the control group's CPU quota stops this process 30 % of the time"
    )


@pytest.mark.parametrize(("others_cores", "contended"), [(0.19, False), (0.21, True)])
def test_up_to_a_twentieth_of_the_cores_is_nobodys_fault(others_cores: float, contended: bool) -> None:
    assert is_contended(Load(5.0, 4, others_cores, 0.0, 0.0, ())) is contended


def test_the_steps_of_the_counters_are_not_taken_for_a_program() -> None:
    """Over 50 ms, one step of a counter is a fifth or a third of a core."""
    assert not is_contended(Load(0.05, 1, 0.2, 0.0, 0.0, ()))
    assert is_contended(Load(0.05, 1, 0.9, 0.0, 0.0, ()))


def test_a_pinned_process_does_not_see_the_other_cores(tmp_path: Path) -> None:
    machine = Machine(tmp_path, [linux_core()] * 64)
    machine.pinned_to = frozenset({2, 3, 60, 61})
    before = machine.look()
    machine.passes(10.0, *[10.0] * 60, 0.0, 5.0, 10.0, 10.0)
    machine.runs(OWN, 15.0)
    load = between(before, machine.look())
    assert load.cores == 4
    assert load.others_cores == pytest.approx(1.0)


def test_cores_that_are_offline_do_not_shift_the_others(tmp_path: Path) -> None:
    """With hyper-threads switched off, the fourth core of the list is number 6."""
    (tmp_path / "sys/devices/system/cpu").mkdir(parents=True)
    (tmp_path / "sys/devices/system/cpu/online").write_text("0,2,4,6\n")
    machine = Machine(tmp_path, [linux_core()] * 4)
    machine.pinned_to = frozenset({0, 6})
    before = machine.look()
    machine.passes(10.0, 0.0, 10.0, 10.0, 3.0)
    load = between(before, machine.look())
    assert rounded(load) == Load(10.0, 2, 0.3, 0.0, 0.0, ())


def test_a_container_that_numbers_its_cores_anew_sees_them_all(tmp_path: Path) -> None:
    """LXC shows cores 8 to 11 as 0 to 3 in its lists, but not to sched_getaffinity."""
    machine = Machine(tmp_path, [linux_core()] * 4)
    machine.pinned_to = frozenset({8, 9, 10, 11})
    before = machine.look()
    machine.passes(10.0, 5.0, 5.0, 0.0, 0.0)
    load = between(before, machine.look())
    assert rounded(load) == Load(10.0, 4, 1.0, 0.0, 0.0, ())


@pytest.mark.parametrize(("busy_cores", "taken"), [(40, 0.0), (62, 0.0), (63, 1.0), (64, 2.0)])
def test_below_a_quota_others_matter_when_the_host_is_full(tmp_path: Path, busy_cores: int, taken: float) -> None:
    """2 of 64 cores may be used, wherever they are free."""
    control_group(tmp_path, V2_MOUNT, "0::/\n", {"cpu.max": "200000 100000\n", "cpu.stat": "throttled_usec 0\n"})
    machine = Machine(tmp_path, [linux_core()] * 64)
    before = machine.look()
    machine.passes(10.0, *[10.0] * busy_cores)
    load = between(before, machine.look())
    assert rounded(load) == Load(10.0, 2, taken, 0.0, 0.0, ())


def test_below_a_quota_stolen_time_is_a_share_of_the_cores_that_may_be_used(tmp_path: Path) -> None:
    control_group(tmp_path, V2_MOUNT, "0::/\n", {"cpu.max": "200000 100000\n"})
    machine = Machine(tmp_path, [linux_core()] * 8)
    before = machine.look()
    machine.cores, machine.now_s = [linux_core(steal=2.5)] * 8, machine.now_s + 10.0
    assert between(before, machine.look()).stolen_cores == pytest.approx(0.5)


V2_STAT = "usage_usec 9000000\nuser_usec 8000000\nnr_periods 90\nnr_throttled {n}\nthrottled_usec {us}\n"
V1_STAT = "nr_periods 90\nnr_throttled {n}\nthrottled_time {ns}\n"


def test_a_quota_that_stops_this_process_v2(tmp_path: Path) -> None:
    """Both threads of two cores are stopped for 3 of 10 seconds."""
    stat = tmp_path / "sys/fs/cgroup/job/cpu.stat"
    files = {"job/cpu.max": "200000 100000\n", "job/cpu.stat": V2_STAT.format(n=1, us=500_000)}
    control_group(tmp_path, V2_MOUNT, "0::/job\n", files)
    machine = Machine(tmp_path, [linux_core()] * 8)
    before = machine.look()
    stat.write_text(V2_STAT.format(n=31, us=6_500_000))
    machine.passes(10.0)
    load = between(before, machine.look())
    assert load.throttled_share == pytest.approx(0.3)
    assert describe(load) == "the control group's CPU quota stops this process 30 % of the time"


def test_a_quota_that_stops_this_process_v1(tmp_path: Path) -> None:
    stat = tmp_path / "sys/fs/cgroup/cpu,cpuacct/job/cpu.stat"
    files = {
        "cpu,cpuacct/job/cpu.cfs_quota_us": "100000\n",
        "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
        "cpu,cpuacct/job/cpu.stat": V1_STAT.format(n=0, ns=0),
    }
    control_group(tmp_path, V1_MOUNT, "2:cpu,cpuacct:/job\n", files)
    machine = Machine(tmp_path, [linux_core()] * 8)
    before = machine.look()
    stat.write_text(V1_STAT.format(n=9, ns=2_500_000_000))
    machine.passes(10.0)
    assert between(before, machine.look()).throttled_share == pytest.approx(0.25)


def test_of_nested_groups_the_one_that_was_stopped_longest_counts(tmp_path: Path) -> None:
    """They may have been stopped at the same time, and never for longer than there was time."""
    names = ("pod/cpu.stat", "pod/job/cpu.stat")
    control_group(tmp_path, V2_MOUNT, "0::/pod/job\n", dict.fromkeys(names, V2_STAT.format(n=0, us=0)))
    machine = Machine(tmp_path, [linux_core()])
    before = machine.look()
    for name, us in zip(names, (4_000_000, 1_000_000), strict=True):
        (tmp_path / "sys/fs/cgroup" / name).write_text(V2_STAT.format(n=1, us=us))
    machine.passes(10.0)
    assert between(before, machine.look()).throttled_share == pytest.approx(0.4)
    machine.now_s = before.at_s + 1.0
    assert between(before, machine.look()).throttled_share == 1.0


@pytest.mark.parametrize("programs", [True, False])
def test_a_server_below_a_guard_is_own_work_also_when_it_has_ended(two_cores: Machine, programs: bool) -> None:
    two_cores.starts(200, OWN, "guard")
    two_cores.starts(201, 200, "llama-server")
    two_cores.runs(201, 40.0)
    before = two_cores.look(programs=programs)
    two_cores.passes(10.0, 10.0, 10.0)
    two_cores.runs(201, 19.0)
    two_cores.starts(202, OWN, "short-lived")
    two_cores.runs(202, 1.0)
    two_cores.ends(202)
    alive = between(before, two_cores.look(programs=programs))
    two_cores.ends(201)
    guarded = between(before, two_cores.look(programs=programs))
    two_cores.ends(200)
    gone = between(before, two_cores.look(programs=programs))
    assert [load.others_cores for load in (alive, guarded, gone)] == [pytest.approx(0.0)] * 3
    assert alive.own_cores == pytest.approx(2.0)


def test_where_a_childs_time_is_told_to_nobody_what_was_seen_of_it_counts(two_cores: Machine) -> None:
    """Windows, and macOS for children of children: only what came after the last look is lost."""
    two_cores.starts(200, OWN)
    two_cores.runs(200, 500.0)
    first = two_cores.look(programs=False)
    two_cores.passes(10.0, 10.0, 0.0)
    two_cores.runs(200, 10.0)
    second = two_cores.look(programs=False)
    two_cores.passes(10.0, 1.0, 0.0)
    two_cores.runs(200, 1.0)
    two_cores.ends(200, told=False)
    third = two_cores.look(programs=False)
    assert between(first, second).others_cores == pytest.approx(0.0)
    assert between(second, third).others_cores == pytest.approx(0.1)


def test_a_build_is_named_by_who_started_its_compilers(two_cores: Machine) -> None:
    """Compilers come and go between two looks; their time goes to whoever waited for them."""
    two_cores.starts(20, 1, "make")
    two_cores.starts(21, 20, "cc1plus")
    two_cores.runs(21, 30.0)
    before = two_cores.look()
    two_cores.passes(10.0, 10.0, 0.0)
    two_cores.runs(21, 4.0)
    two_cores.ends(21)
    two_cores.starts(22, 20, "cc1plus")
    two_cores.runs(22, 5.0)
    two_cores.ends(22)
    two_cores.runs(9, 1.0)
    load = between(before, two_cores.look())
    assert rounded(load).programs == (Program("make", 0.9), Program("cc1plus", 0.1))


def test_a_cheap_look_lists_nobody(two_cores: Machine) -> None:
    before = two_cores.look(programs=False)
    two_cores.passes(10.0, 10.0, 10.0)
    two_cores.runs(OWN, 5.0)
    two_cores.runs(9, 15.0)
    cheap = two_cores.look(programs=False)
    assert two_cores.listings == 0
    assert describe(between(before, cheap)) == "other programs take 1.5 of 2 cores"
    whole = two_cores.look()
    assert between(before, whole) == between(before, cheap), "who it was is known from two lists only"


def test_a_program_elsewhere_has_not_taken_more_of_these_cores_than_all_others_did(tmp_path: Path) -> None:
    machine = Machine(tmp_path, [linux_core()] * 8, Process(5, 1, "train", 0.0))
    machine.pinned_to = frozenset({0, 1})
    before = machine.look()
    machine.passes(10.0, 5.0, 0.0, *[10.0] * 6)
    machine.runs(5, 65.0)
    assert between(before, machine.look()).programs == (Program("train", 0.5),)


def test_no_time_and_counters_that_went_back_are_zeros(two_cores: Machine) -> None:
    before = two_cores.look()
    assert between(before, two_cores.look()) == Load(0.0, 2, 0.0, 0.0, 0.0, ())
    two_cores.passes(10.0)
    two_cores.cores = [linux_core(user=-5.0, steal=-1.0)] * 2
    two_cores.runs(9, -50.0)
    assert between(before, two_cores.look()) == Load(10.0, 2, 0.0, 0.0, 0.0, ())
    backwards = between(two_cores.look(), before)
    assert backwards == Load(0.0, 2, 0.0, 0.0, 0.0, ())
    assert describe(backwards) == ""


def test_a_system_that_tells_nothing_is_a_machine_at_rest(tmp_path: Path) -> None:
    machine = Machine(tmp_path, [])
    before = machine.look()
    machine.passes(10.0)
    machine.runs(OWN, 3.0)
    assert rounded(between(before, machine.look())) == Load(10.0, 1, 0.0, 0.0, 0.0, ())


SECONDS = st.floats(-100.0, 100.0)
PROCESSES = st.lists(
    st.builds(Process, st.integers(0, 9), st.integers(0, 9), st.sampled_from("abcd"), SECONDS, SECONDS), max_size=8
)
CORE_TIMES = st.builds(linux_core, user=SECONDS, steal=SECONDS)


@st.composite
def looks(draw: st.DrawFn) -> Look:
    """Anything at all, also what no system would say."""
    own = draw(PROCESSES)
    everyone = draw(PROCESSES)
    sources = Sources(
        root=Path("/nowhere"),
        clock=lambda: draw(SECONDS),
        core_times=lambda: draw(st.lists(CORE_TIMES, max_size=4)),
        affinity=lambda: draw(st.frozensets(st.integers(0, 5))),
        own_processes=lambda: own,
        all_processes=lambda: everyone,
    )
    look = LoadMeter(sources).look(programs=draw(st.booleans()))
    return dataclasses.replace(
        look,
        usable_cores=draw(st.integers(1, 4)),
        throttled_s=draw(st.dictionaries(st.sampled_from([Path("/a"), Path("/b")]), SECONDS)),
    )


@given(before=looks(), after=looks())
def test_whatever_the_counters_say_a_load_is_possible(before: Look, after: Look) -> None:
    load = between(before, after)
    assert load.wall_s >= 0.0
    assert load.cores >= 1
    assert 0.0 <= load.others_cores <= load.cores
    assert 0.0 <= load.stolen_cores <= load.cores
    assert 0.0 <= load.throttled_share <= 1.0
    assert len(load.programs) <= 3
    assert all(0.1 <= program.cores <= load.others_cores for program in load.programs)
    assert [one.cores for one in load.programs] == sorted((one.cores for one in load.programs), reverse=True)
    assert is_contended(load) == bool(describe(load))


@given(data=st.data(), programs=st.booleans())
def test_others_are_what_is_left_however_own_processes_come_and_go(data: st.DataObject, programs: bool) -> None:
    """Processes start, work and end at random below this one, and a stranger works beside them."""
    machine = Machine(Path("/nowhere"), [linux_core()] * 4, Process(1, 0, "init", 0.0), Process(2, 1, "stranger", 70.0))
    numbers = itertools.count(OWN + 1)

    def happens(steps: int) -> tuple[float, float]:
        own_s = stranger_s = 0.0
        for _ in range(steps):
            own = [one.pid for one in machine.own()]
            leaves = [pid for pid in own if pid != OWN and all(one.parent != pid for one in machine.processes.values())]
            what = data.draw(st.sampled_from(["start", "work", "work", "stranger", *(["end"] if leaves else [])]))
            seconds = data.draw(st.integers(1, 8)) / 8
            if what == "start":
                machine.starts(next(numbers), data.draw(st.sampled_from(own)))
            elif what == "work":
                machine.runs(data.draw(st.sampled_from(own)), seconds)
                own_s += seconds
            elif what == "stranger":
                machine.runs(2, seconds)
                stranger_s += seconds
            else:
                machine.ends(data.draw(st.sampled_from(leaves)))
        return own_s, stranger_s

    happens(data.draw(st.integers(0, 10)))
    before = machine.look(programs=programs)
    own_s, stranger_s = happens(data.draw(st.integers(0, 20)))
    machine.passes(20.0, *[(own_s + stranger_s) / 4] * 4)
    load = between(before, machine.look(programs=programs))
    assert load.others_cores == pytest.approx(stranger_s / 20.0, abs=1e-9)
    if programs and stranger_s >= 2.1:
        assert rounded(load).programs == (Program("stranger", stranger_s / 20.0),)


def test_linux_names_the_processes_below_this_one_without_looking_at_others(tmp_path: Path) -> None:
    """Any thread of a process may have started children; processes end while they are asked for."""
    children = {"100/task/100": "", "100/task/105": "200 300 ", "200/task/200": "201 ", "201/task/201": ""}
    for name, content in children.items():
        (tmp_path / "proc" / name).mkdir(parents=True)
        (tmp_path / "proc" / name / "children").write_text(content)
    assert sorted(family(100, tmp_path)) == [100, 200, 201, 300]


SPIN = """
import time
end = time.perf_counter() + 0.25
while time.perf_counter() < end:
    pass
print(flush=True)
while True:
    pass
"""


@contextlib.contextmanager
def python_named(path: Path, *, shell: str) -> Iterator[None]:
    """A program of the name of ``path``, started by a shell, has worked for a quarter of a second; then it is ended."""
    path.symlink_to(Path(sys.executable).resolve())
    command = ["sh", "-c", shell, "sh", str(path), "-I", "-S", "-c", SPIN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        try:
            parent.stdout.readline()
            yield
        finally:
            psutil.Process(pid).kill()


@pytest.mark.alone
@pytest.mark.skipif(sys.platform != "linux" or os.getpid() == 1, reason="a link names it, and init adopts it, there")
def test_a_child_of_a_child_is_own_work_and_a_stranger_is_not(tmp_path: Path) -> None:
    before = LoadMeter().look()
    with python_named(tmp_path / "own-program", shell='"$@" & echo $!; wait'):
        own = between(before, LoadMeter().look())
    before = LoadMeter().look()
    with python_named(tmp_path / "a-stranger", shell='"$@" & echo $!'):
        stranger = between(before, LoadMeter().look())
    assert "own-program" not in {one.name for one in own.programs}
    assert "a-stranger" in {one.name for one in stranger.programs}
    assert stranger.others_cores >= 0.1


def test_this_machine() -> None:
    meter = LoadMeter()
    load = between(meter.look(programs=False), meter.look())
    assert 1 <= load.cores <= (os.cpu_count() or 1)
    assert 0.0 <= load.others_cores <= load.cores
    assert load.programs == ()
