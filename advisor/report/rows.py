"""What one line of the candidate table says, the same for every renderer."""

from __future__ import annotations

from dataclasses import dataclass

from advisor.types import Candidate, Estimate, Model, Recommendation


@dataclass(frozen=True)
class Row:
    """An estimate together with the draft it belongs to."""

    estimate: Estimate
    candidate: Candidate

    @property
    def draft(self) -> Model:
        return self.candidate.draft

    @property
    def is_on_disk(self) -> bool:
        """Of a prediction: the draft need not be downloaded. What was measured is on disk anyway."""
        return self.estimate.evidence == "prior" and bool(self.draft.path)

    @property
    def fits(self) -> bool:
        return all(device.fits for device in self.candidate.memory)


def rows(rec: Recommendation, *, show_all: bool) -> list[Row]:
    """The estimates in the order of the recommendation: the best of each draft, or all of them.

    Of a prediction, which knows every published file, the best of each model stands for all its quantizations. The pick
    comes first and stands for its draft, even where another estimate is nominally faster. Baselines are left out.
    """
    every = [row for estimate in rec.estimates if (row := row_of(rec, estimate)) is not None]
    if show_all:
        return every
    pick = row_of(rec, rec.best) if rec.best is not None else None
    best: dict[str, Row] = {}
    for row in [pick, *every] if pick is not None else every:
        best.setdefault(row.draft.name if row.estimate.evidence == "prior" else row.draft.content_hash, row)
    return list(best.values())


def row_of(rec: Recommendation, estimate: Estimate) -> Row | None:
    """None for the baseline, which has no draft."""
    for candidate in rec.candidates:
        if candidate.draft.content_hash == estimate.config.draft:
            return Row(estimate, candidate)
    return None
