"""What a reader should know before trusting the numbers."""

from __future__ import annotations

from collections.abc import Sequence

from advisor.reasons.records import DraftReasons
from advisor.types import CostCurve, MeasurementNotes, Recommendation

MUCH_DRIFT = 0.10
FEW_ROUNDS = 3
MOST_NAMED = 3
ASLEEP = (
    "Decodes were timed with threads that wait for each other asleep (OMP_WAIT_POLICY=passive), which a server on a "
    "quiet machine does not need: the command does not set it."
)


def caveats(rec: Recommendation, drafts: Sequence[DraftReasons], category: str | None) -> tuple[str, ...]:
    """``rec`` is the whole recommendation, also where the report is about one category."""
    notes = rec.measurement
    said = [*about_the_machine(notes), *_about_runs(rec, category)]
    if notes.anchor_drift > MUCH_DRIFT:
        said.append(
            f"The target's own speed drifted by {100 * notes.anchor_drift:.0f} % during the measurement. Ratios were "
            "taken side by side, but on a quieter machine they would be surer."
        )
    said += _few_rounds(rec, drafts)
    if notes.prompts:
        said.append(f"The search ended because: {notes.stop_reason}.")
    if notes.repack_off:
        said.append("Measured with --no-repack: the repacked kernels crash on this machine.")
    return (*said, *notes.notes, *rec.host.notes)


def about_the_machine(notes: MeasurementNotes) -> list[str]:
    """Who used it while decodes were timed, how that was met, and what else slowed it. One sentence each."""
    seen = notes.contention
    if seen is None:
        return []
    waited = [f"It was waited {seen.waited_s:.0f} s for quiet."] if seen.waited_s and seen.in_use else []
    asleep = [ASLEEP] if seen.asleep else []
    return [*([seen.sentence] if seen.in_use else []), *waited, *asleep, *seen.power]


def _about_runs(rec: Recommendation, category: str | None) -> list[str]:
    if rec.trials and category is not None:
        return ["Real runs over all categories corrected these numbers; none was of this category alone."]
    if not rec.trials and rec.estimates and any(rec.traces.values()):
        return ["No real run corrected these numbers: they are predictions from replayed answers and timed decodes."]
    return []


def _few_rounds(rec: Recommendation, drafts: Sequence[DraftReasons]) -> list[str]:
    curves = [("the target", rec.target_curve)]
    curves += [
        (one.label, rec.draft_curves[one.draft.content_hash])
        for one in drafts
        if one.draft.content_hash in rec.draft_curves
    ]
    few = [f"{name} ({len(curve.anchor_s)})" for name, curve in curves if _is_short(curve)]
    if not few:
        return []
    named = ", ".join(few[:MOST_NAMED]) + (f" and {len(few) - MOST_NAMED} more" if len(few) > MOST_NAMED else "")
    return [f"Decodes were timed in fewer than {FEW_ROUNDS} rounds for {named}."]


def _is_short(curve: CostCurve) -> bool:
    return bool(curve.rounds_s) and len(curve.anchor_s) < FEW_ROUNDS
