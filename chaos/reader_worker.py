"""Reads model files for a parent that watches. Run as ``python -m chaos.reader_worker``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from advisor.engines.own_memory import at_most_more, forget_peak, peak_bytes
from advisor.engines.worker import serve
from advisor.gguf import read_model
from advisor.types import Host, from_json
from chaos.reading import read_as_promised

MEMORY_BYTES = 1 << 30


class Reader:
    def prepare(self, target: str, host: str) -> dict[str, Any]:
        self._target, self._host = read_model(Path(target)), from_json(Host, host)
        read_as_promised(Path(target), self._target, self._host)  # imports are done before memory is counted
        return {}

    def read(self, path: str) -> dict[str, Any]:
        forget_peak()
        before, started = peak_bytes(), time.perf_counter()
        with at_most_more(MEMORY_BYTES):
            verdict = read_as_promised(Path(path), self._target, self._host)
        return {"verdict": verdict, "seconds": time.perf_counter() - started, "more_bytes": peak_bytes() - before}


if __name__ == "__main__":
    serve(Reader(), ("prepare", "read"))
