"""What would change the answer, as far as the record can say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from advisor.explain.break_even import AGREEMENT_STEP
from advisor.explain.ground import usable
from advisor.explain.reasons import Change, DraftReasons
from advisor.types import Recommendation


def what_would_change(rec: Recommendation, drafts: Sequence[DraftReasons]) -> tuple[Change, ...]:
    if not drafts:
        return ()
    subject = drafts[0]
    return (
        *_acceptance_changes(subject),
        *_size_changes(subject, drafts),
        *_quant_changes(subject, drafts),
        _context_change(rec, subject),
        _temperature_change(rec, subject),
    )


def _acceptance_changes(subject: DraftReasons) -> list[Change]:
    if not subject.curve or subject.agreement is None:
        return []
    x, y = [p.agreement for p in subject.curve], [p.speedup for p in subject.curve]
    changes = []
    for sign, word in ((1, "more"), (-1, "less")):
        wanted = subject.agreement + sign * AGREEMENT_STEP
        if 0 <= wanted <= 1:
            speedup = float(np.interp(wanted, x, y))
            pays_now = subject.best.speedup > 1
            verb = ("still pays" if pays_now else "pays") if speedup > 1 else "no longer pays" if pays_now else "loses"
            what = f"5 points {word} agreement"
            changes.append(Change(what, speedup, f"{100 * wanted:.0f} % of the draft's choices right: it {verb}."))
    return changes


def _size_changes(subject: DraftReasons, drafts: Sequence[DraftReasons]) -> list[Change]:
    """The next larger and the next smaller model, in the same quantization where there is one."""
    own = subject.draft
    changes = []
    for word, others in (
        ("smaller", [d for d in drafts if d.draft.parameters < own.parameters]),
        ("larger", [d for d in drafts if d.draft.parameters > own.parameters]),
    ):
        if not others:
            continue
        sizes = {d.draft.parameters for d in others}
        size = max(sizes) if word == "smaller" else min(sizes)
        near = [d for d in others if d.draft.parameters == size]
        chosen = next((d for d in near if d.draft.quant == own.quant), near[0])
        changes.append(Change(f"a draft one size {word}", chosen.best.speedup, f"{chosen.label}: {chosen.verdict}."))
    return changes


def _quant_changes(subject: DraftReasons, drafts: Sequence[DraftReasons]) -> list[Change]:
    own = subject.draft
    family = sorted(
        (d for d in drafts if d.draft.name == own.name and d.draft.parameters == own.parameters),
        key=lambda d: d.draft.weights_bytes,
    )
    at = next(i for i, d in enumerate(family) if d is subject)
    changes = []
    for word, index in (("down", at - 1), ("up", at + 1)):
        if 0 <= index < len(family):
            other = family[index]
            changes.append(Change(f"one quantization {word}", other.best.speedup, f"{other.label}: {other.verdict}."))
    return changes


def _context_change(rec: Recommendation, subject: DraftReasons) -> Change:
    """The context that is reserved costs memory; the context that is filled costs time, and one depth was timed."""
    candidate = next(c for c in rec.candidates if c.draft is subject.draft)
    half = rec.settings.context // 2
    freed = sum(device.target.kv_bytes + device.draft.kv_bytes for device in candidate.memory) // 2
    depth = rec.target_curve.depth
    speed = (
        f"costs were timed at a depth of {depth} tokens, whatever the size, so the speedup holds at that depth; how it "
        "changes with depth is not in this record"
        if usable(rec.target_curve) and depth and subject.best.evidence != "prior"
        else "how the speedup changes is not in this record"
    )
    return Change(f"half the context ({half} tokens)", None, f"Up to {freed / 2**20:.0f} MiB less KV cache; {speed}.")


def _temperature_change(rec: Recommendation, subject: DraftReasons) -> Change:
    own = rec.settings.sampling.temperature
    other = 0.8 if own != 0.8 else 0.0
    why = (
        f"the answers were written at temperature {own:g}, and other answers are accepted differently"
        if subject.agreement is not None
        else "this record holds no answers to judge by"
    )
    return Change(f"temperature {other:g}", None, f"Not known: {why}. Run recommend with --temperature {other:g}.")
