from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from advisor.host import Sources, fingerprint, probe, with_decode_bandwidth
from advisor.host.devices import Listing
from advisor.host.memory import Ram
from advisor.types import Device, Host, from_json, to_json

GIB = 1024**3
CPU = Device("CPU", "Example 9000", "cpu", 64 * GIB, 64 * GIB, unified=True)
GPU = Device("CUDA0", "NVIDIA GeForce RTX 4090", "gpu", 24 * GIB, 23 * GIB)


class Machine:
    """A recorded Linux machine that counts how often its bandwidth was measured."""

    def __init__(self, root: Path, rate: float | None = 40e9) -> None:
        (root / "proc").mkdir(parents=True, exist_ok=True)
        (root / "proc/cpuinfo").write_text("model name : Example 9000\nflags : avx avx2\n")
        self.root, self.rate, self.measured = root, rate, 0

    def sources(self, **changes: Any) -> Sources:
        sources = Sources(
            root=self.root,
            system="Linux",
            machine="x86_64",
            sysctl=str,
            physical_ram=lambda: Ram(64 * GIB, 50 * GIB),
            physical_cores=lambda: 8,
            schedulable_cores=lambda: 16,
            list_devices=lambda: Listing(devices=(GPU, CPU), system_info="CPU : FMA = 1 | "),
            read_bandwidth=self.measure,
            now=lambda: datetime(2025, 3, 1, 12, 0, tzinfo=UTC),
        )
        return dataclasses.replace(sources, **changes)

    def measure(self, available_bytes: int, threads: int, cache_bytes: int) -> float | None:
        assert (available_bytes, threads) == (50 * GIB, 16)
        self.measured += 1
        return self.rate


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


@pytest.fixture
def store_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def profile_path(store_dir: Path) -> Path:
    (path,) = (store_dir / "hosts").iterdir()
    return path


def test_a_host_has_everything_that_was_found(machine: Machine, store_dir: Path) -> None:
    host = probe(store_dir=store_dir, sources=machine.sources())
    assert (host.os, host.cpu, host.isa) == ("Linux x86_64", "Example 9000", ("avx", "avx2", "fma"))
    assert (host.cores_physical, host.cores_usable) == (8, 16)
    assert (host.ram_total_bytes, host.ram_available_bytes) == (64 * GIB, 50 * GIB)
    assert host.devices[0] == GPU
    assert host.devices[1].memory_free_bytes == 50 * GIB, "not what ggml calls free"
    assert host.read_bandwidth_bytes_per_s == 40e9
    assert host.decode_bandwidth_bytes_per_s is None
    assert host.measured_at == "2025-03-01T12:00:00+00:00"
    assert host.notes == ()


def test_bandwidth_is_measured_once_and_free_memory_each_time(machine: Machine, store_dir: Path) -> None:
    first = probe(store_dir=store_dir, sources=machine.sources())
    second = probe(store_dir=store_dir, sources=machine.sources(physical_ram=lambda: Ram(64 * GIB, 9 * GIB)))
    assert machine.measured == 1
    assert second == dataclasses.replace(
        first,
        ram_available_bytes=9 * GIB,
        devices=(GPU, dataclasses.replace(first.devices[1], memory_free_bytes=9 * GIB)),
    )


def test_fresh_measures_again_and_keeps_the_new_value(machine: Machine, store_dir: Path) -> None:
    probe(store_dir=store_dir, sources=machine.sources())
    machine.rate = 30e9
    assert probe(store_dir=store_dir, fresh=True, sources=machine.sources()).read_bandwidth_bytes_per_s == 30e9
    assert probe(store_dir=store_dir, sources=machine.sources()).read_bandwidth_bytes_per_s == 30e9
    assert machine.measured == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: b"\xff\x00 not JSON",
        lambda content: b'{"fingerprint": 3}',
        lambda content: json.dumps({**json.loads(content), "fingerprint": "another machine"}).encode(),
        lambda content: json.dumps({**json.loads(content), "read_bandwidth_bytes_per_s": None}).encode(),
        lambda content: json.dumps({**json.loads(content), "read_bandwidth_bytes_per_s": -1.0}).encode(),
    ],
    ids=["empty", "cut", "binary", "other shape", "other host", "no number", "negative"],
)
def test_a_damaged_profile_is_measured_again_and_replaced(machine: Machine, store_dir: Path, damage: Any) -> None:
    good = probe(store_dir=store_dir, sources=machine.sources())
    path = profile_path(store_dir)
    path.write_bytes(damage(path.read_bytes()))
    assert probe(store_dir=store_dir, sources=machine.sources()) == good
    assert machine.measured == 2
    assert from_json(Host, profile_path(store_dir).read_bytes()) == good


