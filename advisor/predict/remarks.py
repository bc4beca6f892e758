"""What a reader must know beside a prediction: what it rests on, what was assumed, and what was measured before."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

from advisor.catalog.load import Catalog
from advisor.cost.prior import Machine
from advisor.predict.evidence import PairRow
from advisor.predict.prior import Z_80
from advisor.predict.question import Outlook
from advisor.predict.terms import Side
from advisor.types import Estimate, Model

FAR_BASELINE = 2.0  # times the predicted one, or that part of it
SHOWN_MEASURED = 3


def measured_here(measured: Sequence[PairRow], target: Side, machine: Machine) -> list[PairRow]:
    """Imported pairs of this target on this host."""
    same = (one for one in measured if one.case.target.name == target.name)
    return [one for one in same if machine.host and one.case.machine.host == machine.host]


def measured_baseline_s(pairs: Sequence[PairRow]) -> float | None:
    """t(1) of the target as it was measured, the middle one of several."""
    known = [one.case.baseline_s for one in pairs if one.case.baseline_s is not None]
    return statistics.median(known) if known else None


def baseline_remarks(asked: Outlook, predicted_s: float, log_sd: float, measured_s: float | None) -> Iterator[str]:
    low, high = (math.exp(sign * Z_80 * log_sd) / predicted_s for sign in (-1, 1))
    interval = f"{1 / predicted_s:.1f} tok/s (80 % interval {low:.1f} to {high:.1f})"
    if asked.baseline_tps:
        if abs(math.log(asked.baseline_tps * predicted_s)) > math.log(FAR_BASELINE):
            yield (
                f"--baseline-tps {asked.baseline_tps:g} is far from the {interval} that such a machine should give: is "
                "it the same quantization, wholly on the same device?"
            )
    elif measured_s is not None:
        yield f"The baseline of {1 / measured_s:.1f} tok/s is what was imported for this host; foreseen was {interval}."
    else:
        yield f"The baseline is foreseen too: {interval}. --baseline-tps N says what it is today."


def measured_remarks(
    pairs: Sequence[PairRow], estimates: Sequence[Estimate], names: Mapping[str, str]
) -> Iterator[str]:
    """The best imported pairs beside what is foreseen. ``names``: a draft's content hash -> its name with quant."""
    foreseen = {names[one.config.draft]: one for one in reversed(estimates)}
    known = sorted((one for one in pairs if one.case.draft.name in foreseen), key=lambda one: -one.speedup)
    for pair in known[:SHOWN_MEASURED]:
        one = foreseen[pair.case.draft.name]
        same = (one.config.k, one.config.p_min) == (pair.k, pair.p_min)
        here = "" if same else f" at k = {one.config.k}, p_min = {one.config.p_min:g}"
        yield (
            f"Imported for this host ({pair.table}): {pair.case.draft.name} gave {pair.speedup:.2f}x at k = {pair.k}, "
            f"p_min = {pair.p_min:g}; foreseen is {one.speedup:.2f}x{here}."
        )
    if len(known) > SHOWN_MEASURED:
        yield f"{len(known) - SHOWN_MEASURED} more pairs of this target were imported for this host."


def model_remarks(asked: Outlook, catalog: Catalog, draft: Model | None) -> Iterator[str]:
    """``draft``: the one that leads."""
    target = asked.target
    if 0 < target.context_length < asked.settings.context:
        yield (
            f"A context of {asked.settings.context} is longer than the {target.context_length} tokens that "
            f"{target.name} was made for."
        )
    if target.is_recurrent:
        yield (
            "The target is recurrent or hybrid: that a refused draft makes it decode again what was accepted is "
            "priced, as current llama.cpp does it; copying its state is not. No table has such a pair, the interval is "
            "widened, and this version cannot measure such a target."
        )
    if not (target.path or target.hub):
        yield f"No repository is known to publish {target.label}: make TARGET.gguf with llama-quantize first."
    if draft is not None and not (draft.path or draft.hub):
        yield f"No repository is known to publish {draft.label}: make DRAFT.gguf with llama-quantize first."
    names = [target.name, *([draft.name] if draft is not None else [])]
    yield from dict.fromkeys(trap for name in names for trap in _traps(name, catalog))


def _traps(name: str, catalog: Catalog) -> Iterator[str]:
    for family in catalog.families:
        for entry in family.models:
            if entry.name == name:
                yield from (f"{family.name}: {trap}" for trap in family.traps)
                yield from (f"{name}: {trap}" for trap in entry.traps)
