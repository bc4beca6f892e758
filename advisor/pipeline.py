"""The one page that knows the order of the stages.

measured:   probe -> prune -> first look -> thorough look -> places -> the rest -> depth -> answer
  a look:   transcripts -> replay -> curves -> predict -> heads -> search
swept:      probe -> prune -> every cell of the grid -> answer
predicted:  resolve -> probe or name the host -> prune -> prior -> answer
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from advisor import conclusion
from advisor.budget import Budget
from advisor.catalog.load import Catalog
from advisor.catalog.local import find_local
from advisor.catalog.matching import LocalModel, match_entry, match_local
from advisor.catalog.names import host_named, resolve
from advisor.engines import ENGINES, RUNNERS, FoundRunner, StartEngine, StartRunner
from advisor.errors import AdvisorError, FileProblem, NothingFits, OutOfTime, StoreError
from advisor.fleet.spread import spread_over
from advisor.gguf import read_model
from advisor.grid import Grid, Sweep
from advisor.host import probe, with_devices
from advisor.host.files import LockHeld, host_lock_path, timing_lock
from advisor.options import PriorQuestion
from advisor.plan import Question
from advisor.predict.belief import current
from advisor.predict.evidence import PairRow
from advisor.predict.imported import read_kept
from advisor.profiles import kept as kept_profiles
from advisor.profiles import record as profiles
from advisor.profiles.use import Imported, largest_that_fits, take
from advisor.progress import Progress
from advisor.prune import CACHE_TYPES, fits_alone, prune
from advisor.remedies import Remedies
from advisor.shared_study import open_storage
from advisor.store import Store, data_dir, measurements_path, save_last
from advisor.study import INTERRUPTED, Study
from advisor.surroundings import Sources, Surroundings, nobody_else
from advisor.tokenizer import header_incompatibility
from advisor.types import Build, Candidate, Estimate, Host, Model, Recommendation, Rejected, Settings, Workload
from advisor.user_catalog import user_catalog

if TYPE_CHECKING:
    from advisor.fleet.forecast import FleetAnswer

LOCK_TIMEOUT_S = 3 * 3600.0  # of what has no budget: a sweep, a check
LEAST_BUDGET_S = 10.0  # loading two models and one answer takes longer on most machines
TOO_SHORT = "A budget of {:g} s is too short to measure anything: give --budget 1m or more."
TOO_SLOW = "Nothing could be measured within {:.0f} s, so slow is the target here and now: give more --budget."
ENGINE, SERVER = "llama-cpp-python", "llama-server"
NOTHING_BESIDE = "No draft can run beside this target."
HEADS_ALONE = "of a recurrent target only its own prediction heads are measured"


@dataclass(frozen=True)
class Request:
    """What the user asked. ``drafts`` are model files; ``fresh`` ignores stored measurements; ``server``: the
    llama-server that answers and runs, "" where one is to be found, None to run everything in this process.
    ``profile``: the file whose acceptance is used; without one, an imported profile that fits is. ``scheduler``: the
    address of a Dask scheduler over whose workers replays are spread. ``shared_search``: of a database that keeps the
    search, for all machines of this class.
    ``without_draft``: methods that need no draft are tried where none can run; else that is an error. ``quick``: the
    first answer is all that is wanted."""

    target: Path
    drafts: tuple[Path, ...]
    workload: Workload
    settings: Settings = field(default_factory=Settings)
    fresh: bool = False
    server: str | None = None
    profile: Path | None = None
    scheduler: str | None = None
    shared_search: str | None = None
    without_draft: bool = False
    quick: bool = False


class Interrupted(Exception):
    """Ctrl-C. ``recommendation`` is the best so far, None when nothing could be said yet. Measurements are stored."""

    def __init__(self, recommendation: Recommendation | None) -> None:
        super().__init__("interrupted")
        self.recommendation = recommendation


def recommend(
    request: Request,
    progress: Progress,
    start_engine: StartEngine | None = None,
    start_runner: StartRunner | None = None,
    *,
    budget: Budget | None = None,
    sources: Sources | None = None,
) -> Recommendation:
    """The whole job, within its budget. Raises AdvisorError for what a user can meet, Interrupted on Ctrl-C.

    ``budget`` runs already where others began it; ``sources``: where this machine is watched, which is not done for an
    engine that the caller brings.
    """
    budget = budget or Budget(request.settings.budget_s)
    served = _found_server(request)
    elsewhere = spread_over(request.scheduler, progress.note) if request.scheduler else None
    if request.shared_search:
        open_storage(request.shared_search)  # what is wrong with it shows now, not after minutes of measuring

    def study_of(ground: _Ground) -> Study:
        return Study(
            ground.question,
            ground.candidates,
            ground.rejected,
            ground.store,
            start_engine or ENGINES[ENGINE],
            progress,
            budget,
            Surroundings(budget, progress, sources or (nobody_else() if start_engine else None)),
            start_runner or (served.start if served else None),
            _imported(request, ground, progress),
            elsewhere,
            request.shared_search,
            ground.heads_beside,
            request.quick,
            lambda drafts, baseline_tps: _rows_of(ground, progress, drafts, baseline_tps),
        )

    with ExitStack() as stack:
        store, has_waited, was_cut = stack.enter_context(_open_store(progress)), False, False
        try:
            stack.enter_context(timing_lock(host_lock_path(), timeout_s=0))
        except LockHeld as held:
            progress.note(f"{held.what} What is not in the store waits for it, which is part of --budget.")
            with suppress(NothingFits):  # beside what the other one holds
                ground = _prepare(request, served, progress, store)
                if (known := study_of(ground).kept_answer()) is not None:
                    _keep(known, progress.note)
                    return known
            try:
                stack.enter_context(timing_lock(host_lock_path(), timeout_s=max(0.0, budget.left_s - LEAST_BUDGET_S)))
            except LockHeld:
                ground = _prepare(request, served, progress, store)
                return _foresee_instead(ground, progress, f"{held.what} It was measuring all the time.")
            has_waited = True
        # From here on this process alone measures on this machine; free memory is what is free without another one.
        ground = _prepare(request, served, progress, store)
        if budget.total_s < LEAST_BUDGET_S:
            return _foresee_instead(ground, progress, TOO_SHORT.format(budget.total_s))
        study = study_of(ground)
        if (known := study.kept_answer()) is not None:
            _keep(known, progress.note)
            return known
        stack.callback(study.shutdown)
        try:
            study.see_the_target()
            for effort in study.efforts:
                study.plan_answers(effort)
                study.write_transcripts()
                study.weigh_answers()
                study.replay_drafts()
                study.measure_curves()
                study.predict()
                study.run_the_heads()
                study.run_the_best()
                study.answer_first()
            if not request.quick:
                study.try_other_places()
                study.measure_the_rest()
                study.look_at_depth()
        except KeyboardInterrupt:
            raise Interrupted(study.conclude(INTERRUPTED) if study.can_conclude else None) from None
        except OutOfTime:
            if not study.can_conclude:
                return _foresee_instead(ground, progress, TOO_SLOW.format(budget.total_s))
            was_cut = True
        recommendation = study.conclude()
        if not (has_waited or was_cut):  # with its whole budget it might have been another one
            study.keep_answer(recommendation)
    _keep(recommendation, progress.note)
    return recommendation


def _foresee_instead(ground: _Ground, progress: Progress, why: str) -> Recommendation:
    """What is predicted of these files where there was no time to measure anything."""
    progress.note(f"{why} What follows is predicted from published tables.")
    foreseen = _foreseen(ground, progress, ground.candidates)
    recommendation = replace(
        foreseen,
        rejected=tuple(ground.rejected),
        sentence=f"Nothing was measured. {foreseen.sentence}",
        measurement=replace(foreseen.measurement, notes=(why, *foreseen.measurement.notes)),
    )
    _keep(recommendation, progress.note)
    return recommendation


def _rows_of(
    ground: _Ground, progress: Progress, drafts: Sequence[Candidate], baseline_tps: float
) -> Sequence[Estimate]:
    """What is foreseen of drafts without a turn; nothing where that fails: the others have their answer."""
    try:
        return _foreseen(ground, progress, drafts, baseline_tps).estimates if drafts else ()
    except AdvisorError as error:
        progress.note(f"Drafts without a turn are not foreseen: {error.line}")
        return ()


def _foreseen(
    ground: _Ground, progress: Progress, drafts: Sequence[Candidate], baseline_tps: float | None = None
) -> Recommendation:
    """``baseline_tps``: the target's tokens a second, where they were seen."""
    from advisor import outlook
    from advisor.predict.question import Outlook

    question, catalog = ground.question, user_catalog(progress.note)
    entry = match_entry(question.target, tuple(catalog.entries.values()), name_hint=Path(question.target.path).stem)
    asked = Outlook(
        target=question.target,
        target_entry=entry,
        host=question.host,
        host_entry=None,
        build=Build(SERVER, "current"),
        settings=question.settings,
        given=tuple(drafts),
        baseline_tps=baseline_tps,
    )
    return outlook.foresee(asked, catalog, current(data_dir()))


