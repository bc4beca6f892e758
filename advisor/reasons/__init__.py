"""A Recommendation as reasons: why this pairing wins, how far it is from losing, what would change the answer.

    explain(rec) -> Explanation      pure: no file, no engine, no clock, no rendering

Everything is computed from the record: walks over the replayed answers, prices from the measured curves, estimates as
they were given. What the record cannot answer is a sentence in ``Explanation.left_out``, never a guess.
"""

from __future__ import annotations

from dataclasses import replace

from advisor.acceptance.walk import drawn
from advisor.reasons.answers import coloured_answers
from advisor.reasons.caveats import caveats
from advisor.reasons.changes import what_would_change
from advisor.reasons.drafts import cost_points, draft_reasons, jumps
from advisor.reasons.ground import Ground
from advisor.reasons.narrow import narrowed
from advisor.reasons.records import DraftReasons, Explanation
from advisor.reasons.sureness import how_sure
from advisor.types import Estimate, Recommendation

__all__ = ["explain", "narrowed"]


def explain(rec: Recommendation, category: str | None = None) -> Explanation:
    """The reasons. With ``category`` only its answers count; OptionError when the recommendation has no such one."""
    whole = rec
    if category is not None:
        rec = narrowed(rec, category)
    rec = _as_it_may_go(rec)
    ground = Ground.of(rec)
    drafts = draft_reasons(rec, ground)
    subject = drafts[0] if drafts else None
    return Explanation(
        verdict=rec.verdict,
        sentence=rec.sentence,
        evidence=subject.best.evidence if subject else rec.baseline.evidence,
        category=category,
        subject=subject,
        drafts=drafts,
        target_cost=cost_points(rec.target_curve, "target", ground),
        jumps=jumps(ground),
        changes=what_would_change(rec, drafts),
        sureness=how_sure(rec, ground, drafts),
        rejected=rec.rejected,
        answers=coloured_answers(rec, ground, subject),
        why_formulas_differ=why_formulas_differ(ground, subject),
        answered=_answered(rec),
        k_max=rec.settings.k_max,
        pick=rec.best or next(iter(rec.estimates), None),
        methods=_methods(rec),
        is_upper_bound=whole.baseline.evidence == "prior" and whole.target.is_recurrent,
        caveats=caveats(whole, drafts, category),
        left_out=left_out(rec, ground),
    )


def _as_it_may_go(rec: Recommendation) -> Recommendation:
    """Where a draft is best sampled, rejection decides by lot: its reasons are those of one draw."""
    best = {estimate.config.draft: estimate.config for estimate in reversed(rec.estimates)}
    sampled = {draft for draft, config in best.items() if config.draft_sampling == "probabilistic"}
    traces = {
        draft: tuple(drawn(trace, 1, number)[0] if trace.chance else trace for number, trace in enumerate(own))
        if draft in sampled
        else own
        for draft, own in rec.traces.items()
    }
    return replace(rec, traces=traces)


def _methods(rec: Recommendation) -> tuple[Estimate, ...]:
    best: dict[str, Estimate] = {}
    for estimate in rec.estimates:
        if estimate.config.needs_no_draft:
            best.setdefault(estimate.config.method, estimate)
    return tuple(best.values())


def _answered(rec: Recommendation) -> int:
    replayed = max((len(traces) for traces in rec.traces.values()), default=0)
    return replayed or rec.measurement.prompts


def why_formulas_differ(ground: Ground, subject: DraftReasons | None) -> str:
    table = ground.prices.get(subject.draft.content_hash) if subject else None
    if subject is None or table is None or subject.break_even is None:
        return ""
    k = subject.best.config.k
    said = [
        f"The formula takes a step of k = {k} to cost {k * table.draft[1] + 1:.2f} target passes: "
        f"{k} draft {'pass' if k == 1 else 'passes'} of {table.draft[1]:.2f} and one for verification.",
        f"Here verifying {k + 1} tokens at once costs {table.target[k + 1]:.2f} passes, not 1"
        + (f", and the draft reads them again for {table.draft[k + 1]:.2f}." if table.law.reevaluates else "."),
    ]
    if subject.best.config.p_min > 0 and subject.break_even.measured is not None:
        said.append(
            f"And p_min = {subject.best.config.p_min:g} stops unsure drafts early, so that the average step "
            "is shorter than k, while the formula takes every position to be alike, which the answers are not."
        )
    elif subject.break_even.measured is not None:
        said.append("And the formula takes every position to be alike, which the answers are not.")
    return " ".join(said)


def left_out(rec: Recommendation, ground: Ground) -> tuple[str, ...]:
    said = []
    if not rec.estimates:
        said.append(
            "No pairing could be estimated, so there are only the reasons of the rejected drafts."
            if rec.rejected
            else "No pairing could be estimated: no smaller model with the target's tokens is known."
        )
    elif ground.unit is None:
        said.append(
            "Settings were timed as wholes here: break-even, the parts of a step and the costs of decodes are left out."
            if rec.trials
            else "Nothing was timed: break-even, the time of a step and the costs of decodes are left out."
        )
    if rec.estimates and not ground.measured and not _methods(rec):
        said.append("No answers were replayed: agreement, and answers coloured by who wrote them, are left out.")
    elif ground.measured and not any(text.pieces for text in rec.answers):
        said.append("The texts of the answers are not in this record, so the coloured answers are left out.")
    return tuple(said)
