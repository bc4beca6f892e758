"""One question on its way through the stages: what has been found out so far, and the engine that finds out more.

The order of the stages is ``pipeline.py``'s to know. This module is long because a stage is the few lines that hand
what is known to whoever does the work: they share nothing but that.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from advisor import conclusion, depth, heads, places
from advisor.acceptance.answer_text import answer_texts
from advisor.acceptance.ngram import NgramAcceptance
from advisor.acceptance.rejection import weighed, without_chances
from advisor.acceptance.replay import Elsewhere, Replayer, ReplaysHere, at_once, replay_all
from advisor.acceptance.transcripts import answer_digest, spread, write_transcripts
from advisor.cost.step_law import step_law
from advisor.cost.visits import VISITS, Conditions, Curves
from advisor.engines import StartEngine, StartRunner
from advisor.engines.base import Engine, LoadOptions, Runner
from advisor.errors import AdvisorError, BudgetTooSmall, EngineError, EngineRefusal
from advisor.host import with_decode_bandwidth
from advisor.measured import estimate_of
from advisor.ngram import METHODS
from advisor.plan import (
    CURVE_SHARE,
    Plan,
    Question,
    make_plan,
    room_for_two,
    target_place,
    thread_counts,
    with_one_target_placement,
)
from advisor.predict.predictor import Predictor
from advisor.predict.steady import steadied
from advisor.profiles.use import Imported
from advisor.progress import Progress
from advisor.ranking import NO_DRAFT_RUNS, Answer, answer
from advisor.remedies import Remedies
from advisor.runs import RunMeasurer
from advisor.search import NO_SHARED_STUDY, search
from advisor.shared_study import Sharing, agreed, who_searches
from advisor.store import Store, data_dir
from advisor.types import (
    Baseline,
    Candidate,
    Config,
    MeasurementNotes,
    Origin,
    Reason,
    Recommendation,
    Rejected,
    Trace,
    Transcript,
    Trial,
)

INTERRUPTED = "interrupted"
NOTHING_TO_PROPOSE = f"{NO_DRAFT_RUNS}, and methods that need none found nothing to propose in its answers"
REPLAYS_END = 0.6  # no replay begins after this share of the budget: curves and a real run must follow


class Study:
    """Each stage adds what the next one needs. A stage finds in the store what an earlier call has measured.

    ``start_runner``: what answers and runs in place of the engine, which then only replays drafts. ``imported``:
    answers and traces that need not be measured. ``elsewhere``: spreads replays over other machines.
    ``shared_search``: the database of a search that machines of this class share. ``heads_beside``: prediction heads in
    files of their own.
    """

    def __init__(
        self,
        question: Question,
        candidates: list[Candidate],
        rejected: list[Rejected],
        store: Store,
        start_engine: StartEngine,
        progress: Progress,
        start_runner: StartRunner | None = None,
        imported: Imported | None = None,
        elsewhere: Elsewhere | None = None,
        shared_search: str | None = None,
        heads_beside: Sequence[Candidate] = (),
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
        self._started = time.monotonic()
        self._thread_counts = thread_counts(self._host, self._settings)
        self._threads = self._thread_counts[0]
        self._place = target_place(placed, self._target, self._host, self._settings.context)
        self._has_room = room_for_two(placed)
        self._remedies = Remedies(store, self._host.fingerprint, progress, fresh=question.fresh)
        self._engine = self._remedies.first(start_engine)
        self._runner: Runner = self._engine if start_runner is None else self._remedies.first(start_runner)
        self._timer = self._runner
        self._question_name = self._name_of_question()
        self._plan: Plan
        self._transcripts: tuple[Transcript, ...] = ()
        self._traces: dict[str, tuple[Trace, ...]] = {}
        self._curves: Curves
        self._predictor: Predictor | None = None
        self._trials: list[Trial] = []
        self._others_trials: list[Trial] = []
        self._stop_reason = ""
        self._at_depth = depth.NOTHING
        self._not_weighed: tuple[str, ...] = ()
        self._about_heads: tuple[str, ...] = ()

    @property
    def can_conclude(self) -> bool:
        return self._predictor is not None

    def plan_measurements(self) -> None:
        """Decide how many answers of which length the budget allows."""
        self._progress.stage("load the target", 0)
        key: dict[str, object] = {"question": self._question_name, "budget_s": self._settings.budget_s}
        plan = self._store.get("plan", key, Plan)
        if plan is None:
            started = time.perf_counter()
            prompts = self._question.workload.prompts
            written = self._imported.size if self._imported else None
            plan = make_plan(self._runner, prompts, self._settings, self._thread_counts, self._open_target, written)
            self._store.put("plan", key, plan, wall_s=time.perf_counter() - started)
        if self._sharing:
            plan = self._agreed_by_all(plan, self._sharing)
        self._plan, self._threads = plan, plan.threads
        self._open_target(plan.threads)
        self._name = f"{self._question_name}-{plan.prompts}x{plan.max_tokens}-{plan.threads}"
        self._spent_before_s = self._store.recall_seconds(f"spent/{self._name}")

    def write_transcripts(self) -> None:
        if self._imported:
            self._transcripts = self._imported.transcripts(self._runner.tokenize)
            return
        self._transcripts = write_transcripts(
            self._runner,
            self._store,
            self._target,
            spread(self._question.workload.prompts)[: self._plan.prompts],
            self._settings.sampling,
            context=self._settings.context,
            max_tokens=self._plan.max_tokens,
            progress=self._progress,
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
        asked = (self._target, self._transcripts, self._settings.sampling)
        try:
            self._transcripts = weighed(self._engine, self._store, *asked)
        except EngineError as error:
            self._not_weighed = conclusion.not_weighed(error)

    def replay_drafts(self) -> None:
        """Acceptance of every draft for every k, n_min and p_min."""
        known = self._imported.traces(self._candidates) if self._imported else {}
        replayed, failures = replay_all(
            self._replayer(),
            self._store,
            self._target,
            [candidate for candidate in self._candidates if candidate.draft.content_hash not in known],
            self._transcripts,
            build_key=self._engine.build.key,
            context=self._settings.context,
            k_max=self._settings.k_max,
            progress=self._progress,
            temperature=self._settings.sampling.temperature,
        )
        traces = {**known, **replayed}
        self._traces = traces if self._runner.rejection_sampling else without_chances(traces)
        self._reject(failures)
        if self._remedies.needed(self._engine) and not self._engine.repack_off:  # found by a replay
            self._engine.shutdown()
            is_runner, self._engine = not self._is_served, self._new_engine()
            if is_runner:
                self._runner = self._timer = self._engine
                self._open_target(self._threads)

    def measure_curves(self) -> None:
        """Cost: t(b) of the target alone and d(b) of each draft beside it, in two visits spread over time.

        The second visit is for drafts that can still win, while it leaves time to see the pick work. Where a server on
        this CPU cannot be made to decode a few tokens again, this process times them.
        """
        if self._is_served:
            self._engine.shutdown()  # it has replayed what there was to replay
        self._progress.stage("measure what decodes cost", VISITS * (1 + len(self._candidates)))
        self._curves = Curves(self._timer, self._store, self._conditions())
        if self._target.is_recurrent:  # no request makes it decode a few tokens again
            self._curves.leave_out()
            return
        try:
            self._visit_curves()
        except EngineRefusal:
            if not self._is_served or not self._on_this_cpu:
                raise
            self._runner.shutdown()  # its memory is needed
            self._timer = self._engine
            self._open_target(self._threads, self._timer)
            self._curves = Curves(self._timer, self._store, self._conditions())
            self._visit_curves()
            self._timer.shutdown()

    def _visit_curves(self) -> None:
        """Raises EngineRefusal where the target's decodes cannot be timed."""
        for visit in range(VISITS):
            if visit and not (self._curves.is_known(visit) or self._has_time_for_a_run()):
                return
            self._curves.visit_target(visit)
            failures: dict[str, AdvisorError] = {}
            for candidate in self._contenders() if visit else list(self._candidates):
                if visit and not (self._curves.is_known(visit, candidate) or self._has_time_for_a_run()):
                    continue
                try:
                    self._curves.visit_draft(candidate, visit, among=len(self._candidates))
                except EngineError as error:
                    failures[candidate.draft.content_hash] = error
                self._progress.step(candidate.draft.label)
            self._reject(failures)

    def predict(self) -> None:
        texts = self._transcripts
        ngram = NgramAcceptance(texts, context=self._settings.context, max_tokens=self._plan.max_tokens)
        replayed = self._has_texts and not self._target.is_recurrent
        self._predictor = self._predict(ngram if replayed else None)

    def run_the_heads(self) -> None:
        """Real runs of prediction heads, the one kind of proposer that nothing is predicted of."""
        found = heads.heads_of(self._target, self._heads)
        if not found:
            return
        if not self._is_served:
            self._about_heads = (heads.NEEDS_SERVER,)
            return
        self._progress.stage("run prediction heads", 0)
        outcome = heads.run_heads(
            found,
            self._measurer(self._heads, self._plan.max_tokens),  # nothing else tells of their acceptance
            prompts=self._trial_prompts,
            k_max=self._settings.k_max,
            trial_s=self._trial_s(self._trial_prompts, self._plan.max_tokens),
            time_left_s=self._search_left_s,
            on_trial=self._trials.append,
            progress=self._progress,
        )
        self._rejected += outcome.rejected
        self._about_heads = outcome.notes

    def run_the_best(self) -> None:
        """Short real runs of the best few, each beside its own baseline."""
        assert self._predictor is not None
        measurer, prompts = self._measurer(), self._prompts_in_time
        result = search(
            self._predictor,
            measurer,
            lambda _trials: self._would_be_picked(),
            journal=data_dir() / "studies.journal" if self._store.on_disk else None,
            study_name=self._shared_name if self._sharing else self._name,
            shared=self._sharing,
            on_trial_of_others=self._others_trials.append,
            proposers=[*self._asked_drafts, *METHODS],
            k_max=self._settings.k_max,
            prompts=prompts,
            trial_s=self._trial_s(prompts),
            time_left_s=self._search_left_s,
            progress=self._progress,
            on_trial=self._trials.append,
            is_stored=measurer.is_stored,
            answers=self._trial_prompts,
        )
        self._stop_reason = result.stop_reason
        self._reject(result.failed)

    def try_other_places(self) -> None:
        """The pick's draft where else it could be, in the time that the search left."""
        _, found = self._answered()
        there = next((one for one in self._trials if found.best is not None and one.config == found.best.config), None)
        candidate = next(
            (one for one in self._candidates if there and one.draft.content_hash == there.config.draft), None
        )
        if there is None or candidate is None or there.pruned:
            return
        self._progress.stage("try other places for the draft", 0)
        context, k_max = self._settings.context, self._settings.k_max
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
        self._at_depth = depth.look(
            pick,
            self._ground_at_depth(),
            self._engine,
            self._timer,
            self._store,
            reads=self._reads_answers_here,
            trials=self._trials,
            allowance_s=max(min(self._depth_share_s, self._time_left_s()), self._time_left_s() / 2),
            name=f"{self._name}-{self._settings.budget_s:g}",
            progress=self._progress,
        )

    def conclude(self, stop_reason: str = "") -> Recommendation:
        """The recommendation from whatever has been measured."""
        assert self._predictor is not None
        elapsed_s = time.monotonic() - self._started
        measured_now = any(engine.used for engine in self._remedies.started)
        if measured_now:
            self._store.remember(f"spent/{self._name}", str(self._spent_before_s + elapsed_s))
        baseline, found = self._answered()
        return Recommendation(
            host=with_decode_bandwidth(self._host, self._target.active_weights_bytes, baseline.token_s),
            build=self._runner.build,
            target=self._target,
            settings=replace(self._settings, threads=self._threads),
            workload=self._question.workload.name,
            categories=tuple(dict.fromkeys(t.category for t in self._transcripts)),
            baseline=baseline,
            candidates=tuple(self._known),
            estimates=found.ranked,
            rejected=tuple(self._rejected),
            verdict=found.verdict,
            sentence=" ".join((found.sentence, *self._at_depth.sentences)),
            best=found.best,
            runner_up=found.runner_up,
            traces=self._traces,
            target_curve=self._curves.target,
            draft_curves=self._curves.drafts,
            trials=tuple(self._all_trials),
            measurement=MeasurementNotes(
                prompts=len(self._transcripts),
                answer_tokens=sum(len(t.answer_tokens) for t in self._transcripts),
                trials=len(self._all_trials),
                anchor_drift=max(self._curves.drift, conclusion.drift_over(self._trials)),
                stop_reason=stop_reason or self._stop_reason,
                elapsed_s=elapsed_s,
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
                    *self._not_weighed,
                    *self._about_heads,
                    *conclusion.rules(found.ranked),
                    *conclusion.cache_note(self._place),
                    *self._at_depth.notes,
                ),
            ),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            answers=answer_texts(self._target, self._transcripts) if self._has_texts else (),
            at_depth=self._at_depth.found,
            origin=self._origin(),
        )

    def shutdown(self) -> None:
        self._engine.shutdown()
        self._runner.shutdown()

    @property
    def _has_texts(self) -> bool:
        return self._imported is None or self._imported.has_texts

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
            max_tokens=self._plan.max_tokens,
            k_max=self._settings.k_max,
        )

    def _replayer(self) -> Replayer:
        def time_left_s() -> float:
            return self._time_left_s() - self._settings.budget_s * (1 - REPLAYS_END)

        together = at_once(self._candidates, self._threads)
        here = ReplaysHere(self._new_engine, threads=self._threads, at_once=together, time_left_s=time_left_s)
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
        assert self._predictor is not None
        trials = self._all_trials
        baseline = conclusion.baseline(self._trials or trials, self._curves.target)
        categories = [transcript.category for transcript in self._transcripts]
        estimates = [
            *self._predictor.estimates(trials, baseline.tokens_per_second),
            *(estimate_of(trial, categories, baseline.tokens_per_second) for trial in self._head_trials),
        ]
        nothing = NO_DRAFT_RUNS if self._asked_drafts else NOTHING_TO_PROPOSE
        return baseline, answer(estimates, self._known, nothing=nothing)

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
            self._plan.max_tokens,
            self._has_room,
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
        """The first real run may take what is kept for the look at depth: what was never seen to work comes first."""
        return self._time_left_s() - (self._depth_share_s if self._trials else 0.0)

    def _has_time_for_a_run(self) -> bool:
        return self._search_left_s() > self._trial_s(self._trial_prompts)

    def _trial_s(self, prompts: int, max_tokens: int = 0) -> float:
        """What a trial is expected to take, as short as it is planned or of ``max_tokens``. A server starts for it;
        twice a prompt where there is no room for two."""
        starts = 0 if not self._is_served else 1 if self._has_room else 2 * prompts
        tokens = max_tokens or self._plan.trial_tokens
        return 2 * prompts * tokens * self._plan.token_s + starts * self._plan.load_s

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
        )

    def _predict(self, ngram: NgramAcceptance | None = None) -> Predictor:
        kept = {candidate.draft.content_hash for candidate in self._candidates}
        return Predictor(
            self._traces,
            self._curves.target,
            {draft: curve for draft, curve in self._curves.drafts.items() if draft in kept},
            step_law(self._runner.build),
            k_max=self._settings.k_max,
            max_tokens=self._plan.max_tokens,
            ngram=ngram,
        )

    def _contenders(self) -> list[Candidate]:
        """Drafts whose upper end reaches the lower end of the best."""
        estimates = self._predict().estimates([], 1.0)
        floor = max((estimate.speedup_low for estimate in estimates), default=0.0)
        able = {estimate.config.draft for estimate in estimates if estimate.speedup_high >= floor}
        return [candidate for candidate in self._candidates if candidate.draft.content_hash in able]

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
            token_s=self._plan.token_s,
            share_s=self._settings.budget_s * CURVE_SHARE / 2 / VISITS,
        )

    def _open_target(self, threads: int, engine: Runner | None = None) -> None:
        context, outputs = self._settings.context, self._settings.k_max + 1
        options = LoadOptions.of_target(self._place, context, threads, outputs=outputs, room_for_two=self._has_room)
        (engine or self._runner).open("target", self._target, options)

    def _new_engine(self) -> Engine:
        return self._remedies.new(self._start_engine)

    def _reject(self, failures: Mapping[str, AdvisorError]) -> None:
        """A draft whose engine failed leaves the race and keeps its reason."""
        for candidate in list(self._candidates):
            error = failures.get(candidate.draft.content_hash)
            if error is not None:
                self._candidates.remove(candidate)
                reason: Reason = "budget" if isinstance(error, BudgetTooSmall) else "engine"
                detail = error.line
                self._rejected.append(Rejected(candidate.draft.name, candidate.draft.quant, reason, detail))
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

    def _time_left_s(self) -> float:
        return self._settings.budget_s - self._spent_before_s - (time.monotonic() - self._started)

    def _name_of_question(self) -> str:
        """The same question has the same name, whatever its budget and wherever its files are."""
        facts = self._facts((self._engine.build.key, self._runner.build.key))
        name = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
        if self._question.fresh:
            self._store.ignore_earlier()
            self._store.remember(f"generation/{name}", str(time.time_ns()))
        return f"{name}-{self._store.recall(f'generation/{name}') or 0}"
