"""One search in a database, by several machines of one class: what the others ran, and what they are running now.

What another machine runs is lied about as Ginsbourger et al. 2010 (Kriging is well-suited to parallelize optimization,
"kriging believer") do: as long as it runs, it counts as measured at exactly the speed that is believed, so that nobody
runs it twice and the next choice differs from it.
"""

from __future__ import annotations

import math
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from advisor.errors import FileProblem, OptionError, ServerProblem
from advisor.plan import Plan
from advisor.predict.analytic import Analytic
from advisor.predict.predictor import Belief
from advisor.store import Store
from advisor.types import Config, Run, Trial, from_json, to_json

if TYPE_CHECKING:
    import optuna

BY, TRIAL = "by", "trial"  # of a trial: who runs it, and what came out
PLAN, FRESH = "plan", "fresh"  # of a beginning: what is measured, and whether earlier trials count no more
WRITTEN_SOON_S = 0.02
WRITTEN_TRIES = 100
TABLES_TRIES = 20  # one for each table and some
LOST_AFTER = 4  # times what a trial is expected to take, without a sign of it: it tells of every prompt


@dataclass(frozen=True)
class Sharing:
    """A search in a database. ``me``: this machine, whenever it comes back to it."""

    url: str
    me: str


def who_searches(store: Store) -> str:
    """This machine with this store, told from all others."""
    known = store.recall("searcher")
    if known is None:
        known = uuid.uuid4().hex
        store.remember("searcher", known)
    return f"{socket.gethostname()}-{known}"  # the folder of the store may be on several machines


def open_storage(url: str) -> optuna.storages.RDBStorage:
    """Raises OptionError for what is no address of a database, ServerProblem where none answers.

    No connection is kept between two requests: minutes of real runs lie between them.
    """
    import optuna
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError, SQLAlchemyError
    from sqlalchemy.pool import NullPool

    try:
        shown = make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        raise OptionError(
            "--share-search: this is not the address of a database.",
            fix="Write it as postgresql+psycopg://USER@HOST/DATABASE.",
        ) from None
    connected = partial(optuna.storages.RDBStorage, url, engine_kwargs={"poolclass": NullPool})
    try:
        for _ in range(TABLES_TRIES - 1):
            try:
                return connected()
            except (IntegrityError, ProgrammingError):  # another machine is making the tables just now
                time.sleep(WRITTEN_SOON_S)
        return connected()
    except RuntimeError as error:  # the tables of another version
        raise ServerProblem(
            f"--share-search: the database {shown} cannot be used with this version of Optuna.",
            why=str(error),
            fix="Use the same versions on every machine, or another database.",
        ) from None
    except (SQLAlchemyError, ImportError, optuna.exceptions.StorageInternalError) as error:
        raise ServerProblem(
            f"--share-search: the database {shown} does not answer.",
            why=f"{str(error).splitlines()[0]}.",
            fix='Check the address, and that its driver is installed: pip install "draft-advisor[fleet]".',
        ) from None


def reopened_storage(url: str) -> optuna.storages.RDBStorage:
    """Of a database that was there before. ConnectionError where it is lost."""
    try:
        return open_storage(url)
    except ServerProblem as error:
        raise ConnectionError(error.line.rstrip(". ")) from None


