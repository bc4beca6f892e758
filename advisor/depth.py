"""The pick in a long context: what its decodes cost there, and how much of its drafts is still accepted.

Each token of context adds the same to every decode of a model with full attention, so times go on in a straight line
with depth. They are measured at the short context and at the deepest one that the budget can fill, within the same
minutes, and the line is followed from there to the context that was asked for. What is measured in a short context
carries over by the ratio of the two, so that everything real runs have taught stays in it.

Acceptance: the caches that were filled for timing hold some of the target's answers. On top of them target and draft
read other answers, written in short contexts, once more: do they still agree, place by place? The same texts at both
depths make that a comparison of depths alone. It is not quite the text that the target would have written there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from advisor.acceptance.ngram import NgramAcceptance
from advisor.acceptance.replay import P_MIN_GRID, ROWS_AT_ONCE, trace_key
from advisor.acceptance.walk import Acceptance, DraftAcceptance
from advisor.cost.curves import (
    CurveQuestion,
    curve_points,
    loading,
    measure_curve,
    reference,
    text_for_timing,
    typical_depth,
)
from advisor.cost.step_law import NO_DRAFT, StepLaw
from advisor.engines.base import LONGEST_CHAIN, NO_ROLLOUT, Engine, LoadOptions, Role, RolloutOptions, Runner, Waiting
from advisor.errors import EngineError, OutOfTime
from advisor.predict.analytic import Analytic, AnalyticModel
from advisor.predict.predictor import Z_80
from advisor.progress import Progress
from advisor.store import Store
from advisor.types import AtDepth, Candidate, CostCurve, Estimate, Model, Placement, Settings, Trace, Transcript, Trial

DEPTH_SHARE = 0.12  # of the budget, kept from the search
FILL_SHARE, ROUNDS_SHARE = 0.5, 0.25  # of what this look may take; the rest is for reading answers
LEAST_STRETCH, LEAST_MORE = 2, 256  # what is less deep than this, times and tokens, says nothing new
LONGEST_LINE = 4.0  # times the measured stretch that a line is followed
LINE_SD = 0.04  # of log(speedup), for each such stretch: a machine moves by this between two curves
FILL_GROWS = 1.3  # a prompt token costs more, the longer the prompt
ANSWERS, LEAST_ANSWERS = 8, 2
ROUNDS, CHAINS = 3, 4
OWN_VISIT = -1  # these curves are compared with each other alone, not with those of the search
TOO_LITTLE_TIME = (
    "What a context as long as was asked for does to the speedup was not measured: filling one takes longer than the "
    "budget allows. Give more --budget."
)
TRIED_DEPTHS = tuple(base << shift for shift in range(16) for base in (256, 384))


@dataclass(frozen=True)
class Pick:
    """What is looked at. ``candidate`` and ``traces`` belong to its draft: None and () without one. ``law``: the steps
    of whoever runs it."""

    estimate: Estimate
    candidate: Candidate | None
    traces: tuple[Trace, ...]
    law: StepLaw


@dataclass(frozen=True)
class Ground:
    """Where it is looked at: the machine, the target in its place, its answers to short prompts. ``settings``
    name the threads that were chosen; ``room_for_two`` as in LoadOptions."""

    host: str
    target: Model
    place: Placement
    transcripts: tuple[Transcript, ...]
    settings: Settings
    max_tokens: int
    room_for_two: bool = True
    waiting: Waiting = "as built"

    @property
    def short(self) -> int:
        return typical_depth(self.transcripts)

    @property
    def wanted(self) -> int:
        """The depth of the last answer that fits the context; 0 where that is not far from what is measured anyway."""
        longest = max(len(transcript.prompt_tokens) for transcript in self.transcripts)
        rest = longest + max(self.max_tokens, self.settings.k_max + 1, LONGEST_CHAIN) + self.settings.k_max
        deepest = self.settings.context - rest
        return deepest if _is_deeper(deepest, self.short) else 0


@dataclass(frozen=True)
class Outcome:
    """``found`` is None where there was nothing to look at or no time; ``notes`` say what the figures rest on, or why
    there are none."""

    found: AtDepth | None = None
    notes: tuple[str, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """To follow the verdict, which speaks of short contexts."""
        if self.found is None:
            return ()
        interval = f"{self.found.speedup_low:.2f} to {self.found.speedup_high:.2f}"
        return (
            f"With {self.found.depth:,} tokens in the context: {self.found.speedup:.2f}x ({interval})"
            f"{self._doubt(self.found)}.",
        )

    @staticmethod
    def _doubt(found: AtDepth) -> str:
        if found.speedup_high <= 1:
            return ", slower than the target alone: speculate where contexts stay short"
        return ", where it is not sure to pay" if found.speedup_low <= 1 else ""


NOTHING = Outcome()


def look(
    pick: Pick,
    ground: Ground,
    engine: Engine,
    timer: Runner,
    store: Store,
    *,
    reads: bool,
    trials: Sequence[Trial],
    allowance_s: float,
    name: str,
    progress: Progress,
) -> Outcome:
    """The pick as deep as the context reaches, or as ``allowance_s`` does. ``trials``: real runs, which say how long
    filling a cache takes; ``name``: of the question, which finds its depth when it is asked again.

    ``timer`` times decodes: the engine, or the server that is deployed. Without ``reads`` no answer is read at depth,
    because ``engine`` computes where that takes too long. An engine that fails here leaves the answer as it is.
    """
    if not ground.wanted:
        return NOTHING
    # asked again it has the time there was at first, so that it finds what was measured then
    allowance_s = store.recall_seconds(f"depth/{name}") or allowance_s
    token_s = _prompt_token_s(pick, ground, trials)
    depth = _reachable(ground, token_s, allowance_s)
    if not depth:
        return Outcome(notes=(TOO_LITTLE_TIME,))
    store.remember(f"depth/{name}", repr(allowance_s))
    try:
        found = _Look(
            pick, ground, engine, timer, store, depth, token_s if reads else math.inf, allowance_s, progress
        ).at_depth()
    except OutOfTime:
        return Outcome(notes=(TOO_LITTLE_TIME,))
    except EngineError as error:
        return Outcome(notes=(f"What becomes of the pick in a long context is not known: {error.what}",))
    return Outcome(found, (_note(found),))


def _prompt_token_s(pick: Pick, ground: Ground, trials: Sequence[Trial]) -> float:
    """Seconds a token that filling both caches takes, from the pick's runs or, without any, from those of others."""
    ran = [trial for trial in trials if trial.config == pick.estimate.config] or trials
    prefill_s = sum(run.prefill_s for trial in ran for run in trial.runs)
    tokens = sum(len(ground.transcripts[index].prompt_tokens) for trial in ran for index in trial.prompts)
    return FILL_GROWS * prefill_s / tokens if tokens else math.inf


