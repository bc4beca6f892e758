"""The command line in a process of its own: started, watched, killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from advisor.engines.process import child_environment
from advisor.report.json_document import load
from chaos.ledger import LEDGER
from chaos.simulated_worker import PACE
from chaos.world import SETTINGS, WORKLOAD, Models, summary

LONGEST_S = 120.0
PACE_S = 0.03


@dataclass(frozen=True)
class Ended:
    """``killed``: before it ended by itself."""

    code: int
    output: str
    errors: str

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL

    @property
    def answer(self) -> tuple[object, ...]:
        """What two recommendations that mean the same have in common."""
        return summary(load(self.output))


def recommend_command(models: Models, workload: Path) -> list[str]:
    """``advisor recommend`` over simulated workers. ``workload`` is written."""
    workload.write_text("\n".join(prompt.messages[0].content for prompt in WORKLOAD.prompts))
    drafts = [argument for draft in models.drafts for argument in ("--draft", str(draft))]
    settings = {
        "--context": SETTINGS.context,
        "--max-tokens": SETTINGS.max_tokens,
        "--k-max": SETTINGS.k_max,
        "--threads": SETTINGS.threads,
        "--budget": f"{SETTINGS.budget_s:.0f}s",
        "--workload": workload,
    }
    options = [str(part) for pair in settings.items() for part in pair]
    target = ["--target", str(models.target)]
    return [
        sys.executable,
        "-m",
        "chaos.simulated_advisor",
        "recommend",
        *target,
        *drafts,
        *options,
        "--format",
        "json",
    ]


class Advisor:
    """One running command."""

    def __init__(
        self,
        command: list[str],
        data: Path,
        *,
        ledger: Path,
        more: Mapping[str, str] | None = None,
        pace_s: float = 0.0,
    ) -> None:
        environment = {"ADVISOR_DATA_DIR": str(data), "ADVISOR_LOCK_DIR": str(ledger.parent), **(more or {})}
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**child_environment(), **environment, LEDGER: str(ledger), PACE: str(pace_s)},
            cwd=data.parent,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self) -> Ended:
        output, errors = self._process.communicate(timeout=LONGEST_S)
        return Ended(self._process.returncode, output, errors)

    def kill_after(self, seconds: float) -> tuple[Ended, list[psutil.Process]]:
        """SIGKILL, unless it has ended by then; the processes it had are returned with how it ended."""
        family: list[psutil.Process] = []
        try:
            output, errors = self._process.communicate(timeout=seconds)
            return Ended(self._process.returncode, output, errors), family
        except subprocess.TimeoutExpired:
            family = self._children()
            self._process.kill()
        return self.wait(), family

    def _children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


def left_over(family: list[psutil.Process]) -> Iterator[str]:
    """Processes that outlived their killed parent by more than a moment."""
    _, alive = psutil.wait_procs(family, timeout=10)
    for process in alive:
        yield f"process {process.pid} outlived the advisor"
        process.kill()
