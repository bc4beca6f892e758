"""What would change the answer, as far as the record can say."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from advisor.reasons.break_even import AGREEMENT_STEP
from advisor.reasons.ground import usable
from advisor.reasons.records import Change, DraftReasons
from advisor.types import Recommendation, Settings, WhatIf

SAME = 0.005  # speedups this near are shown as one number


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
    candidate = next(one for one in rec.candidates if one.draft is subject.draft)
    half = rec.settings.context // 2
    what = f"half the context ({half} tokens)"
    freed = sum(device.target.kv_bytes + device.draft.kv_bytes for device in candidate.memory) // 2
    said = f"Up to {freed / 2**20:.0f} MiB less KV cache"
    asked_again = _asked_again(rec, subject, lambda settings: settings.context == half)
    if asked_again is not None:
        speedup = asked_again.estimate.speedup
        moved = abs(speedup / subject.best.speedup - 1) > SAME
        why = "more of the target on the fast side" if moved else "the prediction is for a short context in any case"
        return Change(what, speedup, f"{said}; {why}.")
    depth = rec.target_curve.depth
    if usable(rec.target_curve) and depth and subject.best.evidence != "prior":
        speed = (
            f"decodes were timed at a depth of {depth} tokens, whatever is reserved, so the speedup at that depth "
            "stays; "
            + (
                f"with {rec.at_depth.depth:,} tokens in the context the pick gives {rec.at_depth.speedup:.2f}x"
                if rec.at_depth
                else "how it changes with depth is not in this record"
            )
        )
        return Change(what, None, f"{said}; {speed}.")
    return Change(what, None, f"{said}; how the speedup changes is not in this record.")


def _temperature_change(rec: Recommendation, subject: DraftReasons) -> Change:
    own = rec.settings.sampling.temperature
    asked_again = _asked_again(rec, subject, lambda settings: settings.sampling.temperature != own)
    if asked_again is not None:
        heat, estimate = asked_again.settings.sampling.temperature, asked_again.estimate
        interval = f"{estimate.speedup_low:.2f} to {estimate.speedup_high:.2f}"
        return Change(f"temperature {heat:g}", estimate.speedup, f"Predicted, 80 % interval {interval}.")
    other = rec.settings.sampling.other_temperature
    way = (
        "slower: what is sampled is harder to foresee" if other > own else "faster: the likeliest is easier to foresee"
    )
    said = f"Usually {way}. By how much this record does not say: run recommend with --temperature {other:g}."
    return Change(f"temperature {other:g}", None, said)


def _asked_again(rec: Recommendation, subject: DraftReasons, under: Callable[[Settings], bool]) -> WhatIf | None:
    """What a prediction said of this very setting under other settings."""
    return next(
        (one for one in rec.what_if if one.estimate.config == subject.best.config and under(one.settings)), None
    )
