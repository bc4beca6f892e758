"""One search in a database, by several machines of one class: what the others ran, and what they are running now.

What another machine runs is lied about as Ginsbourger et al. 2010 (Kriging is well-suited to parallelize optimization,
"kriging believer") do: as long as it runs, it counts as measured at exactly the speed that is believed, so that nobody
runs it twice and the next choice differs from it.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from advisor.errors import FileProblem, OptionError, ServerProblem
from advisor.predict.analytic import Analytic
from advisor.predict.predictor import Belief
from advisor.types import Config, Run, Trial, from_json, to_json

if TYPE_CHECKING:
    import optuna

BY, TRIAL = "by", "trial"
WRITTEN_SOON_S = 0.02
TABLES_TRIES = 20  # one for each table and some
LOST_AFTER = 10  # times what a trial is expected to take: who runs it was killed


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
    except (SQLAlchemyError, ImportError, optuna.exceptions.StorageInternalError) as error:
        raise ServerProblem(
            f"--share-search: the database {shown} does not answer.",
            why=f"{str(error).splitlines()[0]}.",
            fix='Check the address, and that its driver is installed: pip install "draft-advisor[fleet]".',
        ) from None


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
    what a trial is expected to take."""

    def __init__(
        self,
        study: optuna.Study,
        config_of: Callable[[Mapping[str, Any]], Config],
        dimensions: int,
        trial_s: float,
        sleep: Callable[[float], None],
    ) -> None:
        self._dimensions, self._sleep = dimensions, sleep
        self._study, self._config_of, self._lost_after = study, config_of, timedelta(seconds=LOST_AFTER * trial_s)
        self._me, self._seen = uuid.uuid4().hex, set[int]()

    def news(self) -> list[Trial]:
        """What others have finished since this was asked last. OSError where the database is lost."""
        found = []
        for one in self._trials():
            if one.state.is_finished() and one.number not in self._seen:
                self._seen.add(one.number)
                if one.user_attrs.get(BY) != self._me and TRIAL in one.user_attrs:
                    found.append(one.user_attrs[TRIAL])
        return [trial for trial in map(_trial, found) if trial is not None]

    def pending(self) -> list[Config]:
        """What others are running. A trial of somebody who was killed does not count for ever. OSError as ``news``."""
        return [self._config_of(one.params) for one in self._running() if len(one.params) == self._dimensions]

    def claims(self, asked: optuna.Trial) -> bool:
        """Whether this trial is this machine's to run: no other began the same one first."""
        asked.set_user_attr(BY, self._me)
        earlier = [one for one in self._running() if one.number < asked.number]
        while any(len(one.params) < self._dimensions for one in earlier):  # it is being written
            self._sleep(WRITTEN_SOON_S)
            earlier = [one for one in self._running() if one.number < asked.number]
        return not any(one.params == asked.params for one in earlier)

    def tell_of(self, asked: optuna.Trial, trial: Trial) -> None:
        asked.set_user_attr(TRIAL, to_json(trial).decode())

    def _running(self) -> list[optuna.trial.FrozenTrial]:
        from optuna.trial import TrialState

        return [
            one
            for one in self._trials()
            if one.state == TrialState.RUNNING
            and one.user_attrs.get(BY) != self._me
            and datetime.now() - (one.datetime_start or datetime.min) < self._lost_after
        ]

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
