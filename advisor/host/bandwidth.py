"""How fast this machine reads its memory, at least.

Decoding one token reads every weight once, so this number bounds tokens per second before any model is there.

The buffer is big, so a child process holds it: the memory of the advisor's own process stays small.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

MIB = 1024**2
_LARGEST_BUFFER_BYTES = 1024 * MIB
_SMALLEST_BUFFER_BYTES = 64 * MIB
_BUFFER_PER_CACHE = 4
_SHARE_OF_AVAILABLE = 4
_ROUND_S = 0.05
_FEWEST_ROUNDS = 3
_TIME_LIMIT_S = 60.0  # the pages of the buffer are slow to get on a busy machine


def measured_by_child(available_bytes: int, threads: int, cache_bytes: int) -> float | None:
    """``measure_read_bandwidth`` in a process of its own. None, too, where that fails: it may find no memory."""
    asked = [sys.executable, "-P", "-m", "advisor.host.bandwidth", *map(str, (available_bytes, threads, cache_bytes))]
    try:
        child = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIME_LIMIT_S, check=True)
        return float(json.loads(child.stdout) or 0) or None
    except (OSError, subprocess.SubprocessError, ValueError, TypeError):
        return None


def measure_read_bandwidth(
    available_bytes: int,
    threads: int,
    *,
    cache_bytes: int = 0,
    budget_s: float = 1.5,
    clock: Callable[[], float] = time.perf_counter,
) -> float | None:
    """Bytes per second of the best of several rounds in which ``threads`` threads read one big buffer.

    A lower bound: a better kernel, huge pages or an idle machine may reach more. None where a buffer of 4 times the
    last-level cache (``cache_bytes``), or 64 MiB, does not fit in a quarter of the available memory, because what
    would be measured is the cache.

    The read is ``numpy.bitwise_or.reduce`` over 64-bit words: it releases the GIL, its result needs no care for
    rounding, and it does not stop early. Measured over 1 GiB on a 2-core EPYC virtual machine (numpy 2.4), with
    one and two threads in GB/s: or 31.3 and 34.3, integer sum 31.0 and 33.9, float64 sum 30.4 and 34.4, float32
    sum 25.4 and 34.7, integer max 29.1 and 33.3, float32 dot 31.4 and 33.8 (but dot may start BLAS threads of its
    own).
    """
    buffer_bytes = min(_LARGEST_BUFFER_BYTES, available_bytes // _SHARE_OF_AVAILABLE)
    if buffer_bytes < max(_SMALLEST_BUFFER_BYTES, _BUFFER_PER_CACHE * cache_bytes):
        return None
    with ThreadPoolExecutor(threads) as pool:
        try:
            parts = list(pool.map(_filled, [buffer_bytes // threads // 8] * threads))
        except MemoryError:
            return None
        return _best_rate(lambda passes: _read_all(pool, parts, passes), sum(p.nbytes for p in parts), budget_s, clock)


def _best_rate(
    read: Callable[[int], None], bytes_per_pass: int, budget_s: float, clock: Callable[[], float]
) -> float | None:
    """The highest rate of the rounds that begin within ``budget_s``; a round is long enough to hide thread starts."""
    begin = clock()
    read(1)
    passes = max(1, round(_ROUND_S / max(clock() - begin, 1e-6)))
    best, rounds = 0.0, 0
    while rounds < _FEWEST_ROUNDS or clock() - begin < budget_s:
        start = clock()
        read(passes)
        duration_s = clock() - start
        rounds += 1
        if duration_s > 0:
            best = max(best, passes * bytes_per_pass / duration_s)
    return best or None


def _filled(words: int) -> Any:
    """A buffer with real pages behind it: untouched ones all map to a single page of zeros, which sits in the cache.

    Filled by the thread pool, so that on machines with several memory nodes the pages are spread over them.
    """
    import numpy as np

    return np.full(words, 1, dtype=np.uint64)


def _read_all(pool: ThreadPoolExecutor, parts: list[Any], passes: int) -> None:
    import numpy as np

    def read(part: Any) -> None:
        for _ in range(passes):
            np.bitwise_or.reduce(part)

    list(pool.map(read, parts))


if __name__ == "__main__":
    _available_bytes, _threads, _cache_bytes = map(int, sys.argv[1:])
    print(json.dumps(measure_read_bandwidth(_available_bytes, _threads, cache_bytes=_cache_bytes)))
