"""Search: short real speculative runs, chosen by expected improvement, kept by Optuna.

Optuna holds the trials (a journal file survives kill -9), and its WilcoxonPruner stops a loser after a few prompts.
Which config to run next comes from the predictor's belief: with acceptance replayed and costs measured there is far
more to know about a config than past objective values tell a generic sampler.

A study in a database is searched by several machines of one class at once (shared_study.py).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from advisor.acceptance.replay import P_MIN_GRID
from advisor.errors import EngineError, OutOfTime, TargetFailure
from advisor.journal import kept_aside, mended
from advisor.ngram import METHODS
from advisor.predict.predictor import Belief, Predictor
from advisor.progress import Progress
from advisor.shared_study import Peers, Sharing, connection_errors, lies, reopened_storage
from advisor.types import Config, Run, Trial, pooled_token_s

if TYPE_CHECKING:
    import optuna

Floats = npt.NDArray[np.float64]

WORTH_A_RUN = 0.005  # stop when no run is expected to raise the answer's speedup by more than 0.5 %
CANNOT_WIN_SDS = 2.0  # a config this many standard deviations below 1.0 is not run: it loses
MAX_TRIALS = 24
NGRAM_SIZE_MAX = 64
TARGET_ALONE = "none"

STOPPED_SETTLED = "no further run is expected to change the answer"
STOPPED_HOPELESS = "no pairing can reach the speed of the target alone"
STOPPED_BUDGET = "the budget is spent"
STOPPED_MAX_TRIALS = f"{MAX_TRIALS} configurations have been run"
STALE_LOCK_S = 3  # a search writes for milliseconds: who has not let go after this was killed
DAMAGED_JOURNAL = "The journal of the search was damaged; it is kept as {}. What it ran is in the store."
NO_JOURNAL = "The journal of the search cannot be written: {}. The search goes on without it."
NO_SHARED_STUDY = "The shared search is lost: {}. This machine goes on alone."
LOOK_UP_S = 0.5  # how often the trials of others are looked at while there is nothing else to do
STOPPED_EMPTY = "no draft or method is left to run"

RunPrompt = Callable[[Config, int], tuple[Run, Run]]
"""(config, prompt index) -> (baseline run, speculative run), measured one right after the other."""
Pick = Callable[[Sequence[Trial]], Config | None]
"""What would be answered after these trials, None where there is nothing to answer."""


@dataclass(frozen=True)
class SearchResult:
    trials: tuple[Trial, ...]
    stop_reason: str
    failed: Mapping[str, EngineError]


def search(
    predictor: Predictor,
    run_prompt: RunPrompt,
    pick: Pick,
    *,
    journal: Path | None,
    study_name: str,
    proposers: Sequence[str],
    k_max: int,
    prompts: int,
    trial_s: float,
    time_left_s: Callable[[], float],
    progress: Progress,
    on_trial: Callable[[Trial], None] = lambda _trial: None,
    is_stored: Callable[[Config, int], bool] = lambda _config, _prompt: True,
    answers: int = 0,
    explore: bool = True,
    known: Sequence[Trial] = (),
    shared: Sharing | None = None,
    on_trial_of_others: Callable[[Trial], None] = lambda _trial: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> SearchResult:
    """Run configs until the answer is settled or the budget is spent: the ``pick`` first, and no end before it ran.

    ``trial_s`` is what one trial is expected to take; a trial that does not fit in ``time_left_s()`` is not begun.
    ``journal`` is the file that keeps the study, None where nothing can be kept. ``proposers`` are the drafts and
    methods that were asked about, also those that have failed since. A study of the same name goes on where it stopped;
    a run of it for which ``is_stored`` is false is lost, and measured again only where there is time. New trials are of
    ``prompts``; those of an earlier session may be of more, up to ``answers`` (0: no more than ``prompts``).
    ``on_trial`` sees every trial as it ends, so that an interrupt loses none. A draft or method whose engine fails is
    dropped and named in ``failed``.

    ``known``: trials of an earlier search of this process; one of fewer prompts is gone on with where it is of the
    pick. Without ``explore`` the search ends when what would be answered has been run.

    ``shared`` names a database that keeps the study in place of ``journal``; trials of other machines are evidence like
    own ones, and ``on_trial_of_others`` sees them. Where it is lost, also before the first trial, the search goes on
    alone.
    """
    space, most = _space(proposers, k_max), max(prompts, answers)
    trials: list[Trial] = list(known)
    failed: dict[str, EngineError] = {}
    peers: Peers | None = None

    def add(trial: Trial) -> None:
        trials[:] = [one for one in trials if one.config != trial.config]
        trials.append(trial)
        on_trial(trial)

    def drop(config: Config, error: EngineError) -> None:
        failed[config.proposer] = error
        predictor.forget(config.proposer)
        left_out = "A draft" if config.draft else config.method
        progress.note(f"{left_out} is left out after its engine failed: {error.what}")

    def alone(error: OSError) -> optuna.Study:
        """What kept the study is lost: it goes on in memory."""
        nonlocal journal, peers
        progress.note((NO_JOURNAL if shared is None else NO_SHARED_STUDY).format(error))
        journal = peers = None
        return _without_journal(study_name, space, most, trials)

    earlier: list[tuple[Config, tuple[int, ...], bool]] = []
    try:
        if shared is not None:
            with connection_errors():
                study = _shared_study(shared.url, study_name, space, most)
                peers = Peers(study, _config, len(space), trial_s, shared.me, sleep, clock)
                for trial in peers.own():
                    add(trial)
        else:
            study, earlier = _resumed(journal, study_name, space, most, progress)
    except OSError as error:
        study = alone(error)
    progress.stage("run the best pairings", 0)
    longest: dict[Config, tuple[tuple[int, ...], bool]] = {}
    for done, indices, pruned in earlier:
        if len(indices) >= len(longest.get(done, ((), False))[0]):
            longest[done] = indices, pruned
    for done, (indices, pruned) in longest.items():
        if done in {trial.config for trial in trials}:
            continue
        of_interest = [index for index in indices if index < most]
        lost = not all(is_stored(done, index) for index in of_interest)
        if done not in predictor.analytics or (lost and time_left_s() < trial_s):
            continue
        try:
            add(Trial.of(done, [run_prompt(done, index) for index in of_interest], pruned=pruned))
        except TargetFailure:
            raise
        except OutOfTime:
            break
        except EngineError as error:
            drop(done, error)
    while True:
        if not predictor.analytics:
            return SearchResult(tuple(trials), STOPPED_EMPTY, failed)
        pending: list[Config] = []
        try:
            for trial in peers.news() if peers else ():
                trials.append(trial)
                on_trial_of_others(trial)
            pending = peers.pending() if peers else []
        except OSError as error:
            study = alone(error)
        belief = predictor.believe(trials)
        if pending:
            belief = predictor.believe([*trials, *lies(pending, belief, predictor.analytics)])
        picked = cache(lambda: pick(trials))  # of this turn
        config, reason = next_config(belief, picked, explore=explore, guessed=predictor.guessed)
        if config is None and not pending:
            config = _cut_short(trials, picked, prompts)
        if config is None and pending and time_left_s() >= trial_s:
            sleep(LOOK_UP_S)
            continue
        if config is None:
            return SearchResult(tuple(trials), reason, failed)
        if len(trials) >= MAX_TRIALS:
            return SearchResult(tuple(trials), STOPPED_MAX_TRIALS, failed)
        if time_left_s() < trial_s:
            return SearchResult(tuple(trials), STOPPED_BUDGET, failed)
        try:
            with connection_errors():
                trial_run = _run_trial(study, space, config, run_prompt, prompts, peers)
            if trial_run is None:
                continue
            add(trial_run)
            progress.step(f"k={config.k} p_min={config.p_min:g}" if config.draft else f"{config.method} k={config.k}")
        except TargetFailure:
            raise
        except OutOfTime:
            return SearchResult(tuple(trials), STOPPED_BUDGET, failed)
        except OSError as error:
            if journal is None and peers is None:
                raise
            study = alone(error)
        except EngineError as error:
            drop(config, error)


def _cut_short(trials: Sequence[Trial], pick: Callable[[], Config | None], prompts: int) -> Config | None:
    """The pick, where it was run on fewer prompts than others are."""
    shorter = {trial.config for trial in trials if len(trial.prompts) < prompts and not trial.pruned}
    return pick() if shorter and pick() in shorter else None


def next_config(
    belief: Belief,
    pick: Callable[[], Config | None],
    *,
    explore: bool = True,
    guessed: frozenset[str] = frozenset(),
) -> tuple[Config | None, str]:
    """The config most worth a real run, or None and why no run is worth its time. Without ``explore`` only the pick
    is. Of drafts whose cost is ``guessed`` nothing is tried: that they are little known is no hope."""
    sd = belief.log_sd()
    hopeless = belief.log_mean + CANNOT_WIN_SDS * sd < 0
    if not belief.measured:
        if np.all(hopeless):
            return None, STOPPED_HOPELESS
        first = pick()
        return (first if first in belief.configs else belief.configs[int(np.argmax(belief.log_mean))]), ""
    measured = np.array([config in belief.measured for config in belief.configs])
    leader = int(np.argmax(np.where(measured, belief.log_mean, -np.inf)))
    gain = expected_improvement(belief.log_mean - belief.log_mean[leader], belief.log_sd_of_difference(leader))
    gain[measured | hopeless | [config.draft in guessed for config in belief.configs]] = 0.0
    choice = int(np.argmax(gain))
    if explore and gain[choice] >= WORTH_A_RUN:
        return belief.configs[choice], ""
    best = pick()  # an answer should have been seen to work
    unseen = best in belief.configs and best not in belief.measured
    return (best, "") if unseen else (None, STOPPED_SETTLED)


def expected_improvement(log_gain: Floats, sd: Floats) -> Floats:
    """E[max(0, x)], x normal with mean ``log_gain`` and deviation ``sd`` (Jones et al. 1998, EGO, eq. 15)."""
    spread = np.maximum(sd, 1e-12)
    z = log_gain / spread
    below = np.vectorize(NormalDist().cdf, otypes=[float])(z)
    return np.asarray(log_gain * below + spread * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi))


def _run_trial(
    study: optuna.Study,
    space: dict[str, Any],
    config: Config,
    run_prompt: RunPrompt,
    prompts: int,
    peers: Peers | None,
) -> Trial | None:
    """None where another machine began the same trial first."""
    import optuna

    study.sampler = _choosing(config)
    asked = study.ask(space)
    if peers is not None and not peers.claims(asked):
        study.tell(asked, state=optuna.trial.TrialState.FAIL)
        return None
    pairs: list[tuple[Run, Run]] = []
    pruned = False
    try:
        for index in range(prompts):
            pairs.append(run_prompt(config, index))
            asked.report(speedup_of(pairs[-1:]), step=index)
            pruned = index + 1 < prompts and _loses(asked)
            if pruned:
                break
    except OutOfTime:
        if not pairs:
            study.tell(asked, state=optuna.trial.TrialState.FAIL)
            raise
        pruned = True
    except BaseException:
        study.tell(asked, state=optuna.trial.TrialState.FAIL)
        raise
    state = optuna.trial.TrialState.PRUNED if pruned else optuna.trial.TrialState.COMPLETE
    trial = Trial.of(config, pairs, pruned=pruned)
    if peers is not None:
        peers.tell_of(asked, trial)
    study.tell(asked, None if pruned else speedup_of(pairs), state=state)
    return trial


def _loses(asked: optuna.Trial) -> bool:
    """What the pruner says; that the best trial so far is of fewer prompts is no news."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="WilcoxonPruner finds steps", category=UserWarning)
        return asked.should_prune()


