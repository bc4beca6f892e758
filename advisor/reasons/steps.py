"""Where the time of a step goes: the parts as replay and curves price them, the whole as the estimate has it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from advisor.reasons.break_even import Prices
from advisor.reasons.ground import ROUNDING, Ground
from advisor.reasons.positions import walked_over
from advisor.reasons.records import Step, StepParts
from advisor.types import Config, Estimate, Trace, Trial


def priced_step(best: Estimate, traces: Sequence[Trace], table: Prices | None, ground: Ground) -> Step | None:
    """From answers and curves. None without them."""
    if table is None or ground.unit is None or not traces:
        return None
    walked = walked_over(traces, best.config, ground.max_tokens)
    if not walked.steps:
        return None
    parts = StepParts(*(ground.token_s * part / walked.steps for part in table.step_parts(walked)))
    tokens = walked.tokens / walked.steps
    plain_s = tokens * ground.token_s
    total_s = plain_s / best.speedup
    beyond_s = total_s - parts.total_s
    if abs(beyond_s) < ROUNDING * total_s:
        beyond_s = 0.0
    return Step(tokens, plain_s, total_s, parts, beyond_s if ground.corrected else None)


def timed_step(best: Estimate, trials: Iterable[Trial], token_s: float) -> Step | None:
    """From whole runs of this very setting. None where there was none."""
    if trial_of(best.config, trials) is None:
        return None
    plain_s = best.tokens_per_step * token_s
    return Step(best.tokens_per_step, plain_s, plain_s / best.speedup)


def trial_of(config: Config, trials: Iterable[Trial]) -> Trial | None:
    return next((one for one in trials if one.config == config and any(run.steps for run in one.runs)), None)
