"""What one line of the candidate table says, the same for every renderer."""

from __future__ import annotations

from dataclasses import dataclass

from advisor.prune import best_option
from advisor.types import Candidate, Estimate, Model, Recommendation


@dataclass(frozen=True)
class Row:
    """An estimate together with the draft it belongs to, None of a method without one. ``memory_bytes``: of the target,
    and of the draft where there is one."""

    estimate: Estimate
    candidate: Candidate | None
    memory_bytes: int

    @property
    def draft(self) -> Model | None:
        return self.candidate.draft if self.candidate else None

    @property
    def name(self) -> str:
        """The draft's name, or the method's."""
        return self.draft.name if self.draft else self.estimate.config.method

    @property
    def quant(self) -> str:
        return self.draft.quant if self.draft else ""

    @property
    def label(self) -> str:
        return f"{self.name} {self.quant}".strip()

    @property
    def is_on_disk(self) -> bool:
        """Of a prediction: the draft need not be downloaded. What was measured is on disk anyway."""
        return self.estimate.evidence == "prior" and self.draft is not None and bool(self.draft.path)

    @property
    def fits(self) -> bool:
        return self.candidate is None or all(device.fits for device in self.candidate.memory)


def rows(rec: Recommendation, *, show_all: bool) -> list[Row]:
    """The estimates in the order of the recommendation: the best of each draft and method, or all of them.

    Of a prediction, which knows every published file, the best of each model stands for all its quantizations. The pick
    comes first and stands for its draft, even where another estimate is nominally faster. Baselines are left out.
    """
    every = [row for estimate in rec.estimates if (row := row_of(rec, estimate)) is not None]
    if show_all:
        return every
    pick = row_of(rec, rec.best) if rec.best is not None else None
    is_foreseen = all(row.estimate.evidence == "prior" for row in every)
    best: dict[str, Row] = {}
    for row in [pick, *every] if pick is not None else every:
        best.setdefault(row.name if is_foreseen else row.estimate.config.proposer, row)
    return list(best.values())


def row_of(rec: Recommendation, estimate: Estimate) -> Row | None:
    """None for the baseline, where nothing is proposed."""
    if estimate.config.needs_no_draft:
        return Row(estimate, None, _target_bytes(rec))
    for candidate in rec.candidates:
        if candidate.draft.content_hash == estimate.config.draft:
            return Row(estimate, candidate, candidate.memory_bytes)
    return None


def _target_bytes(rec: Recommendation) -> int:
    """What the target takes beside a draft or, without any, alone."""
    places = [candidate.memory for candidate in rec.candidates]
    if not places:
        places = [best_option(rec.target, None, rec.host, rec.settings.context, k_max=rec.settings.k_max).memory]
    return min(sum(device.target.total_bytes for device in place) for place in places)