def agreed(url: str, question: str, plan: Plan, *, fresh: bool) -> tuple[str, Plan]:
    """The name of the study in which this question is searched, and the plan of whoever began it: what each machine
    measures of itself differs a little, and trials are compared only where all run the same.

    ``fresh`` begins anew: what was run before counts no more, for this machine and for those that come later. OSError
    where the database is lost, or holds what another version of advisor began.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with connection_errors():
        study = optuna.create_study(study_name=question, storage=reopened_storage(url), load_if_exists=True)
        begun = study.get_trials(deepcopy=False)
        if fresh or not begun:
            attributes = {PLAN: to_json(plan).decode(), FRESH: fresh}
            study.add_trial(optuna.create_trial(value=0.0, user_attrs=attributes))
            begun = study.get_trials(deepcopy=False)
    # of machines that begin at the same moment all take the first one's plan
    beginning = next((one for one in reversed(begun) if one.user_attrs[FRESH]), begun[0])
    try:
        theirs = from_json(Plan, beginning.user_attrs[PLAN])
    except FileProblem as error:
        raise ConnectionError(f"another version of advisor began it: {error.what}") from None
    return f"{question}-{beginning.number}", replace(theirs, token_s=plan.token_s, load_s=plan.load_s)


@contextmanager
def connection_errors() -> Iterator[None]:
    """A database that is lost is an OSError, as a file that is lost."""
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except StorageInternalError as error:
        raise ConnectionError(str(error).splitlines()[0]) from error


class Peers:
    """The others in a study. ``config_of`` reads a trial's parameters, of which there are ``dimensions``; ``trial_s``:
    what a trial is expected to take. No clock but this machine's own is asked: those of two machines differ."""

    def __init__(
        self,
        study: optuna.Study,
        config_of: Callable[[Mapping[str, Any]], Config],
        dimensions: int,
        trial_s: float,
        me: str,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dimensions, self._sleep, self._clock = dimensions, sleep, clock
        self._study, self._config_of, self._lost_after_s = study, config_of, LOST_AFTER * trial_s
        self._me, self._seen = me, set[int]()
        self._signs: dict[int, tuple[tuple[int, ...], float]] = {}

    def own(self) -> list[Trial]:
        """What this machine has finished in an earlier process. What it was running then is given up. OSError as
        ``news``."""
        from optuna.trial import TrialState

        found = []
        for one in self._trials():
            if one.user_attrs.get(BY) != self._me:
                continue
            if one.state == TrialState.RUNNING:
                with connection_errors():
                    self._study.tell(one.number, state=TrialState.FAIL, skip_if_finished=True)
            self._seen.add(one.number)
            found.append(one.user_attrs.get(TRIAL))
        return [trial for trial in map(_trial, filter(None, found)) if trial is not None]

    def news(self) -> list[Trial]:
        """What others have finished since this was asked last. OSError where the database is lost."""
        found = self._untold(self._trials())
        self._seen.update(one.number for one in found)
        trials = [_trial(one.user_attrs[TRIAL]) for one in found]
        return [trial for trial in trials if trial is not None]

    def pending(self) -> list[Config]:
        """What others are running. A trial of somebody who was killed does not count for ever. OSError as ``news``."""
        return [
            self._config_of(one.params) for one in self._running(self._trials()) if len(one.params) == self._dimensions
        ]

    def claims(self, asked: optuna.Trial) -> bool:
        """Whether this trial is this machine's to run: no other began the same one first, nor has ended it since this
        machine chose."""
        asked.set_user_attr(BY, self._me)
        for _ in range(WRITTEN_TRIES):
            known = [one for one in self._trials() if one.number < asked.number]
            earlier = [*self._running(known), *self._untold(known)]
            if all(len(one.params) == self._dimensions for one in earlier):
                break
            self._sleep(WRITTEN_SOON_S)  # it is being written, or who wrote was killed
        return not any(one.params == asked.params for one in earlier)

    def tell_of(self, asked: optuna.Trial, trial: Trial) -> None:
        asked.set_user_attr(TRIAL, to_json(trial).decode())

    def _untold(self, trials: Sequence[optuna.trial.FrozenTrial]) -> list[optuna.trial.FrozenTrial]:
        """What others have finished, and ``news`` has not told of yet."""
        ended = [one for one in trials if one.state.is_finished() and one.number not in self._seen]
        return [one for one in ended if one.user_attrs.get(BY) != self._me and TRIAL in one.user_attrs]

    def _running(self, trials: Sequence[optuna.trial.FrozenTrial]) -> list[optuna.trial.FrozenTrial]:
        """Those of others in which something has changed lately."""
        from optuna.trial import TrialState

        running = [one for one in trials if one.state == TrialState.RUNNING]
        others = [one for one in running if one.user_attrs.get(BY) != self._me]
        return [one for one in others if self._unchanged_s(one) < self._lost_after_s]

    def _unchanged_s(self, trial: optuna.trial.FrozenTrial) -> float:
        """Since when this machine has seen it as it is."""
        now = self._clock()
        sign = (len(trial.params), len(trial.intermediate_values), len(trial.user_attrs))
        seen, since_s = self._signs.get(trial.number, ((), now))
        if sign != seen:
            since_s = now
            self._signs[trial.number] = (sign, now)
        return now - since_s

    def _trials(self) -> list[optuna.trial.FrozenTrial]:
        with connection_errors():
            return self._study.get_trials(deepcopy=False)


def lies(pending: Sequence[Config], belief: Belief, analytics: Mapping[Config, Analytic]) -> list[Trial]:
    """Trials that say of these configs what is believed of them."""
    believed = dict(zip(belief.configs, belief.log_mean.tolist(), strict=True))
    return [_lie(analytics[config], believed[config]) for config in pending if config in analytics]


def _lie(analytic: Analytic, log_mean: float) -> Trial:
    factor = math.exp(log_mean) / analytic.speedup
    pairs = []
    for walk, speedup in zip(analytic.walks, analytic.by_prompt, strict=True):
        if walk.tokens:
            base = Run(walk.tokens + 1, float(walk.tokens), 0.0)
            pairs.append((base, Run(walk.tokens + 1, walk.tokens / (speedup * factor), 0.0)))
    return Trial.of(analytic.config, pairs)


def _trial(text: str) -> Trial | None:
    """None for one of another version."""
    try:
        return from_json(Trial, text)
    except FileProblem:
        return None
