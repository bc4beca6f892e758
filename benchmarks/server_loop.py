"""The in-process loop and the step law against the real llama-server.

Two builds differ in their CPU kernels, so what is compared is the speedup over each build's own baseline. With forced
acceptance nothing about the text is left to chance: what remains is the step law and what decodes cost in that build,
for which the curves of this process are scaled to runs at two draft lengths, as `recommend --engine llama-server` does.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from advisor.cost import calibration
from advisor.cost.step_law import step_law
from advisor.engines.llama_server import LlamaServer
from advisor.predict.steady import steadied
from advisor.search import speedup_of
from advisor.types import Config, Model, Run, Sampling, Transcript, Trial
from benchmarks.measure import Bench

GREEDY = Sampling()

# How often each place of a draft is accepted: short and long drafts, good and bad ones.
FORCED_RATES: tuple[tuple[float, ...], ...] = (
    (0.9,),
    (0.5,),
    (0.8, 0.6, 0.5),
    (0.9, 0.8, 0.7, 0.6),
    (0.6, 0.4, 0.2, 0.1),
    (0.9, 0.8, 0.7, 0.6, 0.5, 0.4),
    (0.6, 0.4, 0.3, 0.2, 0.1, 0.1),
    (0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6),
)


@dataclass(frozen=True)
class Loop:
    """Speedups of one config over the same answers: in this process and in the server, each over its own baseline."""

    config: Config
    in_process: float
    in_server: float

    @property
    def efficiency(self) -> float:
        return self.in_process / self.in_server


@dataclass(frozen=True)
class Forced:
    """``tokens_per_step`` as the server counted it."""

    rates: tuple[float, ...]
    tokens_per_step: float
    predicted: float
    measured: float


def loops(
    bench: Bench,
    served: Bench,
    draft: Model,
    configs: Sequence[Config],
    transcripts: Sequence[Transcript],
    max_tokens: int,
) -> Iterator[Loop]:
    """In-process runs and requests to the server take turns, prompt by prompt."""
    for config in configs:
        pairs: dict[str, list[tuple[Run, Run]]] = {"ours": [], "theirs": []}
        for one in transcripts:
            for name, engine in (("ours", bench), ("theirs", served)):
                baseline = engine.answer(one, max_tokens)
                pairs[name].append((baseline, engine.speculate(one, draft, config, max_tokens)))
        yield Loop(config, speedup_of(pairs["ours"]), speedup_of(pairs["theirs"]))


def forced(
    server: LlamaServer,
    draft: Model,
    before: calibration.Costs,
    rates: Sequence[tuple[float, ...]],
    transcripts: Sequence[Transcript],
    max_tokens: int,
) -> Iterator[Forced]:
    """The server must hold the target and the draft. ``before``: what decodes cost in this process."""

    def run(forced_rates: tuple[float, ...]) -> Trial:
        config = Config(draft.content_hash, len(forced_rates))
        return _forced_trial(server, config, forced_rates, transcripts, max_tokens)

    asked = [(0.5, *[0.1] * (k - 1)) for k in calibration.LENGTHS]
    trials = steadied([run(one) for one in (*asked, *rates)])
    again = step_law(server.build).reevaluates
    costs = calibration.fit(trials[: len(asked)], before, reevaluates=again)
    for one, trial in zip(rates, trials[len(asked) :], strict=True):
        steps = sum(run.steps for run in trial.runs)
        drafted, accepted = (sum(getattr(run, name) for run in trial.runs) / steps for name in ("drafted", "accepted"))
        passes = calibration.step_passes(costs, draft.content_hash, drafted, reevaluates=again)
        yield Forced(one, 1 + accepted, (1 + accepted) / passes, speedup_of(trial.pairs))


def median_error(found: Sequence[Forced]) -> float:
    return statistics.median(abs(one.predicted / one.measured - 1) for one in found)


def _forced_trial(
    server: LlamaServer, config: Config, rates: tuple[float, ...], transcripts: Sequence[Transcript], max_tokens: int
) -> Trial:
    """Each prompt with and without; which comes first alternates."""
    pairs = []
    for index, one in enumerate(transcripts):
        asked = (one.prompt_tokens, GREEDY, max_tokens)
        if index % 2:
            run = server.speculate_forced(one.prompt_tokens, config, rates, GREEDY, max_tokens)
            pairs.append((server.answer(*asked), run))
        else:
            baseline = server.answer(*asked)
            pairs.append((baseline, server.speculate_forced(one.prompt_tokens, config, rates, GREEDY, max_tokens)))
    return Trial.of(config, pairs)
