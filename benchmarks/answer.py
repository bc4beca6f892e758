"""`advisor recommend` as a user runs it: in a process of its own, from an empty store, with its time and its memory."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from advisor.errors import EngineError
from advisor.report import json_document
from advisor.types import Recommendation
from benchmarks.checkout import ROOT, environment

SAMPLE_EVERY_S = 0.1


@dataclass(frozen=True)
class Question:
    """What the command is asked. ``budget`` as on its command line, e.g. "5m"; ``options``: more words of that line;
    ``prompts``: JSON Lines, "" for the built-in ones."""

    target: Path
    drafts: tuple[Path, ...]
    budget: str
    options: tuple[str, ...] = ()
    prompts: str = ""


@dataclass(frozen=True)
class Answered:
    """``parent_peak_bytes`` is resident memory of the advisor's own process, without its workers."""

    wall_s: float
    parent_peak_bytes: int
    recommendation: Recommendation


@dataclass(frozen=True)
class Failed:
    """``errors``: all that it wrote to standard error, what it noted on the way included."""

    wall_s: float
    exit_code: int
    errors: str

    @property
    def line(self) -> str:
        """The first line of its error, or the last of a traceback."""
        lines = self.errors.strip().splitlines() or [f"exit code {self.exit_code}"]
        return next((line for line in lines if line.startswith("error: ")), lines[-1])


Ended = Answered | Failed


def recommend(question: Question, root: Path = ROOT) -> Answered:
    """As ``ask``. EngineError when the command fails."""
    ended = ask(question, root)
    if isinstance(ended, Failed):
        raise EngineError(f"advisor recommend exited {ended.exit_code}.", why=ended.errors)
    return ended


def ask(question: Question, root: Path = ROOT) -> Ended:
    """``root``: of the repository whose advisor is asked."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        saved = folder / "answer.json"
        command = [sys.executable, "-P", "-m", "advisor", "recommend", *_words(question, folder)]
        started = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--format", "json", "--output", str(saved)],
            env={**environment(root), "ADVISOR_DATA_DIR": str(folder / "data")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        peak = Peak(process.pid)
        _, errors = process.communicate()
        wall_s, peak_bytes = time.perf_counter() - started, peak.stop()
        if process.returncode:
            return Failed(wall_s, process.returncode, errors)
        return Answered(wall_s, peak_bytes, json_document.load(saved.read_bytes()))


def _words(question: Question, folder: Path) -> list[str]:
    """Of the command line, with the prompts in a file below ``folder``."""
    words = ["--target", str(question.target), "--budget", question.budget, *question.options]
    words += [word for draft in question.drafts for word in ("--draft", str(draft))]
    if question.prompts:
        path = folder / "prompts.jsonl"
        path.write_text(question.prompts, encoding="utf-8")
        words += ["--workload", str(path)]
    return words


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
