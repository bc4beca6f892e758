"""Cost curves: t(b) and d(b), measured pointwise in interleaved rounds, each round with the target's t(1) as anchor.

What is kept is the seconds of every round. What is used is each point in typical target passes, corrected for the
drift that the round's own anchor shows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from advisor.engines.base import BARE, NO_LIMIT, Operation, Role, Runner, Waiting
from advisor.errors import OutOfTime
from advisor.store import Store
from advisor.types import CostCurve, Model, Placement, Sampling, Transcript

Floats = npt.NDArray[np.float64]

DEPTH_STEP = 32  # costs change slowly with depth: nearby workloads share their curves
MAX_DRIFT = 0.20  # a round in which the anchor leaves its own median by more than this is not believed
TARGET_ANCHOR: Operation = ("target", 1)
PRIOR_ROUNDS, PRIOR_LOG_SD = 10, 0.05  # until anchors varied more than this, they are taken to vary with all else
COARSE_POINTS = (1, 2, 3, 5, 8, 9, 17, 33, 65)  # kernels switch between 8 and 9


def typical_depth(transcripts: Sequence[Transcript]) -> int:
    """The context depth at which a typical token of these answers is decoded."""
    middle = float(np.median([len(t.prompt_tokens) + len(t.answer_tokens) // 2 for t in transcripts]))
    return max(1, round(middle / DEPTH_STEP)) * DEPTH_STEP


def text_for_timing(transcripts: Sequence[Transcript], length: int) -> tuple[int, ...]:
    """At least ``length`` tokens of real text (an expert router must see what it will see in use)."""
    text: tuple[int, ...] = ()
    while len(text) < length:
        for transcript in transcripts:
            text += transcript.prompt_tokens + transcript.answer_tokens
    return text[:length]


def curve_points(b_max: int, *, coarse: bool) -> tuple[int, ...]:
    """Which b to measure: every one, or a few where the budget does not allow more (the rest is interpolated)."""
    if not coarse:
        return tuple(range(1, b_max + 1))
    return (*(b for b in COARSE_POINTS if b < b_max), b_max)


def loading(
    threads: int, target: Placement, draft: Placement | None, waiting: Waiting = "as built"
) -> dict[str, object]:
    """How models are loaded, where that changes what a decode costs; ``draft`` is None for the target alone."""
    return {
        **({"waiting": waiting} if waiting != "as built" else {}),
        "threads": threads,
        "target_gpu_layers": target.target_gpu_layers,
        "cache_type": target.cache_type,
        "draft_gpu_layers": draft.draft_gpu_layers if draft else 0,
        "draft_threads": draft.draft_threads if draft else 0,
    }


@dataclass(frozen=True)
class CurveQuestion:
    """One visit to the curve of the target or of the draft, by everything that it depends on beside the build.

    ``models`` names what the runner holds, ``loading`` how (see the function of that name). ``visit`` numbers
    measurements of the same curve at different times; they are kept apart and joined by ``merged``.
    """

    models: Mapping[Role, Model]
    role: Role
    host: str
    loading: Mapping[str, object]
    points: tuple[int, ...]
    depth: int
    sampling: Sampling
    visit: int = 0

    def key(self, runner: Runner) -> dict[str, object]:
        """What the store keeps it under."""
        return {
            "host": self.host,
            "build": runner.build.key,
            "repack_off": runner.repack_off,
            "models": {name: model.content_hash for name, model in self.models.items()},
            "role": self.role,
            "loading": dict(self.loading),
            "points": list(self.points),
            "depth": self.depth,
            "sampled": self.sampling.temperature > 0,
            "visit": self.visit,
            **({"bare": True} if self.role == "draft" else {}),
        }


def known_curve(runner: Runner, store: Store, asked: CurveQuestion) -> CostCurve | None:
    """What an earlier study measured; it takes no time."""
    return store.get("curve", asked.key(runner), CostCurve)


def measure_curve(
    runner: Runner,
    store: Store,
    asked: CurveQuestion,
    *,
    text: Sequence[int],
    rounds: int,
    budget_s: float,
    within_s: float = NO_LIMIT,
) -> CostCurve:
    """A few rounds of the curve, from the store if they are there.

    Unsettled rounds are measured again once while ``budget_s`` lasts; at least one round is always measured. Raises
    OutOfTime where that takes longer than ``within_s``.
    """
    known = known_curve(runner, store, asked)
    if known is not None:
        return known
    started = time.perf_counter()
    operations, depth, sampling = curve_operations(asked.role, asked.points), asked.depth, asked.sampling
    with runner.within(within_s):
        measured = runner.time_decodes(operations, text, depth, sampling, rounds=rounds, budget_s=budget_s)
    unsettled = sum(not _settled(operations, one) for one in measured)
    left_s = within_s - (time.perf_counter() - started)
    if unsettled and time.perf_counter() - started < budget_s:
        with suppress(OutOfTime), runner.within(left_s):
            measured += runner.time_decodes(operations, text, depth, sampling, rounds=unsettled, budget_s=budget_s / 2)
    settled = [one for one in measured if _settled(operations, one)]
    curve = _curve(operations, settled or measured, asked.role, depth)
    store.put("curve", asked.key(runner), curve, wall_s=time.perf_counter() - started)
    return curve


def curve_operations(role: Role, points: Sequence[int]) -> list[Operation]:
    """One round: the role's decodes with the anchor around them, for the target between them too. A draft's round has a
    bare pass of the target after the draft's single decodes."""
    wanted: list[Operation] = [(role, b) for b in points if (role, b) != TARGET_ANCHOR]
    if role == "draft":  # short beside the anchors themselves
        return [TARGET_ANCHOR, *wanted[:1], BARE, *wanted[1:], TARGET_ANCHOR]
    middle = -(-len(wanted) // 2)
    return [TARGET_ANCHOR, *wanted[:middle], TARGET_ANCHOR, *wanted[middle:], TARGET_ANCHOR]


def merged(visits: Sequence[CostCurve]) -> CostCurve:
    """The rounds of several visits to one curve, as one curve."""
    return CostCurve(
        depth=visits[0].depth,
        anchor_s=tuple(anchor for visit in visits for anchor in visit.anchor_s),
        rounds_s={b: tuple(s for visit in visits for s in visit.rounds_s[b]) for b in visits[0].rounds_s},
        bare_s=tuple(s for visit in visits for s in visit.bare_s) if all(visit.bare_s for visit in visits) else (),
    )


def drift(curves: Sequence[CostCurve]) -> float:
    """How far the anchor moved over everything measured: largest over smallest curve median, minus 1."""
    anchors = [float(np.median(curve.anchor_s)) for curve in curves]
    return max(anchors) / min(anchors) - 1 if anchors else 0.0


@dataclass(frozen=True)
class Reference:
    """What curves are compared in: ``anchor_s``, the typical t(1) over everything that was measured, and how much of
    a change of the anchor a role's other decodes share: 1 = all of it (the machine as a whole slowed down), 0 = none
    (memory was contended, which slows a one-token decode most)."""

    anchor_s: float
    shared: dict[Role, float]


def reference(target: Sequence[CostCurve], drafts: Sequence[CostCurve]) -> Reference:
    """The reference of these curves: the median of the visits' anchors, and the shared parts by least squares."""
    anchors = [float(np.median(curve.anchor_s)) for curve in (*target, *drafts)]
    return Reference(float(np.median(anchors)), {"target": _shared_part(target), "draft": _shared_part(drafts)})


def prices(curve: CostCurve, role: Role, unit: Reference, b_max: int) -> Floats:
    """Each round's curve in typical target passes, shape (rounds, b_max + 1); column b is a decode of b tokens.

    Column 0 is 0, and the target's column 1 is 1. A round is corrected for the part of its anchor's deviation that its
    role shares. Points that were not measured lie on a straight line between their neighbours.
    """
    anchor = np.asarray(curve.anchor_s)
    correction = (unit.anchor_s / anchor) ** unit.shared[role] / unit.anchor_s
    measured = sorted(curve.rounds_s)
    table = np.column_stack([np.asarray(curve.rounds_s[b]) * correction for b in measured])
    wanted = np.arange(1, b_max + 1)
    lines = np.vstack([np.interp(wanted, measured, row) for row in table])
    if role == "target":
        lines[:, 0] = 1.0
    return np.hstack([np.zeros((len(lines), 1)), lines])


def bare_prices(draft: CostCurve) -> Floats:
    """What a step that drafts nothing pays for its target pass: each round's, in passes of plain decoding, shape
    (rounds,). 1 where it was not timed.

    It is a price of its own: between the decodes of a draft the same pass takes several percent longer on a CPU.
    """
    return np.asarray(draft.bare_s) / np.asarray(draft.anchor_s) if draft.bare_s else np.ones(1)


def _shared_part(curves: Sequence[CostCurve]) -> float:
    """The slope of log(decode) over log(anchor), each point of each curve about its own mean; ridge towards 1."""
    sum_xy, sum_xx = PRIOR_ROUNDS * PRIOR_LOG_SD**2, PRIOR_ROUNDS * PRIOR_LOG_SD**2
    for curve in curves:
        x = np.log(curve.anchor_s)
        x = x - x.mean()
        points = [np.log(rounds) for b, rounds in curve.rounds_s.items() if b > 1]
        if points:
            y = np.mean(points, axis=0)
            sum_xy += float(x @ (y - y.mean()))
            sum_xx += float(x @ x)
    return float(np.clip(sum_xy / sum_xx, 0.0, 1.0))


def _settled(operations: Sequence[Operation], round_s: Sequence[float]) -> bool:
    """Whether the anchor stayed put within this round: its spread is at most MAX_DRIFT around the round's median."""
    anchors = [seconds for operation, seconds in zip(operations, round_s, strict=True) if operation == TARGET_ANCHOR]
    middle = float(np.median(anchors))
    return max(anchors) <= middle * (1 + MAX_DRIFT) and min(anchors) >= middle * (1 - MAX_DRIFT)


def _curve(operations: Sequence[Operation], rounds: Sequence[Sequence[float]], role: Role, depth: int) -> CostCurve:
    anchors = tuple(
        float(np.median([s for operation, s in zip(operations, one, strict=True) if operation == TARGET_ANCHOR]))
        for one in rounds
    )
    points = {
        b: tuple(one[index] for one in rounds)
        for index, (name, b) in enumerate(operations)
        if name == role and (name, b) != TARGET_ANCHOR
    }
    if role == "target":
        points[1] = anchors
    bare = tuple(one[operations.index(BARE)] for one in rounds) if BARE in operations else ()
    return CostCurve(depth, anchors, dict(sorted(points.items())), bare)
