"""What would change the answer, as far as the record can say."""

from __future__ import annotations

import re
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
        *_acceptance_changes(subject, pays_now=rec.best is not None),
        *_size_changes(subject, drafts),
        *_quant_changes(subject, drafts),
        _context_change(rec, subject),
        _temperature_change(rec, subject),
    )


def _acceptance_changes(subject: DraftReasons, *, pays_now: bool) -> list[Change]:
    if not subject.curve or subject.agreement is None:
        return []
    x, y = [p.agreement for p in subject.curve], [p.speedup for p in subject.curve]
    changes = []
    for sign, word in ((1, "more"), (-1, "less")):
        wanted = subject.agreement + sign * AGREEMENT_STEP
        if 0 <= wanted <= 1:
            speedup = float(np.interp(wanted, x, y))
            low = speedup * subject.best.speedup_low / subject.best.speedup
            changes.append(
                Change(
                    f"5 points {word} agreement",
                    speedup,
                    f"{100 * wanted:.0f} % of the draft's choices right: {_pays(speedup, low, pays_now=pays_now)}.",
                )
            )
    return changes


def _pays(speedup: float, low: float, *, pays_now: bool) -> str:
    """By the rule of the verdict: the lower end of the interval decides."""
    if low > 1:
        return "it still pays" if pays_now else "it pays"
    if speedup > 1:
        return f"too unsure to recommend, its interval reaches down to {low:.2f}"
    return "it no longer pays" if pays_now else "it loses"


def _size_changes(subject: DraftReasons, drafts: Sequence[DraftReasons]) -> list[Change]:
    """The next larger and the next smaller model, in the same quantization where there is one."""
    parameters = _parameters_by_name(drafts)
    own = parameters[subject.draft.name]
    changes = []
    for word, sign in (("smaller", -1), ("larger", 1)):
        what = f"a draft one size {word}"
        others = [name for name, count in parameters.items() if sign * (count - own) > 0]
        kin = [name for name in others if _stem(name) == _stem(subject.draft.name)] or others
        if not kin:
            changes.append(_not_tried(what))
            continue
        name = min(kin, key=lambda name: abs(parameters[name] - own))
        near = [one for one in drafts if one.draft.name == name]
        chosen = next((one for one in near if one.draft.quant == subject.draft.quant), near[0])
        changes.append(Change(what, chosen.best.speedup, f"{chosen.label}: {chosen.verdict}."))
    return changes


def _parameters_by_name(drafts: Sequence[DraftReasons]) -> dict[str, int]:
    """One size a name: files of one model differ, since some store the output matrix apart."""
    sizes: dict[str, int] = {}
    for one in drafts:
        sizes[one.draft.name] = min(one.draft.parameters, sizes.get(one.draft.name, one.draft.parameters))
    return sizes


def _stem(name: str) -> str:
    """The name without its size: a general model's neighbour is a general one."""
    return re.sub(r"\d+(\.\d+)?[BMKL]\b", "", name, flags=re.IGNORECASE)


def _not_tried(what: str) -> Change:
    return Change(what, None, "None is among the drafts of this record.")


def _quant_changes(subject: DraftReasons, drafts: Sequence[DraftReasons]) -> list[Change]:
    family = sorted(
        (one for one in drafts if one.draft.name == subject.draft.name), key=lambda one: one.draft.weights_bytes
    )
    at = next(i for i, one in enumerate(family) if one is subject)
    changes = []
    for word, index in (("down", at - 1), ("up", at + 1)):
        what = f"one quantization {word}"
        if 0 <= index < len(family):
            other = family[index]
            changes.append(Change(what, other.best.speedup, f"{other.label}: {other.verdict}."))
        else:
            changes.append(_not_tried(what))
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