def sweep(request: Request, grid: Grid, progress: Progress, start: StartRunner | None = None) -> Recommendation:
    """Every draft at every length of the grid, run for real. Raises as ``recommend``."""
    served = _found_server(request)
    with ExitStack() as stack:
        store = stack.enter_context(_open_store(progress))
        stack.enter_context(timing_lock(host_lock_path(), timeout_s=LOCK_TIMEOUT_S, waiting=progress.note))
        ground = _prepare(request, served, progress, store)
        remedies = Remedies(ground.store, ground.question.host.fingerprint, progress, fresh=request.fresh)
        runner = remedies.first(start or (served.start if served else ENGINES[ENGINE]))
        stack.callback(runner.shutdown)
        cells = Sweep(
            ground.question,
            [*ground.candidates, *ground.heads_beside],
            ground.rejected,
            ground.store,
            runner,
            progress,
            grid,
            own_head=served is not None and ground.question.target.nextn_layers > 0,
        )
        try:
            cells.run()
        except KeyboardInterrupt:
            raise Interrupted(cells.conclude(INTERRUPTED) if cells.can_conclude else None) from None
        recommendation = cells.conclude()
    _keep(recommendation, progress.note)
    return recommendation


@dataclass(frozen=True)
class _Ground:
    """What is known before anything runs."""

    question: Question
    candidates: list[Candidate]
    rejected: list[Rejected]
    store: Store
    heads_beside: list[Candidate]


