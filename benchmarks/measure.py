"""What every benchmark does: answers, replays, curves and interleaved runs, straight from an engine."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from advisor.acceptance.transcripts import spread, write_transcripts
from advisor.cost.curves import CurveQuestion, curve_points, measure_curve, text_for_timing, typical_depth
from advisor.engines.base import Engine, LoadOptions, Role, RolloutOptions
from advisor.progress import Silent
from advisor.store import Store
from advisor.types import Config, CostCurve, Model, Run, Sampling, Trace, Transcript, Workload, pooled_token_s

ROLLOUT = RolloutOptions(p_min=0.4, length=16, chains=8)
OUTPUTS = 17
SCORED_AT_ONCE = 64
CURVE_BUDGET_S = 10.0
MAX_DRIFT, ATTEMPTS = 0.15, 3
HALF_NORMAL_MEDIAN = 0.6745  # of |x|, x normal with a deviation of 1

Floats = npt.NDArray[np.float64]
Pair = tuple[Run, Run]
"""(baseline, speculative run), measured in the same moments."""


@dataclass(frozen=True)
class Bench:
    """An engine, a target, and how they are used throughout one benchmark."""

    engine: Engine
    target: Model
    context: int = 1024
    threads: int = 2
    sampling: Sampling = field(default_factory=Sampling)

    def options(self, *, sequences: int = 1, outputs: int = OUTPUTS) -> LoadOptions:
        return LoadOptions(self.context, self.threads, sequences=sequences, outputs=outputs)

    def open(self, draft: Model | None) -> None:
        """The target, and the draft as it is deployed: one sequence."""
        self.engine.open("target", self.target, self.options())
        if draft is None:
            self.engine.close("draft")
        else:
            self.engine.open("draft", draft, self.options())

    def transcripts(self, workload: Workload, *, prompts: int, max_tokens: int) -> tuple[Transcript, ...]:
        self.open(None)
        return write_transcripts(
            self.engine,
            Store.in_memory(),
            self.target,
            spread(workload.prompts)[:prompts],
            self.sampling,
            context=self.context,
            max_tokens=max_tokens,
            progress=Silent(),
        )

    def replay(self, draft: Model, transcripts: Sequence[Transcript], rollout: RolloutOptions = ROLLOUT) -> list[Trace]:
        self.engine.open("draft", draft, self.options(sequences=rollout.chains + 1, outputs=SCORED_AT_ONCE))
        return [self.engine.score(transcript, rollout) for transcript in transcripts]

    def curve(
        self, role: Role, draft: Model, transcripts: Sequence[Transcript], *, b_max: int, rounds: int
    ) -> CostCurve:
        """t(b) or d(b) with both models loaded, b = 1 .. ``b_max``."""
        self.open(draft)
        models: dict[Role, Model] = {"target": self.target, "draft": draft}
        points, depth = curve_points(b_max, coarse=role == "draft"), typical_depth(transcripts)
        asked = CurveQuestion(models, role, "here", {"threads": self.threads}, points, depth, self.sampling)
        text = text_for_timing(transcripts, depth + b_max)
        return measure_curve(self.engine, Store.in_memory(), asked, text=text, rounds=rounds, budget_s=CURVE_BUDGET_S)

    def answer(self, transcript: Transcript, max_tokens: int) -> Run:
        return self.engine.answer(transcript.prompt_tokens, self.sampling, max_tokens)

    def speculate(self, transcript: Transcript, draft: Model | None, config: Config, max_tokens: int) -> Run:
        self.open(draft)
        return self.engine.speculate(transcript.prompt_tokens, config, self.sampling, max_tokens)

    def bracketed(
        self, transcript: Transcript, draft: Model, configs: Sequence[Config], max_tokens: int
    ) -> dict[Config, Pair]:
        """Speculative runs between two baselines, whose mean is the baseline of each.

        Where the two disagree by more than MAX_DRIFT the machine changed meanwhile: measured again, ATTEMPTS times at
        most, and the attempt that agreed best counts.
        """
        self.open(draft)
        found: list[tuple[float, dict[Config, Pair]]] = []
        while len(found) < ATTEMPTS and (not found or found[-1][0] > MAX_DRIFT):
            before = self.answer(transcript, max_tokens)
            runs = {config: self.speculate(transcript, draft, config, max_tokens) for config in configs}
            after = self.answer(transcript, max_tokens)
            baseline = replace(before, decode_s=(before.decode_s + after.decode_s) / 2)
            drift = abs(math.log(after.decode_s / before.decode_s))
            found.append((drift, {config: (baseline, run) for config, run in runs.items()}))
        return min(found, key=lambda attempt: attempt[0])[1]


def tokens_per_s(runs: Sequence[Run]) -> float:
    return 1 / pooled_token_s(runs)


def median_of_noise(off: Iterable[Floats]) -> float:
    """The median error that a perfect prediction would show at most, because the measured speedups are not exact.

    ``off``, of each cell: log(measured / predicted) pass by pass. How much that differs from pass to pass is taken for
    noise; what a prediction gets wrong of single answers is in it too, so there is no more noise than this.
    """
    return HALF_NORMAL_MEDIAN * math.sqrt(statistics.mean(float(cell.var(ddof=1)) / len(cell) for cell in off))
