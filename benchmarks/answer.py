"""Time to answer: the command as a user runs it, from an empty store, with the memory its parent process takes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from advisor.errors import EngineError
from advisor.report import json_document
from advisor.types import Recommendation
from benchmarks.grid import long_answers_jsonl

SAMPLE_EVERY_S = 0.1


@dataclass(frozen=True)
class Answered:
    """``parent_peak_bytes`` is resident memory of the advisor's own process, without its workers."""

    wall_s: float
    parent_peak_bytes: int
    recommendation: Recommendation


def recommend(target: Path, drafts: Sequence[Path], *, budget: str, context: int, max_tokens: int) -> Answered:
    """`advisor recommend` over the long answers in a process of its own. EngineError when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        workload, answer = Path(folder) / "prompts.jsonl", Path(folder) / "answer.json"
        workload.write_text(long_answers_jsonl(), encoding="utf-8")
        command = [sys.executable, "-m", "advisor", "recommend", "--target", str(target), "--format", "json"]
        command += [part for draft in drafts for part in ("--draft", str(draft))]
        command += ["--workload", str(workload), "--output", str(answer), "--budget", budget]
        command += ["--context", str(context), "--max-tokens", str(max_tokens)]
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            env={**os.environ, "ADVISOR_DATA_DIR": str(Path(folder) / "data")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        peak = Peak(process.pid)
        _, errors = process.communicate()
        wall_s = time.perf_counter() - started
        if process.returncode:
            raise EngineError(f"{' '.join(command)} exited {process.returncode}.", why=errors)
        return Answered(wall_s, peak.stop(), json_document.load(answer.read_bytes()))


class Peak:
    """Samples the resident memory of a process until it ends."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.is_set():
            try:
                self._peak = max(self._peak, self._process.memory_info().rss)
            except psutil.Error:
                return
            self._done.wait(SAMPLE_EVERY_S)

    def stop(self) -> int:
        self._done.set()
        self._thread.join()
        return self._peak