def _imported(request: Request, ground: _Ground, progress: Progress) -> Imported | None:
    """Acceptance that was measured elsewhere: the profile that was named, else one that was imported and fits."""
    if request.profile is not None:
        return take(profiles.read(request.profile), ground.question, ground.candidates)
    if request.fresh:
        return None
    known = kept_profiles.kept(data_dir(), progress.note)
    return largest_that_fits(known, ground.question, ground.candidates, progress.note)


def _found_server(request: Request) -> FoundRunner | None:
    return RUNNERS[SERVER](request.server) if request.server is not None else None


def _prepare(request: Request, served: FoundRunner | None, progress: Progress, store: Store) -> _Ground:
    settings = request.settings
    progress.stage("look at the machine and the files", 0)
    host = probe(store_dir=data_dir())
    if served is not None and served.devices is not None:
        host = with_devices(host, served.devices)
    target = read_target(request.target, host, settings.context, served=served is not None)
    drafts, unreadable = read_drafts(request.drafts)
    able, pruned = prune(target, drafts, host, settings.context, k_max=settings.k_max, served=served is not None)
    candidates, heads = ([one for one in able if bool(one.draft.draft_only) is is_head] for is_head in (False, True))
    rejected = [*unreadable, *pruned]
    if target.is_recurrent:
        rejected += [Rejected(one.draft.name, one.draft.quant, "engine", HEADS_ALONE) for one in candidates]
        candidates = []
    if not candidates and not heads and not request.without_draft:
        raise _nothing_fits(rejected)
    if not candidates and not heads:
        progress.note(f"{NOTHING_BESIDE} Methods that need no draft are tried. {conclusion.reasons(rejected)}".strip())
    question = Question(host, target, request.workload, settings, request.fresh)
    return _Ground(question, candidates, rejected, store, heads)