def _choosing(config: Config) -> optuna.samplers.BaseSampler:
    """A sampler that gives this config, and takes nothing that another machine has put into the study."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.PartialFixedSampler(_parameters(config), optuna.samplers.RandomSampler(seed=0))


def speedup_of(pairs: Sequence[tuple[Run, Run]]) -> float:
    """Pooled: seconds a token of the baselines over seconds a token of the speculative runs."""
    return pooled_token_s([base for base, _ in pairs]) / pooled_token_s([run for _, run in pairs])


def _resumed(
    journal: Path | None, name: str, space: dict[str, Any], most: int, progress: Progress
) -> tuple[optuna.Study, list[tuple[Config, tuple[int, ...], bool]]]:
    """The study and its finished trials. A journal that makes no sense is kept aside. Raises OSError."""
    kept = mended(journal) if journal else None
    try:
        study = _open_study(journal, name)
        _add_baseline(study, space, most)
        found = study, _finished(study)
    except OSError:
        raise
    except Exception:  # lines in order that contradict each other: whatever optuna stumbles over
        if journal is None or kept is not None:
            raise
        kept = kept_aside(journal)
        study = _open_study(journal, name)
        _add_baseline(study, space, most)
        found = study, []
    if kept is not None:
        progress.note(DAMAGED_JOURNAL.format(kept))
    return found


def _shared_study(url: str, name: str, space: dict[str, Any], most: int) -> optuna.Study:
    study = _create_study(reopened_storage(url), name)
    _add_baseline(study, space, most)
    return study


def _open_study(journal: Path | None, name: str) -> optuna.Study:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    if journal is None:
        return _create_study(optuna.storages.InMemoryStorage(), name)
    journal.parent.mkdir(parents=True, exist_ok=True)
    # The open lock works where symbolic links need a privilege (Windows).
    lock = JournalFileOpenLock(str(journal), grace_period=STALE_LOCK_S)
    return _create_study(JournalStorage(JournalFileBackend(str(journal), lock_obj=lock)), name)


def _create_study(storage: optuna.storages.BaseStorage, name: str) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        pruner = optuna.pruners.WilcoxonPruner(p_threshold=0.2, n_startup_steps=2)  # 3 of 3 prompts worse: p = 1/8
    return optuna.create_study(
        study_name=name, storage=storage, direction="maximize", load_if_exists=True, pruner=pruner
    )


def _without_journal(name: str, space: dict[str, Any], most: int, trials: Sequence[Trial]) -> optuna.Study:
    """A study in memory that knows these trials; the runs of one that was cut short come back from the store."""
    import optuna

    study = _open_study(None, name)
    _add_baseline(study, space, most)
    for trial in trials:
        pairs = trial.pairs
        state = optuna.trial.TrialState.PRUNED if trial.pruned else optuna.trial.TrialState.COMPLETE
        study.add_trial(
            optuna.create_trial(
                state=state,
                params=_parameters(trial.config),
                distributions=space,
                value=None if trial.pruned else speedup_of(pairs),
                intermediate_values={i: speedup_of([pair]) for i, pair in enumerate(pairs)},
            )
        )
    return study


def _space(proposers: Sequence[str], k_max: int) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    return {
        "proposer": CategoricalDistribution((TARGET_ALONE, *sorted(proposers))),
        "k": IntDistribution(0, k_max),
        "p_min": CategoricalDistribution(P_MIN_GRID),
        "n_min": IntDistribution(0, k_max),
        "ngram_size": IntDistribution(0, NGRAM_SIZE_MAX),
        "draft_sampling": CategoricalDistribution(("greedy", "probabilistic")),
    }


def _parameters(config: Config) -> dict[str, Any]:
    """A config as a point of the space; ``_config`` is the inverse."""
    fields = ("k", "p_min", "n_min", "ngram_size", "draft_sampling")
    return {"proposer": config.proposer, **{field: getattr(config, field) for field in fields}}


def _add_baseline(study: optuna.Study, space: dict[str, Any], prompts: int) -> None:
    """The target alone is a competitor: speedup 1 on every prompt, by definition."""
    import optuna

    if study.get_trials(deepcopy=False):
        return
    study.add_trial(
        optuna.create_trial(
            params=_parameters(Config("", 0, method=TARGET_ALONE)),
            distributions=space,
            value=1.0,
            intermediate_values=dict.fromkeys(range(prompts), 1.0),
        )
    )


def _finished(study: optuna.Study) -> list[tuple[Config, tuple[int, ...], bool]]:
    """The finished trials of an earlier session: (config, its prompts, whether it was pruned). What was running then is
    given up."""
    import optuna

    finished = []
    for old in study.get_trials(deepcopy=False):
        if old.state in (optuna.trial.TrialState.RUNNING, optuna.trial.TrialState.WAITING):
            study.tell(old.number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)
        done = old.state in (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
        if not done or old.params["proposer"] == TARGET_ALONE:
            continue
        pruned = old.state == optuna.trial.TrialState.PRUNED
        finished.append((_config(old.params), tuple(sorted(old.intermediate_values)), pruned))
    return finished


def _config(params: Mapping[str, Any]) -> Config:
    settings = {name: value for name, value in params.items() if name != "proposer"}
    if params["proposer"] in METHODS:
        return Config("", method=params["proposer"], **settings)
    return Config(params["proposer"], **settings)
