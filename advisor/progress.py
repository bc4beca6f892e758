"""How a long computation tells what it is doing, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    def stage(self, name: str, steps: int) -> None:
        """A stage begins; ``steps`` calls of ``step`` are expected (0: not known)."""

    def step(self, detail: str = "") -> None:
        """One step of the current stage is done; ``detail`` is a few words for people."""

    def note(self, text: str) -> None:
        """One sentence a person should see even after the bar is gone (a remedy, a skipped draft)."""

    def first_answer(self, sentence: str) -> None:
        """What would be answered now; the time that is left refines it."""


class Silent:
    """A listener that does not listen."""

    def stage(self, name: str, steps: int) -> None: ...
    def step(self, detail: str = "") -> None: ...
    def note(self, text: str) -> None: ...
    def first_answer(self, sentence: str) -> None: ...