def foresee(question: PriorQuestion, settings: Settings, note: Callable[[str], None]) -> Recommendation:
    """The answer before anything is measured. Raises AdvisorError for what a user can meet."""
    from advisor import outlook
    from advisor.predict.places import named_host
    from advisor.predict.question import Outlook, named_target

    catalog = user_catalog(note)
    target, entry = named_target(question.target, catalog, note)
    on_disk = _paths_on_disk(catalog, question.models_dirs) if question.host is None else {}
    if entry is not None and not target.path:
        target = replace(target, path=on_disk.get((entry.id, target.quant.upper()), ""))
    host_entry, host = None, None
    if question.host is not None:
        host_entry, memory_gib = host_named(question.host, catalog)
        host = named_host(host_entry, memory_gib)
    build = Build("llama-server", f"b{question.build}" if question.build else "current", question.build)
    asked = Outlook(
        target=target,
        target_entry=entry,
        host=host or probe(store_dir=data_dir()),
        host_entry=host_entry,
        build=build,
        settings=settings,
        k=question.k,
        p_min=question.p_min,
        baseline_tps=question.baseline_tps,
        categories=question.categories,
        on_disk=on_disk,
        measured=_imported_pairs(catalog, note),
    )
    recommendation = outlook.foresee(asked, catalog, current(data_dir()))
    _keep(recommendation, note)
    return recommendation


def foresee_fleet(
    question: PriorQuestion, inventory: Path, settings: Settings, note: Callable[[str], None]
) -> FleetAnswer:
    """The answer for every machine of an inventory, and for all of them together. Raises AdvisorError."""
    from advisor.fleet.forecast import answer_fleet
    from advisor.fleet.inventory import read_inventory
    from advisor.predict.question import Outlook, named_target

    catalog = user_catalog(note)
    places = read_inventory(inventory, catalog)
    target, entry = named_target(question.target, catalog, note)
    build = Build("llama-server", f"b{question.build}" if question.build else "current", question.build)
    asked = Outlook(
        target,
        entry,
        places[0].host,
        None,
        build,
        settings,
        categories=question.categories,
        measured=_imported_pairs(catalog, note),
    )
    return answer_fleet(places, asked, catalog, current(data_dir()), kept_profiles.kept(data_dir(), note))


def _imported_pairs(catalog: Catalog, note: Callable[[str], None]) -> tuple[PairRow, ...]:
    try:
        return tuple(pair for _, evidence in read_kept(data_dir(), catalog) for pair in evidence.pairs)
    except StoreError as error:
        note(f"What was imported is left out: {error.what} {error.fix}".strip())
        return ()


def _paths_on_disk(catalog: Catalog, models_dirs: Sequence[Path]) -> dict[tuple[str, str], str]:
    """Paths of the catalogue's models that are on this machine, by id and quant."""
    found = _models_on_disk(catalog, models_dirs)
    return {(one.entry.id, one.quant.upper()): one.model.path for one in found if one.entry is not None}


def _models_on_disk(catalog: Catalog, models_dirs: Sequence[Path]) -> tuple[LocalModel, ...]:
    files = find_local(models_dirs, home=Path.home(), platform=sys.platform)
    return match_local(files, tuple(catalog.entries.values())) if files else ()


