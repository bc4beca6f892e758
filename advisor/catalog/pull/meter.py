"""How far a download is, and how fast."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from advisor.catalog.pull.plan import PullPlan
from advisor.progress import Progress

RATE_WINDOW_S = 10.0
PROGRESS_STEPS = 100


@dataclass
class Meter:
    """Bytes of a whole plan as the steps of a progress stage. The rate is that of the last seconds."""

    plan: PullPlan
    progress: Progress
    clock: Callable[[], float]
    done_bytes: int = 0
    steps: int = 0
    recent: deque[tuple[float, int]] = field(default_factory=deque)
    downloaded_bytes: int = 0

    def __post_init__(self) -> None:
        self.progress.stage(f"download {self.plan.repo} {self.plan.quant}", PROGRESS_STEPS)
        self.recent.append((self.clock(), 0))

    def add(self, size: int, *, downloaded: bool = True) -> None:
        """``downloaded`` is false for what was on disk before."""
        self.done_bytes += size
        if downloaded:
            self.downloaded_bytes += size
            self._forget_old(self.clock())
        reached = PROGRESS_STEPS * self.done_bytes // max(1, self.plan.total_bytes)
        while self.steps < min(reached, PROGRESS_STEPS):
            self.steps += 1
            self.progress.step(self._detail())

    def _forget_old(self, now: float) -> None:
        self.recent.append((now, self.downloaded_bytes))
        while len(self.recent) > 2 and now - self.recent[0][0] > RATE_WINDOW_S:
            self.recent.popleft()

    def _detail(self) -> str:
        text = f"{amount(self.done_bytes)} of {amount(self.plan.total_bytes)}"
        (then, before), (now, after) = self.recent[0], self.recent[-1]
        return f"{text}, {amount(round((after - before) / (now - then)))}/s" if now > then else text


def amount(size: int) -> str:
    for unit, divisor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= divisor:
            return f"{size / divisor:.1f} {unit}"
    return f"{size} B"
