"""All curves of one question, each seen at several times: the target's, and each draft's beside it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from advisor.cost.curves import (
    CurveQuestion,
    curve_points,
    drift,
    known_curve,
    loading,
    measure_curve,
    merged,
    text_for_timing,
)
from advisor.engines.again import asked_again_once
from advisor.engines.base import LONGEST_CHAIN, NO_LIMIT, LoadOptions, Role, Runner, Waiting
from advisor.store import Store
from advisor.types import Candidate, CostCurve, Model, Placement, Sampling, Transcript

LONG_ROUND = 0.1  # of the time for a visit: where one decode of each length takes longer, some lengths do
ROUNDS_PER_VISIT: dict[Role, int] = {"target": 3, "draft": 3}


@dataclass(frozen=True)
class Conditions:
    """Under what the decodes of one question are timed: the machine, the target in its ``place``, and its answers
    (``texts``), decoded at a context ``depth``. ``token_s``: what a token takes the target; ``share_s``: what a visit
    may take for the target's curve, and for those of all drafts together; ``waiting`` as in LoadOptions."""

    host: str
    target: Model
    place: Placement
    threads: int
    context: int
    k_max: int
    sampling: Sampling
    texts: tuple[Transcript, ...]
    depth: int
    token_s: float
    share_s: float
    waiting: Waiting = "as built"


class Curves:
    """What was measured so far; the store is asked first. ``runner`` holds the target."""

    def __init__(self, runner: Runner, store: Store, conditions: Conditions) -> None:
        self._runner, self._store, self._conditions = runner, store, conditions
        self._target: list[CostCurve] = []
        self._drafts: dict[str, list[CostCurve]] = {}

    def leave_out(self) -> None:
        """Nothing is timed but the target's own speed, as it was when measurements were planned."""
        self._target = [CostCurve(0, (self._conditions.token_s,), {})]

    @property
    def waiting(self) -> Waiting:
        """How threads waited while they were timed."""
        return self._conditions.waiting

    @property
    def threads(self) -> int:
        return self._conditions.threads

    @property
    def is_begun(self) -> bool:
        return bool(self._target)

    @property
    def target(self) -> CostCurve:
        return merged(self._target)

    @property
    def drafts(self) -> dict[str, CostCurve]:
        """By the draft's content hash."""
        return {draft: merged(visits) for draft, visits in self._drafts.items()}

    @property
    def drift(self) -> float:
        """How far the target's own speed moved over everything measured."""
        return drift([*self._target, *(curve for visits in self._drafts.values() for curve in visits)])

    def is_known(self, visit: int, candidate: Candidate | None = None) -> bool:
        """Whether an earlier study measured this visit: it takes no time."""
        return known_curve(self._runner, self._store, self._asked(candidate, visit)) is not None

    def visit_target(self, visit: int, within_s: float = NO_LIMIT) -> None:
        """The target alone. Raises EngineError when it fails twice, OutOfTime."""
        self._runner.close("draft")
        self._target.append(asked_again_once(partial(self._curve, None, visit, self._conditions.share_s, within_s)))

    def visit_draft(self, candidate: Candidate, visit: int, *, among: int, within_s: float = NO_LIMIT) -> None:
        """One of ``among`` drafts that share the time. Raises EngineError, OutOfTime."""
        conditions, draft = self._conditions, candidate.draft
        options = LoadOptions.of_draft(
            candidate.placement, conditions.context, conditions.threads, waiting=conditions.waiting
        )
        self._runner.open("draft", draft, options)
        curve = self._curve(candidate, visit, conditions.share_s / among, within_s)
        self._drafts.setdefault(draft.content_hash, []).append(curve)

    def _curve(self, candidate: Candidate | None, visit: int, budget_s: float, within_s: float) -> CostCurve:
        asked = self._asked(candidate, visit)
        text = text_for_timing(self._conditions.texts, asked.depth + self._length)
        rounds = ROUNDS_PER_VISIT[asked.role]
        return measure_curve(
            self._runner, self._store, asked, text=text, rounds=rounds, budget_s=budget_s, within_s=within_s
        )

    @property
    def _length(self) -> int:
        return max(self._conditions.k_max + 1, LONGEST_CHAIN)

    def _asked(self, candidate: Candidate | None, visit: int) -> CurveQuestion:
        here, b_max = self._conditions, self._conditions.k_max + 1
        # Of a draft's curve a step needs d(1) often and the re-evaluation d(k + 1) once: a few points of that do.
        coarse = candidate is not None or b_max * here.token_s > LONG_ROUND * here.share_s
        models: dict[Role, Model] = {"target": here.target}
        if candidate is not None:
            models["draft"] = candidate.draft
        return CurveQuestion(
            models,
            "target" if candidate is None else "draft",
            here.host,
            loading(here.threads, here.place, candidate.placement if candidate else None, here.waiting),
            curve_points(b_max, coarse=coarse),
            min(here.depth, here.context - self._length),
            here.sampling,
            visit,
        )
