"""The exhaustive sweep: every draft at every length, run for real beside its own baseline. Nothing is predicted.

It is what the search of `recommend` replaces, for those who want the whole map. A cell is kept as it ends, so that an
interrupted sweep goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from advisor import conclusion
from advisor.acceptance.transcripts import spread
from advisor.engines.again import asked_again_once
from advisor.engines.base import LoadOptions, Runner
from advisor.errors import EngineError, TargetFailure, WorkloadError
from advisor.heads import OWN, Head
from advisor.host import with_decode_bandwidth
from advisor.measured import estimate_of
from advisor.plan import Question, fitting, room_for_two, target_place, thread_counts, with_one_target_placement
from advisor.predict.steady import steadied
from advisor.progress import Progress
from advisor.ranking import answer
from advisor.runs import RunMeasurer
from advisor.store import Store
from advisor.types import (
    Candidate,
    Config,
    CostCurve,
    MeasurementNotes,
    Prompt,
    Recommendation,
    Rejected,
    Transcript,
    Trial,
)

FIRST_TOKENS = 2
DONE = "every cell was run"


@dataclass(frozen=True)
class Grid:
    """Draft lengths and p_mins of the cells, and how many prompts each is run on."""

    ks: tuple[int, ...]
    p_mins: tuple[float, ...] = (0.0,)
    prompts: int = 4

    def configs(self, draft: str) -> Iterator[Config]:
        return (Config(draft, k, p_min) for k in self.ks for p_min in self.p_mins)


class Sweep:
    """``run`` fills the grid, ``conclude`` says what is known so far. ``own_head``: the target's own prediction head is
    in it."""

    def __init__(
        self,
        question: Question,
        candidates: Sequence[Candidate],
        rejected: Sequence[Rejected],
        store: Store,
        runner: Runner,
        progress: Progress,
        grid: Grid,
        own_head: bool = False,
    ) -> None:
        self._question, self._settings, self._grid, self._own_head = question, question.settings, grid, own_head
        self._candidates, self._rejected = with_one_target_placement(list(candidates)), list(rejected)
        self._store, self._runner, self._progress = store, runner, progress
        self._threads = thread_counts(question.host, self._settings)[0]
        self._place = target_place(self._candidates, question.target, question.host, self._settings.context)
        self._started = time.monotonic()
        self._trials: list[Trial] = []
        if question.fresh:
            store.ignore_earlier()

    @property
    def can_conclude(self) -> bool:
        return bool(self._trials)

    def run(self) -> None:
        """Every cell. A draft whose engine fails is rejected with its reason; EngineError when all of them do."""
        self._open_target()
        measure, prompts = self._measurer(), range(len(self._texts))
        cells = self._cells()
        self._progress.stage("run every cell", sum(map(len, cells.values())))
        self._is_new = False
        for label, configs in cells.items():
            try:
                for config in configs:
                    self._is_new |= not all(measure.is_stored(config, prompt) for prompt in prompts)
                    self._trials.append(Trial.of(config, [measure(config, prompt) for prompt in prompts]))
                    self._progress.step(f"{label} k={config.k} p_min={config.p_min:g}")
            except TargetFailure:
                raise
            except EngineError as error:
                self._leave_out(label, configs[0].proposer, error)
        if not self._trials:
            raise EngineError(
                "The engine failed with every draft, so there is nothing to show.",
                why=conclusion.reasons(self._rejected),
            )

    def _cells(self) -> dict[str, list[Config]]:
        """By the label of what proposes."""
        cells = {
            one.draft.label: [Head(one).config(k) for k in self._grid.ks]
            if one.draft.draft_only
            else list(self._grid.configs(one.draft.content_hash))
            for one in self._candidates
        }
        return cells | ({OWN: [Head().config(k) for k in self._grid.ks]} if self._own_head else {})

    def conclude(self, stop_reason: str = DONE) -> Recommendation:
        """ValueError before the first cell."""
        nothing_timed = CostCurve(0, (conclusion.token_s(self._trials),), {})
        baseline = conclusion.baseline(self._trials, nothing_timed)
        categories = [text.category for text in self._texts]
        found = answer(
            [estimate_of(trial, categories, baseline.tokens_per_second) for trial in steadied(self._trials)],
            self._candidates,
        )
        return Recommendation(
            host=with_decode_bandwidth(
                self._question.host, self._question.target.active_weights_bytes, baseline.token_s
            ),
            build=self._runner.build,
            target=self._question.target,
            settings=replace(self._settings, threads=self._threads),
            workload=self._question.workload.name,
            categories=tuple(dict.fromkeys(categories)),
            baseline=baseline,
            candidates=tuple(self._candidates),
            estimates=found.ranked,
            rejected=tuple(self._rejected),
            verdict=found.verdict,
            sentence=found.sentence,
            best=found.best,
            runner_up=found.runner_up,
            traces={},
            target_curve=nothing_timed,
            draft_curves={},
            trials=tuple(self._trials),
            measurement=MeasurementNotes(
                prompts=len(self._texts),
                answer_tokens=sum(run.tokens for run in self._trials[0].baselines),
                trials=len(self._trials),
                anchor_drift=conclusion.drift_over(self._trials),
                stop_reason=stop_reason,
                elapsed_s=time.monotonic() - self._started,
                from_store=not self._is_new,
                repack_off=self._runner.repack_off,
                notes=conclusion.notes(None, self._trials, self._runner.build, None)
                + conclusion.memory_notes(self._trials, self._candidates)
                + conclusion.cache_note(self._place),
            ),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _open_target(self) -> None:
        self._progress.stage("load the target", 0)
        options = LoadOptions.of_target(
            self._place,
            self._settings.context,
            self._threads,
            outputs=max(self._grid.ks) + 1,
            room_for_two=room_for_two(self._candidates),
        )
        self._runner.open("target", self._question.target, options)
        prompts = enumerate(spread(self._question.workload.prompts)[: self._grid.prompts], start=1)
        texts = (self._text(prompt, number) for number, prompt in prompts)
        self._texts = tuple(text for text in texts if len(text.answer_tokens) > 1)
        if not self._texts:
            raise WorkloadError(
                "The target answered every prompt with nothing.",
                why="There is nothing to speed up.",
                fix="Check its chat template, or give other prompts with --workload.",
            )

    def _text(self, prompt: Prompt, number: int) -> Transcript:
        """A prompt with the first tokens of its answer: the target is warm, and a prompt without answer shows."""
        tokens = fitting(self._runner, prompt, number, self._settings.context)
        first = asked_again_once(lambda: self._runner.answer(tokens, self._settings.sampling, FIRST_TOKENS))
        return Transcript(prompt.category, tokens, first.answer_tokens, ended=False)

    def _measurer(self) -> RunMeasurer:
        return RunMeasurer(
            self._runner,
            self._store,
            self._question.target,
            self._candidates,
            self._texts,
            self._settings.sampling,
            host=self._question.host.fingerprint,
            context=self._settings.context,
            threads=self._threads,
            max_tokens=self._settings.max_tokens,
            place=self._place,
        )

    def _leave_out(self, label: str, proposer: str, error: EngineError) -> None:
        draft = next((one.draft for one in self._candidates if one.draft.content_hash == proposer), None)
        self._candidates = [one for one in self._candidates if one.draft is not draft]
        self._trials = [trial for trial in self._trials if trial.config.proposer != proposer]
        name, quant = (draft.name, draft.quant) if draft else (label, "")
        self._rejected.append(Rejected(name, quant, "engine", error.line))
        self._progress.note(f"{label} is left out: {error.what}")
