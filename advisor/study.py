"""One question on its way through the stages: what has been found out so far, and the engine that finds out more.

The order of the stages is ``pipeline.py``'s to know. They are gone through twice: a first look at short answers, and a
thorough one in the time that is left. Each stage ends at its share of the budget with what it has. This module is long
because a stage is the few lines that hand what is known to whoever does the work: they share nothing but that.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version

from advisor import conclusion, depth, heads, places
from advisor.acceptance.answer_text import answer_texts
from advisor.acceptance.ngram import NgramAcceptance
from advisor.acceptance.rejection import weighed, without_chances
from advisor.acceptance.replay import Elsewhere, Replayer, ReplaysHere, at_once, replay_all
from advisor.acceptance.transcripts import answer_digest, spread, write_transcripts
from advisor.budget import Budget
from advisor.cost.curves import typical_depth
from advisor.cost.guess import best_case, guessed, guessed_target
from advisor.cost.step_law import step_law
from advisor.cost.visits import Conditions, Curves
from advisor.engines import StartEngine, StartRunner
from advisor.engines.base import Engine, LoadOptions, Runner, Waiting
from advisor.errors import AdvisorError, EngineError, EngineRefusal, OutOfTime
from advisor.host import with_decode_bandwidth
from advisor.measured import estimate_of
from advisor.ngram import METHODS
from advisor.plan import (
    CURVE_SHARE,
    FIRST,
    THOROUGH,
    Effort,
    Plan,
    Question,
    Speed,
    make_plan,
    room_for_two,
    see_speed,
    target_place,
    thread_counts,
    with_one_target_placement,
)
from advisor.predict.correction import IN_USE_SD
from advisor.predict.predictor import Predictor
from advisor.predict.steady import steadied
from advisor.profiles.use import Imported
from advisor.progress import Progress
from advisor.ranking import NO_DRAFT_RUNS, WORTH_IT, Answer, answer
from advisor.remedies import Remedies
from advisor.runs import RunMeasurer
from advisor.search import NO_SHARED_STUDY, STOPPED_BUDGET, search
from advisor.shared_study import Sharing, agreed, who_searches
from advisor.store import Store, data_dir
from advisor.surroundings import Surroundings
from advisor.types import (
    Baseline,
    Candidate,
    Config,
    CostCurve,
    Estimate,
    FirstAnswer,
    MeasurementNotes,
    Origin,
    Recommendation,
    Rejected,
    Run,
    Trace,
    Transcript,
    Trial,
    pooled_token_s,
)

INTERRUPTED = "interrupted"
NOTHING_TO_PROPOSE = f"{NO_DRAFT_RUNS}, and methods that need none found nothing to propose in its answers"
VISITS: dict[str, int] = {"first": 0, "thorough": 1}  # of curves: a shared machine changes within minutes
LEAST_VISIT_S = 1.0
ENOUGH_TOKENS, LATELY, SUDDENLY = 8, 5, 2.0  # tokens that show a speed, how many of them count, how much slower is news


Foresee = Callable[[Sequence[Candidate], float], Sequence[Estimate]]
"""(drafts, the target's tokens a second) -> an estimate of each."""


class Study:
    """Each stage adds what the next one needs. A stage finds in the store what an earlier call has measured.

    ``start_runner``: what answers and runs in place of the engine, which then only replays drafts. ``imported``:
    answers and traces that need not be measured. ``elsewhere``: spreads replays over other machines.
    ``shared_search``: the database of a search that machines of this class share. ``heads_beside``: prediction heads in
    files of their own. ``quick``: the first look is all. ``foresee``: what is known of drafts that have no turn.
    """

    def __init__(
        self,
        question: Question,
        candidates: list[Candidate],
        rejected: list[Rejected],
        store: Store,
        start_engine: StartEngine,
        progress: Progress,
        budget: Budget,
        surroundings: Surroundings,
        start_runner: StartRunner | None = None,
        imported: Imported | None = None,
        elsewhere: Elsewhere | None = None,
        shared_search: str | None = None,
        heads_beside: Sequence[Candidate] = (),
        quick: bool = False,
        foresee: Foresee = lambda drafts, baseline_tps: (),
    ) -> None:
        self._question, self._settings = question, question.settings
        self._imported, self._elsewhere = imported, elsewhere
        self._sharing = Sharing(shared_search, who_searches(store)) if shared_search else None
        self._host, self._target = question.host, question.target
        placed = with_one_target_placement([*candidates, *heads_beside])
        self._candidates, self._heads = placed[: len(candidates)], placed[len(candidates) :]
        self._rejected = list(rejected)
        self._asked_drafts = sorted(candidate.draft.content_hash for candidate in candidates)
        self._store, self._start_engine, self._progress = store, start_engine, progress
        self._budget, self._surroundings, self._quick, self._foresee = budget, surroundings, quick, foresee
        self._thread_counts = thread_counts(self._host, self._settings)
        self._threads = self._own_threads = self._thread_counts[0]
        self._place = target_place(placed, self._target, self._host, self._settings.context)
        self._has_room = room_for_two(placed)
        self._remedies = Remedies(
            store, self._host.fingerprint, progress, fresh=question.fresh, time_left_s=lambda: budget.left_s
        )
        self._engine = self._remedies.first(start_engine)
        self._runner: Runner = self._engine if start_runner is None else self._remedies.first(start_runner)
        self._timer = self._runner
        self._question_name = self._name_of_question()
        self._answer_key = self._key_of_answer()
        self._waiting: Waiting = "as built"
        self._was_slowed = False  # by others, at any time: what is planned since then is not for a quiet machine
        self._speed: Speed
        self._seen_token_s: list[float] = []
        self._effort, self._began = FIRST, 0.0
        self._plan: Plan
        self._basis: Plan  # of the answers that count; those of the present plan do when they are replayed
        self._written: tuple[Transcript, ...] = ()
        self._transcripts: tuple[Transcript, ...] = ()
        self._traces: dict[str, tuple[Trace, ...]] = {}
        self._curves: Curves | None = None
        self._timed_in_use = False
        self._predictor: Predictor | None = None
        self._is_stale = False  # whether the predictor knows less than was measured
        self._trials: list[Trial] = []
        self._others_trials: list[Trial] = []
        self._stop_reason = ""
        self._first_answer: FirstAnswer | None = None
        self._at_depth = depth.NOTHING
        self._not_weighed: tuple[str, ...] = ()
        self._about_heads: tuple[str, ...] = ()

    @property
    def efforts(self) -> tuple[Effort, ...]:
        """How often the stages are gone through: once where acceptance is there already, where all machines of a search
        must do the same, and where only heads are run."""
        if self._sharing or self._imported or self._target.is_recurrent:
            return (THOROUGH,)
        return (FIRST,) if self._quick else (FIRST, THOROUGH)

    @property
    def can_conclude(self) -> bool:
        """Not from the methods without a draft alone where drafts are asked about."""
        return self._predictor is not None or bool(self._traces or (self._transcripts and not self._candidates))

    def see_the_target(self) -> None:
        """How fast it is here and now, from which everything else is planned."""
        spent_s = self._store.recall_seconds(self._spent_name)
        self._budget.take_up(spent_s if spent_s < self._budget.total_s else 0.0)
        self._progress.stage("load the target", 0)
        self._adapt(is_busy=self._surroundings.is_busy())
        key: dict[str, object] = {"question": self._question_name, "budget_s": self._settings.budget_s}
        speed = self._store.get("speed", key, Speed) if not self._was_slowed else None
        if speed is None:
            began_s = self._budget.elapsed_s
            counts = self._thread_counts[:1] if self._waiting == "asleep" else self._thread_counts
            prompts = spread(self._question.workload.prompts)[: THOROUGH.prompts]
            speed = see_speed(self._runner, prompts, self._settings, counts, self._open_target, self._budget)
            if not self._was_slowed:
                self._store.put("speed", key, speed, wall_s=self._budget.elapsed_s - began_s)
        self._speed, self._seen_token_s = speed, [speed.token_s]

    def plan_answers(self, effort: Effort) -> None:
        """How many answers of which length this effort has time for, at the speed that was seen last."""
        self._effort, self._began = effort, self._budget.spent_s / self._budget.total_s
        self._stop_reason = ""
        key: dict[str, object] = {
            "question": self._question_name,
            "budget_s": self._settings.budget_s,
            "effort": effort.name,
        }
        plan = self._store.get("plan", key, Plan) if not self._was_slowed else None
        if plan is None:
            plan = make_plan(effort, self._speed, self._settings, len(self._question.workload.prompts), self._token_s)
            if self._imported:
                plan = replace(plan, prompts=self._imported.size[0], max_tokens=self._imported.size[1])
            if not self._was_slowed:
                self._store.put("plan", key, plan, wall_s=0.0)
        if self._sharing:
            plan = self._agreed_by_all(plan, self._sharing)
        self._plan, self._own_threads = plan, plan.threads  # those of whoever began a shared search
        self._adapt(is_busy=self._waiting == "asleep" or self._surroundings.is_busy())

    def write_transcripts(self) -> None:
        if self._imported:
            self._written = self._imported.transcripts(self._runner.tokenize)
            return
        self._written = write_transcripts(
            self._runner,
            self._store,
            self._target,
            spread(self._question.workload.prompts)[: self._plan.prompts],
            self._settings.sampling,
            context=self._settings.context,
            max_tokens=self._plan.max_tokens,
            progress=self._progress,
            begun=self._transcripts,
            time_left_s=self._until(self._effort.written),
            on_run=self._saw,
        )

    def weigh_answers(self) -> None:
        """How likely the target was to write what it wrote: what rejection sampling weighs a draft against."""
        sampled = self._settings.sampling.temperature > 0 and self._runner.rejection_sampling and not self._imported
        if not sampled or (self._is_served and not self._on_this_cpu):
            return
        if self._is_served:
            self._runner.shutdown()  # its memory is needed
            self._open_target(self._threads, self._engine)
        self._progress.stage("weigh the answers", 0)
        asked = (self._target, self._written, self._settings.sampling)
        try:
            self._written = weighed(self._engine, self._store, *asked)
        except EngineError as error:
            self._not_weighed = conclusion.not_weighed(error)

    def replay_drafts(self) -> None:
        """Acceptance of every draft for every k, n_min and p_min; in the thorough look, of those that can still win."""
        candidates = self._by_hope()
        if self._predictor is not None:
            unturned = [one for one in candidates if one.draft.content_hash not in self._traces]
            candidates = [*unturned, *self._contenders()]
        self._replay(candidates, self._until(self._effort.replayed))

    def measure_the_rest(self) -> None:
        """Drafts that cannot win here, in the time that nothing else needs: acceptance travels, and what loses here may
        win on another machine."""
        rest = [
            one for one in self._candidates if _tokens(self._traces.get(one.draft.content_hash, ())) < self._most_tokens
        ]
        if rest and not self._imported and self._spare_s() > 0:
            self._replay(rest, self._spare_s)
            self.predict()
        timed = self._curves.drafts if self._curves is not None and self._curves.is_begun else None
        untimed = [one for one in self._candidates if timed is not None and one.draft.content_hash not in timed]
        if untimed and not self._target.is_recurrent and self._spare_s() > 0:
            self._progress.stage("measure what decodes of the others cost", len(untimed))
            with self._timing(), self._timer_open():
                self._visit_drafts(untimed, 0, self._spare_s)
            self.predict()

    def _spare_s(self) -> float:
        """Seconds that are left beside what is kept for the look at depth."""
        return self._budget.left_s - self._depth_share_s

    @property
    def _most_tokens(self) -> int:
        return max((_tokens(traces) for traces in self._traces.values()), default=0)

    def _replay(self, candidates: Sequence[Candidate], time_left_s: Callable[[], float]) -> None:
        """Raises OutOfTime where no draft has had a turn."""
        self._runner.close("draft")  # whoever speculated has the memory that replays need
        known = self._imported.traces(candidates) if self._imported else {}
        replayed, failures = replay_all(
            self._replayer(time_left_s),
            self._store,
            self._target,
            [candidate for candidate in candidates if candidate.draft.content_hash not in known],
            self._written,
            build_key=self._engine.build.key,
            context=self._settings.context,
            k_max=self._settings.k_max,
            progress=self._progress,
            temperature=self._settings.sampling.temperature,
            rolled_out=self._effort.rolled_out,
        )
        found = {**known, **replayed}
        found = found if self._runner.rejection_sampling else without_chances(found)
        for draft, traces in found.items():
            if _tokens(traces) > _tokens(self._traces.get(draft, ())):
                self._traces[draft] = traces
        self._transcripts, self._basis, self._is_stale = self._written, self._plan, True
        self._reject({draft: error for draft, error in failures.items() if draft not in self._traces})
        if self._candidates and not self._traces:
            raise OutOfTime
        if self._remedies.needed(self._engine) and not self._engine.repack_off:  # found by a replay
            self._engine.shutdown()
            is_runner, self._engine = not self._is_served, self._new_engine()
            if is_runner:
                self._runner = self._timer = self._engine
                self._open_target(self._threads)

    def measure_curves(self) -> None:
        """Cost: t(b) of the target alone and d(b) of each draft beside it that can win; a second time in the thorough
        look.

        Where a server on this CPU cannot be made to decode a few tokens again, this process times them.
        """
        self._progress.stage("measure what decodes cost", 1 + len(self._candidates))
        if self._target.is_recurrent:  # no request makes it decode a few tokens again
            self._curves = Curves(self._timer, self._store, self._conditions())
            self._curves.leave_out()
            return
        self._get_ready_to_time()
        with self._timing():
            try:
                with self._timer_open():
                    self._visit_curves()
            except EngineRefusal:
                if not self._is_served or not self._on_this_cpu or self._timer is self._engine:
                    raise
                self._timer, self._curves = self._engine, None
                with self._timer_open():
                    self._visit_curves()

    @contextmanager
    def _timing(self) -> Iterator[None]:
        """What is timed meanwhile, and whether others disturbed it. Then it counts for this answer alone, unless it was
        timed in the way of a machine in use: the store would hand it to a quiet one."""
        self._surroundings.begin_timing()
        mark = self._store.mark()
        try:
            yield
        finally:
            if self._surroundings.end_timing():
                self._is_stale |= not self._timed_in_use  # what is predicted is less sure than it was
                self._timed_in_use = True
                if self._waiting == "as built":
                    self._store.forget_since(mark)

    @contextmanager
    def _timer_open(self) -> Iterator[None]:
        """What times decodes holds the target, and has the memory of whoever else held it."""
        other = self._runner if self._timer is self._engine else self._engine
        if other is not self._timer:
            other.shutdown()
        self._open_target(self._threads, self._timer)
        yield
        if self._timer is not self._runner:
            self._timer.shutdown()

    def _get_ready_to_time(self) -> None:
        """In quiet, where that can be had; else as is best beside other programs. What was timed in another way, or
        beside others where it is quiet now, counts no more."""
        was_in_use = self._timed_in_use
        is_quiet = self._surroundings.wait_for_quiet()
        self._adapt(is_busy=not is_quiet)
        timed_so = (self._curves.waiting, self._curves.threads) if self._curves is not None else None
        if timed_so is not None and (timed_so != (self._waiting, self._threads) or (was_in_use and is_quiet)):
            self._curves, self._trials, self._timed_in_use, self._is_stale = None, [], False, True

    def _visit_curves(self) -> None:
        """Raises EngineRefusal where the target's decodes cannot be timed."""
        left_s, visit = self._until(self._effort.timed), VISITS[self._effort.name]
        if self._curves is None:
            self._curves, visit = Curves(self._timer, self._store, self._conditions()), 0
        curves = self._curves
        if visit and not (curves.is_known(visit) or left_s() > self._plan.token_s):
            return
        try:
            curves.visit_target(visit, self._budget.left_s if visit == 0 else left_s())
        except OutOfTime:
            if visit == 0:
                raise
            return  # the first visit stands
        self._visit_drafts(self._contenders()[: self._effort.timed_drafts], visit, left_s)

    def _visit_drafts(self, candidates: Sequence[Candidate], visit: int, left_s: Callable[[], float]) -> None:
        """One that is seen for the first time has its first visit."""
        assert self._curves is not None
        curves, failures = self._curves, dict[str, AdvisorError]()
        for candidate in candidates:
            draft = candidate.draft.content_hash
            at = visit if draft in curves.drafts else 0
            if not curves.is_known(at, candidate) and left_s() <= 0:
                break
            try:
                curves.visit_draft(candidate, at, among=len(self._candidates), within_s=max(left_s(), LEAST_VISIT_S))
            except OutOfTime:
                break
            except EngineError as error:
                failures[draft] = error
            self._progress.step(candidate.draft.label)
        self._reject(failures)

    def predict(self) -> None:
        texts = self._transcripts
        ngram = NgramAcceptance(texts, context=self._settings.context, max_tokens=self._basis.max_tokens)
        replayed = self._has_texts and not self._target.is_recurrent
        vars(self).pop("_pick_ran", None)
        self._predictor = self._predict(ngram if replayed else None)
        self._is_stale = False

    def run_the_heads(self) -> None:
        """Real runs of prediction heads, the one kind of proposer that nothing is predicted of."""
        found = heads.heads_of(self._target, self._heads)
        if not found or self._effort is not self.efforts[-1]:
            return
        if not self._is_served:
            self._about_heads = (heads.NEEDS_SERVER,)
            return
        self._progress.stage("run prediction heads", 0)
        with self._timing():
            outcome = heads.run_heads(
                found,
                self._measurer(self._heads, self._plan.max_tokens),  # nothing else tells of their acceptance
                prompts=self._trial_prompts,
                k_max=self._settings.k_max,
                trial_s=self._trial_s(self._trial_prompts, self._plan.max_tokens),
                time_left_s=self._search_left_s,
                on_trial=self._keep_trial,
                progress=self._progress,
            )
        self._rejected += outcome.rejected
        self._about_heads = outcome.notes

    def run_the_best(self) -> None:
        """Short real runs of the best few, each beside its own baseline; in the first look of the pick alone."""
        assert self._predictor is not None
        measurer, prompts = self._measurer(), self._prompts_in_time
        with self._timing():
            result = search(
                self._predictor,
                measurer,
                lambda _trials: self._would_be_picked(),
                journal=data_dir() / "studies.journal" if self._store.on_disk else None,
                study_name=self._shared_name if self._sharing else self._study_name,
                explore=self._effort is THOROUGH,
                known=self._trials,
                shared=self._sharing,
                on_trial_of_others=self._others_trials.append,
                proposers=[*self._asked_drafts, *METHODS],
                k_max=self._settings.k_max,
                prompts=prompts,
                trial_s=self._trial_s(prompts),
                time_left_s=self._search_left_s,
                progress=self._progress,
                on_trial=self._keep_trial,
                is_stored=measurer.is_stored,
                answers=self._trial_prompts,
            )
        self._stop_reason = result.stop_reason
        self._reject(result.failed)

    def answer_first(self) -> None:
        """Tell what would be answered now, where more is to be measured."""
        if self._first_answer is None:
            _, found = self._answered()
            config = found.best.config if found.best else None
            self._first_answer = FirstAnswer(self._budget.elapsed_s, found.sentence, config)
            if self._effort is not self.efforts[-1]:
                self._progress.first_answer(found.sentence)

    def try_other_places(self) -> None:
        """The pick's draft where else it could be, in the time that the search left. Not beside other programs: a core
        that they take is no place for a draft, and whether they take it changes from one minute to the next."""
        if self._timed_in_use:
            return
        _, found = self._answered()
        there = next((one for one in self._trials if found.best is not None and one.config == found.best.config), None)
        candidate = next(
            (one for one in self._candidates if there and one.draft.content_hash == there.config.draft), None
        )
        if there is None or candidate is None or there.pruned:
            return
        self._progress.stage("try other places for the draft", 0)
        context, k_max = self._settings.context, self._settings.k_max
        with self._timing():
            moved = places.better_place(
                there,
                places.alternatives(self._target, candidate, self._host, context, k_max=k_max, threads=self._threads),
                lambda one: self._measurer([one]),
                trial_s=self._trial_s(len(there.prompts)),
                time_left_s=self._search_left_s,
            )
        if moved is not None:
            self._candidates = [moved.candidate if one is candidate else one for one in self._candidates]
            self._trials = [moved.trial if one is there else one for one in self._trials]

    def look_at_depth(self) -> None:
        """What becomes of the pick in a context as long as was asked for."""
        _, found = self._answered()
        if found.best is None or found.verdict != "speculate" or not self._has_texts:
            return
        if found.best.config.method in heads.METHODS:
            self._about_heads = (heads.NOT_LOOKED_AT,) if self._ground_at_depth().wanted else ()
            return
        draft = found.best.config.draft
        candidate = next((one for one in self._candidates if one.draft.content_hash == draft), None)
        pick = depth.Pick(found.best, candidate, self._traces.get(draft, ()), step_law(self._runner.build))
        if self._timer is not self._runner:
            self._runner.shutdown()  # its memory is needed
        is_stale = self._is_stale
        with self._timing():
            self._at_depth = depth.look(
                pick,
                self._ground_at_depth(),
                self._engine,
                self._timer,
                self._store,
                reads=self._reads_answers_here,
                trials=self._trials,
                allowance_s=max(min(self._depth_share_s, self._budget.left_s), self._budget.left_s / 2),
                name=f"{self._study_name}-{self._settings.budget_s:g}",
                progress=self._progress,
            )
        self._is_stale = is_stale  # what disturbs the look itself makes its pick no other one

    def conclude(self, stop_reason: str = "") -> Recommendation:
        """The recommendation from whatever has been measured. Raises OutOfTime where that is nothing."""
        measured_now = any(engine.used for engine in self._remedies.started)
        if measured_now:
            goes_on = stop_reason and not self._timed_in_use  # what others disturbed is timed again, in as much time
            spent_s = self._budget.spent_s if goes_on else 0.0
            self._store.remember(self._spent_name, str(spent_s))
        baseline, found = self._answered()
        unturned = [one for one in self._candidates if one.draft.content_hash not in self._traces]
        target_curve, draft_curves = self._target_curve, self._draft_curves
        return Recommendation(
            host=with_decode_bandwidth(self._host, self._target.active_weights_bytes, baseline.token_s),
            build=self._runner.build,
            target=self._target,
            settings=replace(self._settings, threads=self._own_threads),
            workload=self._question.workload.name,
            categories=tuple(dict.fromkeys(t.category for t in self._transcripts)),
            baseline=baseline,
            candidates=tuple(self._known),
            estimates=(*found.ranked, *self._foresee(unturned, baseline.tokens_per_second)),
            rejected=(*self._rejected, *conclusion.without_a_turn(unturned)),
            verdict=found.verdict,
            sentence=" ".join((found.sentence, *self._at_depth.sentences)),
            best=found.best,
            runner_up=found.runner_up,
            traces=self._traces,
            target_curve=target_curve,
            draft_curves=draft_curves,
            trials=tuple(self._all_trials),
            measurement=MeasurementNotes(
                prompts=len(self._transcripts),
                answer_tokens=sum(len(t.answer_tokens) for t in self._transcripts),
                trials=len(self._all_trials),
                anchor_drift=max(self._curves.drift if self._curves else 0.0, conclusion.drift_over(self._trials)),
                stop_reason=stop_reason or self._stop_reason or STOPPED_BUDGET,
                elapsed_s=self._budget.elapsed_s,
                from_store=not measured_now,
                repack_off=self._runner.repack_off,
                notes=(
                    *([self._imported.remark] if self._imported else []),
                    *conclusion.shared_notes(len(self._others_trials), len(self._all_trials)),
                    *conclusion.notes(
                        found.best,
                        self._all_trials,
                        None if self._target.is_recurrent else self._engine.build,
                        self._runner.build if self._is_served else None,
                        timed_here=self._timer is self._engine,
                    ),
                    *conclusion.memory_notes(self._trials, self._known),
                    *conclusion.guessed_costs(target_curve, draft_curves, [one.draft for one in self._candidates]),
                    *self._not_weighed,
                    *self._about_heads,
                    *conclusion.rules(found.ranked),
                    *conclusion.cache_note(self._place),
                    *self._at_depth.notes,
                ),
                contention=self._surroundings.said(asleep=self._waiting == "asleep", threads=self._threads),
                first_answer=self._first_answer,
            ),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            answers=answer_texts(self._target, self._transcripts) if self._has_texts else (),
            at_depth=self._at_depth.found,
            origin=self._origin(),
        )

    def kept_answer(self) -> Recommendation | None:
        """What an earlier command answered to this question, with as much time: nothing need be run.
        What was measured on a machine in use is measured again."""
        known = self._store.get("answer", self._answer_key, Recommendation)
        if known is None:
            return None
        had_time = known.settings.budget_s >= self._settings.budget_s
        was_in_use = known.measurement.contention is not None and known.measurement.contention.in_use
        asked = {(one.draft, one.quant, one.reason) for one in self._rejected}
        failed = any((one.draft, one.quant, one.reason) not in asked for one in known.rejected)  # not so now, perhaps
        if not had_time or was_in_use or failed:
            return None
        models = {one.draft.content_hash: one.draft for one in [*self._candidates, *self._heads]}
        candidates = tuple(
            replace(one, draft=models.get(one.draft.content_hash, one.draft)) for one in known.candidates
        )
        notes = replace(known.measurement, from_store=True, elapsed_s=self._budget.elapsed_s)
        return replace(known, target=self._target, candidates=candidates, settings=known.settings, measurement=notes)

    def keep_answer(self, recommendation: Recommendation) -> None:
        self._store.put("answer", self._answer_key, recommendation, wall_s=self._budget.elapsed_s)

    @property
    def _spent_name(self) -> str:
        """Of the seconds that were spent before an interrupt, of this budget alone."""
        return f"spent/{self._question_name}-{self._settings.budget_s:g}{'-quick' if self._quick else ''}"

    def _key_of_answer(self) -> dict[str, object]:
        """What is asked, and all that an answer to it rests on beside measurements."""
        return {
            "question": self._question_name,
            "quick": self._quick,
            "shared": self._sharing is not None,
            "advisor": version("draft-advisor"),
            "places": {one.draft.content_hash: vars(one.placement) for one in [*self._candidates, *self._heads]},
            "rejected": sorted((one.draft, one.quant, one.reason) for one in self._rejected),
        }

    def shutdown(self) -> None:
        self._engine.shutdown()
        self._runner.shutdown()

    @property
    def _has_texts(self) -> bool:
        return self._imported is None or self._imported.has_texts

    @property
    def _study_name(self) -> str:
        """Of real runs that can be compared: as long, on as many threads that wait alike."""
        waiting = "" if self._waiting == "as built" else f"-{self._waiting}"
        return f"{self._question_name}-{self._plan.trial_tokens}-{self._threads}{waiting}"

    def _origin(self) -> Origin:
        if self._imported:
            return self._imported.origin
        return Origin(
            host=replace(self._host, measured_at="", notes=()),
            build=self._engine.build,
            workload=self._question.workload.name,
            workload_hash=self._question.workload.content_hash,
            sampling=self._settings.sampling,
            prompts=tuple(transcript.prompt for transcript in self._transcripts),
            answers=tuple(answer_digest(transcript) for transcript in self._transcripts),
            max_tokens=self._basis.max_tokens,
            k_max=self._settings.k_max,
        )

    def _replayer(self, time_left_s: Callable[[], float]) -> Replayer:
        here = ReplaysHere(
            self._new_engine,
            threads=self._threads,
            at_once=at_once(self._candidates, self._threads),
            time_left_s=time_left_s,
            clock=self._budget.clock,
        )
        return self._elsewhere(here, self._engine.build, time_left_s) if self._elsewhere else here

    @property
    def _is_served(self) -> bool:
        return self._runner is not self._engine

    @property
    def _reads_answers_here(self) -> bool:
        """Whether drafts and target read answers in this process: not where others measure acceptance."""
        return self._imported is None and self._elsewhere is None and (not self._is_served or self._on_this_cpu)

    @property
    def _on_this_cpu(self) -> bool:
        """Whether the server computes where this process does."""
        on_gpu = [candidate.placement.draft_gpu_layers for candidate in self._candidates]
        return self._place.target_gpu_layers == 0 and not any(on_gpu)

    def _answered(self) -> tuple[Baseline, Answer]:
        """The answer from whatever has been measured."""
        if self._predictor is None or self._is_stale:
            self.predict()
        assert self._predictor is not None
        trials = self._all_trials
        baseline = conclusion.baseline(self._trials or trials, self._target_curve)
        categories = [transcript.category for transcript in self._transcripts]
        estimates = [
            *self._predictor.estimates(trials, baseline.tokens_per_second),
            *(estimate_of(trial, categories, baseline.tokens_per_second) for trial in self._head_trials),
        ]
        nothing = NO_DRAFT_RUNS if self._asked_drafts else NOTHING_TO_PROPOSE
        return baseline, answer(estimates, self._known, nothing=nothing, guessed=self._predictor.guessed)

    @cached_property
    def _pick_ran(self) -> bool:
        """Asked anew when there is another trial or another prediction."""
        return bool(self._trials) and self._would_be_picked() in {trial.config for trial in self._trials}

    def _would_be_picked(self) -> Config | None:
        _, found = self._answered()
        return found.ranked[0].config if found.ranked else None

    @property
    def _known(self) -> list[Candidate]:
        """What an estimate can be of."""
        ran = {trial.config.draft for trial in self._trials}
        return [*self._candidates, *(one for one in self._heads if one.draft.content_hash in ran)]

    @property
    def _head_trials(self) -> list[Trial]:
        return [trial for trial in steadied(self._trials) if trial.config.method in heads.METHODS]

    @property
    def _all_trials(self) -> list[Trial]:
        """Those of this process and of others that search with it."""
        return [*self._trials, *self._others_trials]

    def _ground_at_depth(self) -> depth.Ground:
        return depth.Ground(
            self._host.fingerprint,
            self._target,
            self._place,
            self._transcripts,
            replace(self._settings, threads=self._threads),
            self._basis.max_tokens,
            self._has_room,
            self._waiting,
        )

    @property
    def _depth_share_s(self) -> float:
        looks = self._has_texts and self._ground_at_depth().wanted
        return self._settings.budget_s * depth.DEPTH_SHARE if looks else 0.0

    @property
    def _trial_prompts(self) -> int:
        return min(self._plan.trial_prompts, len(self._transcripts))

    @property
    def _prompts_in_time(self) -> int:
        """As many as was planned, or fewer, but two, where that lets a first run happen: better seen than computed."""
        planned = self._trial_prompts
        return next((n for n in range(planned, 1, -1) if self._trial_s(n) <= self._search_left_s()), planned)

    def _search_left_s(self) -> float:
        """A first real run of the pick may take what is kept for the look at depth: what was never seen to work comes
        first."""
        return self._until(self._effort.run)() - (self._depth_share_s if self._pick_ran else 0.0)

    def _trial_s(self, prompts: int, max_tokens: int = 0) -> float:
        """What a trial is expected to take, as short as it is planned or of ``max_tokens``. A server starts for it;
        twice a prompt where there is no room for two."""
        starts = 0 if not self._is_served else 1 if self._has_room else 2 * prompts
        tokens = max_tokens or self._plan.trial_tokens
        return 2 * prompts * tokens * self._token_s + starts * self._plan.load_s

    def _until(self, share: float) -> Callable[[], float]:
        """Seconds left until that share of what this effort had when it began is spent."""
        end = self._began + share * (1 - self._began)
        return lambda: self._budget.left_until(end)

    @property
    def _token_s(self) -> float:
        """The target's time a token, as it was seen lately."""
        return statistics.median(self._seen_token_s[-LATELY:])

    def _saw(self, run: Run) -> None:
        """What an answer says of the machine. One that suddenly takes several times as long may do so because threads
        spin beside somebody else's program: then the next one is written asleep."""
        if run.tokens < ENOUGH_TOKENS:
            return
        is_slow = run.token_s > SUDDENLY * self._token_s
        self._seen_token_s.append(run.token_s)
        if is_slow and self._waiting == "as built" and self._surroundings.is_busy():
            self._adapt(is_busy=True)

    def _keep_trial(self, trial: Trial) -> None:
        vars(self).pop("_pick_ran", None)
        self._trials = [*(one for one in self._trials if one.config != trial.config), trial]
        self._seen_token_s.append(pooled_token_s(trial.baselines))

    def _adapt(self, *, is_busy: bool) -> None:
        """Beside other programs threads wait asleep; where the build cannot, fewer of them leave a core to the
        others."""
        wanted: Waiting = "asleep" if is_busy else "as built"
        if wanted != self._waiting:
            self._runner.close("draft")  # it was opened to wait otherwise
        self._waiting, self._threads = wanted, self._own_threads
        self._was_slowed |= is_busy
        self._open_target(self._threads)
        if is_busy:
            self._threads = self._surroundings.threads(self._own_threads, can_sleep=self._runner.sleeps)
            self._open_target(self._threads)

    def _measurer(self, candidates: list[Candidate] | None = None, max_tokens: int = 0) -> RunMeasurer:
        return RunMeasurer(
            self._runner,
            self._store,
            self._target,
            self._candidates if candidates is None else candidates,
            self._transcripts,
            self._settings.sampling,
            host=self._host.fingerprint,
            context=self._settings.context,
            threads=self._threads,
            max_tokens=max_tokens or self._plan.trial_tokens,
            place=self._place,
            forgets=self._is_served and not self._has_room,
            waiting=self._waiting,
            time_left_s=self._search_left_s,
        )

    def _predict(self, ngram: NgramAcceptance | None = None) -> Predictor:
        curves = self._draft_curves
        return Predictor(
            {draft: self._traces[draft] for draft in curves},
            self._target_curve,
            curves,
            step_law(self._runner.build),
            k_max=self._settings.k_max,
            max_tokens=self._basis.max_tokens,
            ngram=ngram,
            doubt_sd=IN_USE_SD if self._timed_in_use else 0.0,
        )

    @property
    def _target_curve(self) -> CostCurve:
        if self._curves is not None and self._curves.is_begun:
            return self._curves.target
        return guessed_target(self._token_s, self._settings.k_max + 1)

    @property
    def _draft_curves(self) -> dict[str, CostCurve]:
        """Of the candidates that were replayed: as timed, else as their bytes say."""
        timed, target_curve = self._curves.drafts if self._curves is not None else {}, self._target_curve
        replayed = {
            one.draft.content_hash: one.draft for one in self._candidates if one.draft.content_hash in self._traces
        }
        known = [(model, timed[draft]) for draft, model in replayed.items() if draft in timed]
        return {
            draft: timed[draft] if draft in timed else guessed(model, self._target, target_curve, known)
            for draft, model in replayed.items()
        }

    def _by_hope(self) -> list[Candidate]:
        """Those that could win if the target agreed with all they say come first."""

        def is_hopeless(candidate: Candidate) -> bool:
            cost = candidate.draft.active_weights_bytes / self._target.active_weights_bytes
            return best_case(cost, self._settings.k_max) < WORTH_IT

        return sorted(self._candidates, key=is_hopeless)

    def _contenders(self) -> list[Candidate]:
        """Drafts that can still win, the most promising first."""
        by_hash = {candidate.draft.content_hash: candidate for candidate in self._candidates}
        return [by_hash[draft] for draft in self._predict().able_to_win()] if self._draft_curves else []

    def _conditions(self) -> Conditions:
        texts = self._transcripts
        return Conditions(
            host=self._host.fingerprint,
            target=self._target,
            place=self._place,
            threads=self._threads,
            context=self._settings.context,
            k_max=self._settings.k_max,
            sampling=self._settings.sampling,
            texts=texts if self._has_texts else tuple(replace(one, answer_tokens=()) for one in texts),
            depth=self._typical_depth,
            token_s=self._plan.token_s,
            share_s=self._settings.budget_s * CURVE_SHARE / 2 / len(VISITS),
            waiting=self._waiting,
        )

    @property
    def _typical_depth(self) -> int:
        """Of a token of the answers of the thorough look, also where that is still to come."""
        available = len(self._question.workload.prompts)
        length = make_plan(THOROUGH, self._speed, self._settings, available, self._speed.token_s).max_tokens
        whole = [
            text if text.ended or not self._has_texts else replace(text, answer_tokens=(0,) * length)
            for text in self._transcripts
        ]
        return typical_depth(whole if self._has_texts else [replace(one, answer_tokens=()) for one in whole])

    def _open_target(self, threads: int, engine: Runner | None = None) -> None:
        context, outputs = self._settings.context, self._settings.k_max + 1
        options = LoadOptions.of_target(
            self._place,
            context,
            threads,
            outputs=outputs,
            room_for_two=self._has_room,
            waiting=self._waiting,
        )
        (engine or self._runner).open("target", self._target, options)

    def _new_engine(self) -> Engine:
        return self._remedies.new(self._start_engine)

    def _reject(self, failures: Mapping[str, AdvisorError]) -> None:
        """A draft whose engine failed leaves the race and keeps its reason."""
        for candidate in list(self._candidates):
            error = failures.get(candidate.draft.content_hash)
            if error is not None:
                self._candidates.remove(candidate)
                self._rejected.append(Rejected(candidate.draft.name, candidate.draft.quant, "engine", error.line))
        for method in METHODS:
            if method in failures:
                self._rejected.append(Rejected(method, "", "engine", failures[method].what))
        others = self._predictor.analytics if self._predictor is not None else {}
        if failures and not self._candidates and not others:
            raise EngineError(
                "The engine failed with every draft, so there is no answer.",
                why=conclusion.reasons(self._rejected),
                fix="What was measured is stored; the same command goes on from there. A reinstalled llama-cpp-python "
                "or a smaller --context may help.",
            )

    def _agreed_by_all(self, plan: Plan, sharing: Sharing) -> Plan:
        """One plan on every machine of this class with these versions, whoever compiled them."""
        builds = [(one.engine, one.version, one.llama_cpp_build) for one in (self._engine.build, self._runner.build)]
        facts = (self._facts(builds), self._settings.budget_s)
        name = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
        try:
            self._shared_name, plan = agreed(sharing.url, name, plan, fresh=self._question.fresh)
        except OSError as error:
            self._progress.note(NO_SHARED_STUDY.format(error))
            self._sharing = None
        return plan

    def _facts(self, builds: object) -> tuple[object, ...]:
        """What makes this question another one, with the ``builds`` told apart as the caller wants."""
        settings = self._settings
        return (
            self._host.fingerprint,
            builds,
            self._target.content_hash,
            (self._asked_drafts, *METHODS),
            self._question.workload.content_hash,
            (settings.context, settings.sampling, settings.max_tokens, settings.k_max, self._thread_counts),
            *([self._imported.digest] if self._imported else []),
        )

    def _name_of_question(self) -> str:
        """The same question has the same name, whatever its budget and wherever its files are."""
        facts = self._facts((self._engine.build.key, self._runner.build.key))
        name = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
        if self._question.fresh:
            self._store.ignore_earlier()
            self._store.remember(f"generation/{name}", str(time.time_ns()))
        return f"{name}-{self._store.recall(f'generation/{name}') or 0}"


def _tokens(traces: Sequence[Trace]) -> int:
    return sum(len(trace.answer_tokens) for trace in traces)
