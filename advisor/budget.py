"""The time that was promised for a whole command: what of it is left, and until when a stage may go on.

A stage ends at a share of the whole, whenever it began: one that comes late has less, and the promise holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Budget:
    """``total_s`` seconds from now on. ``clock`` reads seconds."""

    def __init__(self, total_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.total_s, self.clock = total_s, clock
        self._began, self._spent_s = clock(), 0.0

    def take_up(self, spent_s: float) -> None:
        """An earlier command spent so much of it before it was interrupted."""
        self._spent_s = spent_s

    @property
    def elapsed_s(self) -> float:
        """Of this command."""
        return self.clock() - self._began

    @property
    def spent_s(self) -> float:
        """Of this command and of an earlier one that it takes up."""
        return self._spent_s + self.elapsed_s

    @property
    def left_s(self) -> float:
        return max(0.0, self.total_s - self.spent_s)

    def left_until(self, share: float) -> float:
        """Seconds until that share of the whole is spent, 0 where it is."""
        return max(0.0, share * self.total_s - self.spent_s)