def find_on_disk(
    question: PriorQuestion, context: int, note: Callable[[str], None]
) -> tuple[Path, tuple[Path, ...]] | None:
    """The files of a named target and of smaller models, where both are on this machine and can be measured."""
    catalog = user_catalog()
    named = resolve(question.target, catalog)
    found = _models_on_disk(catalog, question.models_dirs)
    targets = [one for one in found if one.entry is named.entry and named.quant in (None, one.quant)]
    able_targets = [one for one in targets if _can_be_measured(one.model, context, note)]
    if not able_targets:
        return None
    target = min(able_targets, key=lambda one: one.tuned).model
    drafts = [one.model for one in found if one.entry is not None and one.entry.parameters < named.entry.parameters]
    able = [model for model in drafts if header_incompatibility(target.vocabulary, model.vocabulary) is None]
    same = [model for model in able if model.vocabulary.pre == target.vocabulary.pre]
    return (Path(target.path), tuple(Path(model.path) for model in same)) if same else None


def _can_be_measured(target: Model, context: int, note: Callable[[str], None]) -> bool:
    try:
        check_target(target, probe(store_dir=data_dir()), context)
    except AdvisorError as error:
        note(f"{target.path} is here, but it cannot be measured: {error.what} It is predicted.")
        return False
    return True


def read_target(path: Path, host: Host, context: int, *, served: bool = False) -> Model:
    """Raises FileProblem for a file that is no whole model, NothingFits for one that does not fit alone. ``served``:
    llama-server runs it."""
    target = read_model(path)
    check_target(target, host, context, served=served)
    return target


def check_target(target: Model, host: Host, context: int, *, served: bool = False) -> None:
    """Raises as read_target, for a header that has been read."""
    if target.draft_only:
        raise FileProblem(
            f"{target.name} cannot be a target: it is a {target.draft_only} file.",
            why="Such a file is a part that drafts for another model.",
            fix="Give the whole model with --target.",
        )
    if target.is_recurrent and not (served and target.nextn_layers):
        own = "Its own prediction heads can be: --engine llama-server runs them." if target.nextn_layers else ""
        raise FileProblem(
            f"{target.name} cannot be measured with a draft: it is a recurrent or hybrid model.",
            why="Its memory cannot be rolled back token by token; llama.cpp verifies such targets through checkpoints, "
            "which this version does not measure.",
            fix=own or "Measure llama-server with and without the draft, or choose a target with attention only.",
        )
    fits_alone(target, host, context, cache_types=CACHE_TYPES)


def read_drafts(paths: Sequence[Path]) -> tuple[list[Model], list[Rejected]]:
    """Headers of the draft files. A file that cannot be read, or that is a copy of another, is rejected, not fatal."""
    models: dict[str, Model] = {}
    rejected: list[Rejected] = []
    for path in paths:
        try:
            model = read_model(path)
            first = models.setdefault(model.content_hash, model)
            if first is not model:
                rejected.append(Rejected(model.name, model.quant, "duplicate", f"{path} is a copy of {first.path}"))
        except FileProblem as error:
            rejected.append(Rejected(path.name, "?", "unreadable", error.line))
    return sorted(models.values(), key=lambda model: model.active_weights_bytes), rejected


def _open_store(progress: Progress) -> Store:
    try:
        store = Store(
            measurements_path(),
            on_full=lambda error: progress.note(f"{error.what} {error.why} What is measured from here on is not kept."),
        )
    except AdvisorError as error:
        progress.note(f"{error.what} {error.why} Measurements of this run are not kept.")
        return Store.in_memory()
    if store.kept_aside:
        progress.note(f"The store of measurements was damaged; it is kept as {store.kept_aside}.")
    return store


def _keep(recommendation: Recommendation, note: Callable[[str], None]) -> None:
    """For explain and export. An answer that cannot be kept is still an answer."""
    try:
        save_last(recommendation)
    except StoreError as error:
        note(f"The recommendation is not kept for later commands: {error.line}")


def _nothing_fits(rejected: Sequence[Rejected]) -> NothingFits:
    if not rejected:
        return NothingFits(
            "There is no draft to try.",
            why="No GGUF file beside the target was found.",
            fix="Name drafts with --draft FILE or --draft-dir FOLDER.",
        )
    return NothingFits(
        NOTHING_BESIDE,
        why=conclusion.reasons(rejected),
        fix="Add a smaller draft of the same family, or lower --context.",
    )