def _reachable(ground: Ground, token_s: float, allowance_s: float) -> int:
    """How deep the caches can be filled in a share of ``allowance_s``; 0 where that is not worth it."""
    depth = ground.wanted
    if depth * token_s > FILL_SHARE * allowance_s:
        depth = max((one for one in TRIED_DEPTHS if one * token_s <= FILL_SHARE * allowance_s), default=0)
    return depth if _is_deeper(depth, ground.short) else 0


def _is_deeper(depth: int, short: int) -> bool:
    return depth >= LEAST_STRETCH * short and depth >= short + LEAST_MORE


def _note(found: AtDepth) -> str:
    beyond = f", to {found.depth:,} their times go on in a straight line" if found.depth > found.timed_depth else ""
    basis = (
        f"acceptance there is that of {found.answers} answers to short prompts, read again"
        if found.answers
        else "acceptance is taken to be that of short contexts"
    )
    return f"Decodes were timed with {found.timed_depth:,} tokens in the context{beyond}; {basis}."


class _Look:
    def __init__(
        self,
        pick: Pick,
        ground: Ground,
        engine: Engine,
        timer: Runner,
        store: Store,
        depth: int,
        token_s: float,
        allowance_s: float,
        progress: Progress,
    ) -> None:
        self._pick, self._ground, self._store = pick, ground, store
        self._engine, self._timer = engine, timer
        self._config, self._depth, self._allowance_s, self._progress = (
            pick.estimate.config,
            depth,
            allowance_s,
            progress,
        )
        self._length = max(self._config.k + 1, LONGEST_CHAIN)
        self._models: dict[Role, Model] = {"target": ground.target}
        if pick.candidate is not None:
            self._models["draft"] = pick.candidate.draft
        self._read = self._read_again(token_s)
        self._text = text_for_timing(ground.transcripts[len(self._read) :], depth + self._length)
        self._rollout = RolloutOptions(min(p for p in P_MIN_GRID if p > 0), self._config.k, CHAINS)

    def _read_again(self, token_s: float) -> tuple[Transcript, ...]:
        """The answers to read at depth, at most half of them; none where that would be one, or not as in use, or where
        they were sampled: what was drawn in a short context says nothing about what would be drawn in a long one."""
        if self._ground.settings.sampling.temperature > 0:
            return ()
        if any(model.attention.sliding_window for model in self._models.values()):  # rolling back loses its window
            return ()
        share_s = (1 - FILL_SHARE - ROUNDS_SHARE) * self._allowance_s
        first = self._ground.transcripts[: min(ANSWERS, len(self._ground.transcripts) // 2)]
        one_s = token_s * max((len(one.prompt_tokens) + len(one.answer_tokens) for one in first), default=0)
        count = len(first) if one_s * len(first) <= share_s else int(share_s / one_s)
        return first[:count] if count >= LEAST_ANSWERS else ()

    def at_depth(self) -> AtDepth:
        self._progress.stage(f"look at the pick {self._depth:,} tokens deep", 2 * len(self._models) + len(self._read))
        self._open(self._timer)
        # the deep ones first: from there back nothing is read, so that both are of the same moments
        deep, short = (self._curves(depth) for depth in (self._depth, self._ground.short))
        if self._timer is not self._engine and self._read:
            self._timer.shutdown()  # its memory is needed
            self._open(self._engine)
        further, reached = _followed(short, deep, self._ground.wanted)
        before = self._analytic(self._acceptance(deep=False), short)
        after = self._analytic(self._acceptance(deep=True), further)
        best = self._pick.estimate
        speedup = best.speedup * after.speedup / before.speedup
        own_sd = math.log(best.speedup_high / best.speedup_low) / (2 * Z_80)
        stretch = (reached - short["target"].depth) / (self._depth - short["target"].depth)
        sds = own_sd, float(np.std(after.log_draws - before.log_draws)), LINE_SD * stretch
        half_width = math.exp(Z_80 * math.hypot(*sds))
        slower = float(np.median(further["target"].anchor_s) / np.median(short["target"].anchor_s))
        return AtDepth(
            depth=reached,
            timed_depth=self._depth,
            answers=len(self._read),
            acceptance_rate=min(1.0, max(0.0, best.acceptance_rate + after.acceptance_rate - before.acceptance_rate)),
            speedup=speedup,
            speedup_low=speedup / half_width,
            speedup_high=speedup * half_width,
            tokens_per_second=best.tokens_per_second / best.speedup / slower * speedup,
        )

    def _open(self, runner: Runner) -> None:
        settings = self._ground.settings
        outputs = max(ROWS_AT_ONCE, self._length)
        options = LoadOptions.of_target(
            self._ground.place,
            settings.context,
            settings.threads,
            outputs=outputs,
            room_for_two=self._ground.room_for_two,
            waiting=self._ground.waiting,
        )
        runner.open("target", self._ground.target, options)
        if self._pick.candidate is None:
            runner.close("draft")
            return
        cells = settings.context + CHAINS * self._config.k  # one context serves timing and replay: it is filled once
        place = self._pick.candidate.placement
        options = LoadOptions.of_draft(
            place,
            cells,
            settings.threads,
            sequences=CHAINS + 1,
            outputs=ROWS_AT_ONCE,
            waiting=self._ground.waiting,
        )
        runner.open("draft", self._pick.candidate.draft, options)

    def _curves(self, depth: int) -> dict[Role, CostCurve]:
        return {role: self._curve(role, depth) for role in self._models}

    @property
    def _draft_place(self) -> Placement | None:
        return self._pick.candidate.placement if self._pick.candidate else None

    def _curve(self, role: Role, depth: int) -> CostCurve:
        ground = self._ground
        asked = CurveQuestion(
            self._models,
            role,
            ground.host,
            loading(ground.settings.threads, ground.place, self._draft_place, ground.waiting),
            curve_points(self._config.k + 1, coarse=True),
            depth,
            ground.settings.sampling,
            OWN_VISIT,
        )
        text = self._text[: depth + self._length]
        budget_s = ROUNDS_SHARE * self._allowance_s / (2 * len(self._models))
        curve = measure_curve(self._timer, self._store, asked, text=text, rounds=ROUNDS, budget_s=budget_s)
        self._progress.step(f"{role}, {depth:,} tokens")
        return curve

    def _acceptance(self, *, deep: bool) -> Acceptance:
        """Over the answers that are read at both depths; over all of them, as they were, where none is."""
        ground = self._ground
        if self._pick.candidate is None:
            texts = [self._on_top(one) if deep else one for one in self._read] or ground.transcripts
            return NgramAcceptance(texts, context=ground.settings.context, max_tokens=ground.max_tokens)
        traces: Sequence[Trace] = self._pick.traces[: len(self._read)] or self._pick.traces
        if deep and self._read:
            traces = [self._trace(one, self._pick.candidate.draft) for one in self._read]
        return DraftAcceptance(traces, max_tokens=ground.max_tokens)

    def _on_top(self, transcript: Transcript) -> Transcript:
        return replace(transcript, prompt_tokens=(*self._text[: self._depth], *transcript.prompt_tokens))

    def _trace(self, transcript: Transcript, draft: Model) -> Trace:
        """Draft and target side by side, each reading this answer at depth."""
        answer = self._on_top(transcript)
        proposed = self._scored("draft", draft, answer, self._rollout)
        chosen = self._scored("target", self._ground.target, answer, NO_ROLLOUT).proposal
        self._progress.step("answer")
        return replace(proposed, answer_tokens=chosen)

    def _scored(self, role: Role, model: Model, answer: Transcript, rollout: RolloutOptions) -> Trace:
        key = trace_key(self._ground.target, model, answer, rollout, self._engine.build.key)
        trace = self._store.get("trace", key, Trace)
        if trace is None:
            started = time.perf_counter()
            trace = self._engine.score(answer, rollout, role)
            self._store.put("trace", key, trace, wall_s=time.perf_counter() - started)
        return trace

    def _analytic(self, acceptance: Acceptance, curves: dict[Role, CostCurve]) -> Analytic:
        draft = curves.get("draft")
        unit = reference([curves["target"]], [draft] if draft else [])
        law = self._pick.law if draft else NO_DRAFT
        model = AnalyticModel(acceptance, curves["target"], draft, law, unit, k_max=self._config.k, seed=0)
        return model.predict(self._config)


def _followed(
    short: dict[Role, CostCurve], deep: dict[Role, CostCurve], wanted: int
) -> tuple[dict[Role, CostCurve], int]:
    """The curves at the wanted depth, or as far as their lines are followed, and that depth."""
    first, last = short["target"].depth, deep["target"].depth
    reached = min(wanted, first + round(LONGEST_LINE * (last - first)))
    share = (reached - first) / (last - first)

    def further(near: Sequence[float], far: Sequence[float]) -> tuple[float, ...]:
        middle = float(np.median(near))
        return tuple(max(value, middle + share * (value - middle)) for value in far)

    followed = {
        role: CostCurve(
            reached,
            further(short[role].anchor_s, curve.anchor_s),
            {b: further(short[role].rounds_s[b], rounds) for b, rounds in curve.rounds_s.items()},
            further(short[role].bare_s, curve.bare_s) if curve.bare_s else (),
        )
        for role, curve in deep.items()
    }
    return followed, reached
