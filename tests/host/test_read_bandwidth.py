from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from advisor.host.bandwidth import measure_read_bandwidth, measured_by_child

pytestmark = pytest.mark.alone

MIB = 1024**2
GIB = 1024**3


def test_this_machine_reads_at_a_believable_rate() -> None:
    rate = measure_read_bandwidth(512 * MIB, threads=2, budget_s=0.05)
    assert rate is not None
    assert 0.1e9 < rate < 5e12


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="says nothing of its peak memory")
def test_a_child_measures_so_that_this_process_stays_small() -> None:
    program = (
        "from advisor.host.bandwidth import measured_by_child\n"
        f"print(measured_by_child({4 * GIB}, 2, 0))\n"
        "print(open('/proc/self/status').read())\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert 0.1e9 < float(said.partition("\n")[0]) < 5e12
    peak_kib = re.findall(r"VmHWM:\s+(\d+) kB", said)
    assert int(peak_kib[0]) * 1024 < 100 * MIB


def test_a_child_that_cannot_say_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured_by_child(200 * MIB, 1, 0) is None
    monkeypatch.setattr(sys, "executable", "no-such-program")
    assert measured_by_child(2 * GIB, 1, 0) is None


@pytest.mark.parametrize(
    ("available_bytes", "cache_bytes"),
    [(200 * MIB, 0), (4 * GIB, 300 * MIB), (1024 * GIB, GIB)],
    ids=["too little memory", "not four caches in a quarter", "the cache is as big as the biggest buffer"],
)
def test_a_cache_is_never_taken_for_memory(available_bytes: int, cache_bytes: int) -> None:
    assert measure_read_bandwidth(available_bytes, threads=1, cache_bytes=cache_bytes) is None


def test_the_best_round_counts() -> None:
    """A first pass of 10 ms makes rounds of 5 passes; they then take 80, 40 and 60 ms."""
    times = iter([0.0, 0.010, 1.0, 1.080, 2.0, 2.040, 3.0, 3.060, 9.0])
    buffer_bytes = 64 * MIB
    rate = measure_read_bandwidth(4 * buffer_bytes, threads=1, budget_s=4.0, clock=lambda: next(times))
    assert rate == pytest.approx(5 * buffer_bytes / 0.040)


def test_measuring_takes_about_its_budget() -> None:
    begin = time.perf_counter()
    measure_read_bandwidth(256 * MIB, threads=1, budget_s=0.0)
    assert time.perf_counter() - begin < 5