def test_a_data_directory_that_cannot_be_written_is_a_note(machine: Machine, store_dir: Path) -> None:
    store_dir.write_text("a file where the directory should be")
    host = probe(store_dir=store_dir, sources=machine.sources())
    assert host.read_bandwidth_bytes_per_s == 40e9
    assert "measured again next time" in " ".join(host.notes)


def test_too_little_memory_is_a_note_and_is_tried_again(machine: Machine, store_dir: Path) -> None:
    machine.rate = None
    host = probe(store_dir=store_dir, sources=machine.sources())
    assert host.read_bandwidth_bytes_per_s is None
    assert "not measured" in " ".join(host.notes)
    machine.rate = 40e9
    assert probe(store_dir=store_dir, sources=machine.sources()).read_bandwidth_bytes_per_s == 40e9


def test_what_the_device_listing_says_reaches_the_reader(machine: Machine, store_dir: Path) -> None:
    sources = machine.sources(list_devices=lambda: Listing(note="GPUs were not looked at: crash."))
    host = probe(store_dir=store_dir, sources=sources)
    assert host.devices == ()
    assert host.notes == ("GPUs were not looked at: crash.",)


def test_a_host_survives_json(machine: Machine, store_dir: Path) -> None:
    host = with_decode_bandwidth(probe(store_dir=store_dir, sources=machine.sources()), 10**9, 0.05)
    assert from_json(Host, to_json(host)) == host


def test_the_fingerprint_is_that_of_the_machine_and_not_of_the_moment() -> None:
    base = fingerprint("Linux x86_64", "Example 9000", 16, 64 * GIB, (GPU, CPU))
    busy = dataclasses.replace(GPU, memory_free_bytes=1)
    assert fingerprint("Linux x86_64", "Example 9000", 16, 64 * GIB + 50_000_000, (CPU, busy)) == base
    others = [
        fingerprint("Windows AMD64", "Example 9000", 16, 64 * GIB, (GPU, CPU)),
        fingerprint("Linux x86_64", "Example 9001", 16, 64 * GIB, (GPU, CPU)),
        fingerprint("Linux x86_64", "Example 9000", 8, 64 * GIB, (GPU, CPU)),
        fingerprint("Linux x86_64", "Example 9000", 16, 32 * GIB, (GPU, CPU)),
        fingerprint("Linux x86_64", "Example 9000", 16, 64 * GIB, (CPU,)),
        fingerprint("Linux x86_64", "Example 9000", 16, 64 * GIB, (dataclasses.replace(GPU, description="RTX 3060"),)),
    ]
    assert len({base, *others}) == len(others) + 1


def test_the_fingerprint_does_not_change_between_versions() -> None:
    """Every stored measurement hangs on it: a change here makes all users measure again."""
    assert fingerprint("Linux x86_64", "Example 9000", 16, 64 * GIB, (GPU, CPU)) == "ef60d064a95cf202"


def test_a_listing_that_failed_on_a_machine_without_gpu_keeps_the_fingerprint() -> None:
    assert fingerprint("Linux", "Example", 4, GIB, (CPU,)) == fingerprint("Linux", "Example", 4, GIB, ())


def test_decode_bandwidth_is_the_best_decode_seen(machine: Machine, store_dir: Path) -> None:
    host = probe(store_dir=store_dir, sources=machine.sources())
    once = with_decode_bandwidth(host, model_active_bytes=2_000_000_000, token_s=0.1)
    assert once.decode_bandwidth_bytes_per_s == pytest.approx(20e9)
    assert with_decode_bandwidth(once, 2_000_000_000, 0.2) == once, "a slower decode proves nothing"
    assert with_decode_bandwidth(once, 2_000_000_000, 0.05).decode_bandwidth_bytes_per_s == pytest.approx(40e9)
    with pytest.raises(ValueError, match="positive"):
        with_decode_bandwidth(host, 1, 0.0)


def test_this_machine(tmp_path: Path) -> None:
    sources = Sources(read_bandwidth=lambda available_bytes, threads, cache_bytes: 10e9)
    host = probe(store_dir=tmp_path, sources=sources)
    assert host.cores_usable >= 1
    assert 0 < host.ram_available_bytes <= host.ram_total_bytes
    assert host.cpu
    assert probe(store_dir=tmp_path, sources=sources).fingerprint == host.fingerprint
