"""RAM and CPU limits, on control group trees as they were recorded on real systems."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from advisor.host.cpu import usable_cores
from advisor.host.memory import AddressSpace, Ram, physical_ram, usable_ram

GIB = 1024**3
MACHINE = Ram(total_bytes=64 * GIB, available_bytes=50 * GIB)

V2_MOUNT = "31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNTS = (
    "32 31 0:29 {root} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    "33 31 0:30 {root} /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
)
V1_UNLIMITED = "9223372036854771712\n"


def write_tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return root


def v2_tree(root: Path, own: str, files: dict[str, str]) -> Path:
    groups = {f"sys/fs/cgroup/{name}": content for name, content in files.items()}
    return write_tree(root, {"proc/self/cgroup": f"0::{own}\n", "proc/self/mountinfo": V2_MOUNT, **groups})


def v1_tree(root: Path, own: str, mount_root: str, files: dict[str, str]) -> Path:
    paths = f"9:name=systemd:{own}\n4:memory:{own}\n2:cpu,cpuacct:{own}\n"
    mounts = V1_MOUNTS.format(root=mount_root)
    groups = {f"sys/fs/cgroup/{name}": content for name, content in files.items()}
    return write_tree(root, {"proc/self/cgroup": paths, "proc/self/mountinfo": mounts, **groups})


def test_without_control_groups_the_machine_is_what_there_is(tmp_path: Path) -> None:
    assert usable_ram(MACHINE, tmp_path) == MACHINE
    assert usable_cores(12, tmp_path) == 12


def test_v2_limit_of_a_container_caps_total_and_available(tmp_path: Path) -> None:
    # a container sees its own group as "/"
    root = v2_tree(
        tmp_path,
        "/",
        {
            "memory.max": f"{8 * GIB}\n",
            "memory.current": f"{6 * GIB}\n",
            "memory.stat": f"anon {2 * GIB}\nfile {4 * GIB}\ninactive_file {1 * GIB}\nactive_file {3 * GIB}\n",
            "cpu.max": "250000 100000\n",
        },
    )
    # 6 GiB are charged, but 4 GiB of them are file cache
    assert usable_ram(MACHINE, root) == Ram(total_bytes=8 * GIB, available_bytes=(8 - 6 + 4) * GIB)
    assert usable_cores(12, root) == 2


def test_v2_the_tightest_group_on_the_way_up_counts(tmp_path: Path) -> None:
    root = v2_tree(
        tmp_path,
        "/user.slice/app.scope",
        {
            "user.slice/app.scope/memory.max": "max\n",
            "user.slice/app.scope/memory.current": f"{GIB}\n",
            "user.slice/app.scope/cpu.max": "max 100000\n",
            "user.slice/memory.max": f"{16 * GIB}\n",
            "user.slice/memory.current": f"{10 * GIB}\n",
            "user.slice/memory.stat": f"inactive_file {2 * GIB}\n",
            "user.slice/cpu.max": "300000 100000\n",
        },
    )
    assert usable_ram(MACHINE, root) == Ram(total_bytes=16 * GIB, available_bytes=8 * GIB)
    assert usable_cores(12, root) == 3


def test_v2_memory_high_limits_as_well(tmp_path: Path) -> None:
    files = {"job/memory.max": f"{32 * GIB}", "job/memory.high": f"{12 * GIB}", "job/memory.current": f"{2 * GIB}"}
    root = v2_tree(tmp_path, "/job", files)
    assert usable_ram(MACHINE, root) == Ram(total_bytes=12 * GIB, available_bytes=10 * GIB)


def test_a_limit_above_the_machine_changes_nothing(tmp_path: Path) -> None:
    root = v2_tree(tmp_path, "/job", {"job/memory.max": f"{512 * GIB}", "job/memory.current": "0"})
    assert usable_ram(MACHINE, root) == MACHINE


def test_a_group_above_its_limit_leaves_nothing_and_not_less(tmp_path: Path) -> None:
    root = v2_tree(tmp_path, "/job", {"job/memory.max": f"{4 * GIB}", "job/memory.current": f"{5 * GIB}"})
    assert usable_ram(MACHINE, root).available_bytes == 0


def test_v1_limits(tmp_path: Path) -> None:
    root = v1_tree(
        tmp_path,
        "/jobs/one",
        "/",
        {
            "memory/jobs/one/memory.limit_in_bytes": f"{10 * GIB}\n",
            "memory/jobs/one/memory.usage_in_bytes": f"{7 * GIB}\n",
            # the plain names count this group alone, the total_ names the groups below it as well
            "memory/jobs/one/memory.stat": f"inactive_file 0\ntotal_inactive_file {2 * GIB}\ntotal_active_file {GIB}\n",
            "memory/jobs/memory.limit_in_bytes": V1_UNLIMITED,
            "memory/memory.limit_in_bytes": V1_UNLIMITED,
            "cpu,cpuacct/jobs/one/cpu.cfs_quota_us": "-1\n",
            "cpu,cpuacct/jobs/one/cpu.cfs_period_us": "100000\n",
            "cpu,cpuacct/jobs/cpu.cfs_quota_us": "400000\n",
            "cpu,cpuacct/jobs/cpu.cfs_period_us": "100000\n",
        },
    )
    assert usable_ram(MACHINE, root) == Ram(total_bytes=10 * GIB, available_bytes=6 * GIB)
    assert usable_cores(12, root) == 4


@pytest.mark.parametrize("mount_root", ["/docker/3f2a", "/"])
def test_v1_in_a_container_whose_own_path_is_the_hosts(tmp_path: Path, mount_root: str) -> None:
    """The container sees /docker/3f2a in /proc/self/cgroup, but the files lie at the mount point itself."""
    root = v1_tree(
        tmp_path,
        "/docker/3f2a",
        mount_root,
        {
            "memory/memory.limit_in_bytes": f"{6 * GIB}\n",
            "memory/memory.usage_in_bytes": f"{1 * GIB}\n",
            "cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
            "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    assert usable_ram(MACHINE, root) == Ram(total_bytes=6 * GIB, available_bytes=5 * GIB)
    assert usable_cores(12, root) == 1, "half a core is still a thread"


def test_a_path_outside_of_the_namespace_ends_at_the_mount_point(tmp_path: Path) -> None:
    root = v2_tree(tmp_path, "/../../other", {"memory.max": f"{5 * GIB}", "memory.current": f"{GIB}"})
    assert usable_ram(MACHINE, root).total_bytes == 5 * GIB


def test_v1_memory_beside_a_v2_hierarchy_without_controllers(tmp_path: Path) -> None:
    """The hybrid layout of older distributions."""
    files = {
        "proc/self/cgroup": "4:memory:/job\n0::/job\n",
        "proc/self/mountinfo": V1_MOUNTS.format(root="/")
        + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
        "sys/fs/cgroup/unified/job/cgroup.procs": "1\n",
        "sys/fs/cgroup/memory/job/memory.limit_in_bytes": f"{3 * GIB}",
        "sys/fs/cgroup/memory/job/memory.usage_in_bytes": f"{GIB}",
    }
    assert usable_ram(MACHINE, write_tree(tmp_path, files)) == Ram(total_bytes=3 * GIB, available_bytes=2 * GIB)


def test_nonsense_in_the_files_is_no_limit(tmp_path: Path) -> None:
    files = {"job/memory.max": "lots", "job/memory.stat": "inactive_file\nx y z\n", "job/cpu.max": "fast 0"}
    root = v2_tree(tmp_path, "/job", files)
    assert usable_ram(MACHINE, root) == MACHINE
    assert usable_cores(12, root) == 12


def test_this_machine_has_memory() -> None:
    ram = usable_ram(physical_ram())
    assert 0 < ram.available_bytes <= ram.total_bytes


def test_a_limit_on_address_space_counts_what_a_process_has_left(tmp_path: Path) -> None:
    space = AddressSpace(limit_bytes=10 * GIB, used_bytes=1 * GIB)
    assert usable_ram(MACHINE, tmp_path, space) == Ram(total_bytes=10 * GIB, available_bytes=9 * GIB)
    assert usable_ram(MACHINE, tmp_path, AddressSpace(1 * GIB, 2 * GIB)).available_bytes == 0
    assert usable_ram(MACHINE, tmp_path, AddressSpace(900 * GIB, GIB)) == MACHINE


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces RLIMIT_AS")
def test_a_child_below_ulimit_sees_its_limit() -> None:
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30)); "
        "from advisor.host.memory import address_space; print(address_space())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"AddressSpace(limit_bytes={3 << 30}, used_bytes=")
