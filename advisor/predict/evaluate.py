"""How good the priors are on targets, and on whole tables, that they have not seen.

    python -m advisor.predict.evaluate [FILE ...]

Everything about one target is left out (its pairs, its baseline), the rest is fitted from scratch, and the speedups of
its drafts are predicted for a text not seen yet and without a baseline: what `advisor recommend` knows before anything
is downloaded. FILEs are draftbench results and the tables that `advisor fit-priors` takes.

    bias      mean of log(predicted / measured)
    MAPE      mean of |predicted / measured - 1|
    Spearman  rank correlation of predicted and measured speedups within a target
    regret    what the pick loses against the best draft: by the lower end of the interval, as `advisor recommend`
              picks, and by the mean
    sign      share of pairs where it is right whether the draft helps
    cover     share of measured speedups inside the 80 % interval
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt

from advisor import store
from advisor.catalog.load import Catalog
from advisor.cost.step_law import StepLaw
from advisor.errors import AdvisorError, FileProblem
from advisor.predict import imported
from advisor.predict.belief import Posterior, current
from advisor.predict.evidence import DecodeRow, Evidence, PairRow
from advisor.predict.fit import fit
from advisor.predict.prior import Z_80, predict
from advisor.predict.reading import read_evidence
from advisor.predict.terms import Side
from advisor.printable import visible
from advisor.user_catalog import user_catalog

Floats = npt.NDArray[np.float64]

MAPE_GOAL, SPEARMAN_GOAL, REGRET_GOAL, SIGN_GOAL, COVER_GOAL = 0.12, 0.9, 0.03, 0.93, (0.7, 0.9)
SEARCH_DEPTH = 3
COST_TABLES = ("decode_efficiency.csv", "verify_cost.csv")


@dataclass(frozen=True)
class Predicted:
    """A measured pair and what was predicted without it. ``log_sd``: standard deviation of log(speedup)."""

    pair: PairRow
    speedup: float
    log_sd: float

    @property
    def low(self) -> float:
        return float(self.speedup * np.exp(-Z_80 * self.log_sd))


@dataclass(frozen=True)
class Score:
    """Shares, not per cent. NaN where too few pairs are there to tell."""

    pairs: int
    bias: float
    mape: float
    spearman: float
    regret_low: float
    regret_mean: float
    sign: float
    cover: float


# -- predicting what was left out ------------------------------------------------------------------------------------


def left_out(evidence: Evidence, key: Callable[[PairRow], str], value: str) -> tuple[Evidence, tuple[PairRow, ...]]:
    """(everything that tells nothing about these targets, the pairs that were left out)."""
    held = tuple(pair for pair in evidence.pairs if key(pair) == value)
    targets = {pair.target for pair in held}
    loads = {replace(pair.case.target.load, run=None) for pair in held}

    def tells(row: DecodeRow) -> bool:
        return row.is_baseline and replace(row.load, run=None) in loads

    rest = replace(
        evidence,
        pairs=tuple(pair for pair in evidence.pairs if key(pair) != value and pair.target not in targets),
        decodes=tuple(row for row in evidence.decodes if not tells(row)),
    )
    return rest, held


def predict_unseen(pairs: Sequence[PairRow], posterior: Posterior) -> list[Predicted]:
    """Each pair as one of a target that nobody has run yet."""
    groups: dict[tuple[int, float, StepLaw, float], list[PairRow]] = {}
    for pair in pairs:
        groups.setdefault((pair.k, pair.p_min, pair.law, pair.case.temperature), []).append(pair)
    found: list[Predicted] = []
    for (k, p_min, law, _), group in groups.items():
        cases = [replace(one.case, target=_unseen(one), text="", baseline_s=None) for one in group]
        prior = predict(cases, posterior, (k,), p_min, law)
        told = zip(group, prior.speedup[:, 0].tolist(), prior.log_sd[:, 0].tolist(), strict=True)
        found += [Predicted(*one) for one in told]
    return found


def _unseen(pair: PairRow) -> Side:
    return replace(pair.case.target, load=replace(pair.case.target.load, run=""))


def _fold(evidence: Evidence, key: Callable[[PairRow], str], value: str) -> list[Predicted]:
    rest, held = left_out(evidence, key, value)
    return predict_unseen(held, fit(rest))


def cross_validate(
    evidence: Evidence, key: Callable[[PairRow], str], *, jobs: int, told: Callable[[str], None]
) -> list[Predicted]:
    """Every pair, predicted by a fit on everything that has another key."""
    from joblib import Parallel, delayed

    values = sorted({key(pair) for pair in evidence.pairs})
    work = Parallel(n_jobs=min(jobs, len(values)), return_as="generator")
    folds = work(delayed(_fold)(evidence, key, value) for value in values)
    found: list[Predicted] = []
    for number, (value, fold) in enumerate(zip(values, folds, strict=True), 1):
        told(f"{number} of {len(values)}: left out {value}, {len(fold)} pairs")
        found += fold
    return found


def by_target(pair: PairRow) -> str:
    return pair.target


def by_table(pair: PairRow) -> str:
    return pair.table


# -- figures ---------------------------------------------------------------------------------------------------------


def score(predictions: Sequence[Predicted]) -> Score:
    """The figures of one target."""
    measured = np.array([one.pair.speedup for one in predictions])
    mean = np.array([one.speedup for one in predictions])
    low = np.array([one.low for one in predictions])
    log_sd = np.array([one.log_sd for one in predictions])
    return Score(
        pairs=len(predictions),
        bias=float(np.mean(np.log(mean / measured))),
        mape=float(np.mean(np.abs(mean / measured - 1))),
        spearman=_spearman(mean, measured),
        regret_low=float(1 - measured[low.argmax()] / measured.max()),
        regret_mean=float(1 - measured[mean.argmax()] / measured.max()),
        sign=float(np.mean((mean > 1) == (measured > 1))),
        cover=float(np.mean(np.abs(np.log(measured / mean)) <= Z_80 * log_sd)),
    )


def _spearman(one: Floats, other: Floats) -> float:
    from scipy.stats import spearmanr

    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(spearmanr(one, other)[0])


def pooled(predictions: Sequence[Predicted], targets: Sequence[Score]) -> Score:
    """Errors over all pairs; correlation and regret, which mean something within a target only, as means over them."""
    told = [one.spearman for one in targets if not np.isnan(one.spearman)]
    return replace(
        score(predictions),
        spearman=float(np.mean(told)) if told else float("nan"),
        regret_low=float(np.mean([one.regret_low for one in targets])),
        regret_mean=float(np.mean([one.regret_mean for one in targets])),
    )


def summary(title: str, predictions: Sequence[Predicted]) -> Iterator[str]:
    """The table as lines."""
    names = sorted({one.pair.target for one in predictions})
    groups = [[one for one in predictions if one.pair.target == name] for name in names]
    scores = [score(group) for group in groups]
    width = max(len("target"), *(len(visible(name)) for name in names))
    yield title
    head = ("pairs", "bias", "MAPE", "Spearman", "regret", "by mean", "sign", "cover")
    yield _line("target", head, width)
    for name, one in zip(names, scores, strict=True):
        yield _line(visible(name), _cells(one), width)
    everything = pooled(predictions, scores)
    yield _line("all", _cells(everything), width)
    yield _line("goal", ("", "", "<= 12 %", ">= 0.90", "<= 3 %", "", ">= 93 %", "70-90 %"), width)
    missed = [name for name, holds in _goals(everything) if not holds]
    yield f"missed: {', '.join(missed)}" if missed else "all goals are met"
    worst = max(scores, key=lambda one: one.regret_low)
    lowest = (
        np.nanmin([one.spearman for one in scores]) if any(one.spearman == one.spearman for one in scores) else np.nan
    )
    yield f"worst target: Spearman {lowest:.2f}, regret {100 * worst.regret_low:.1f} %"


def _line(name: str, cells: Sequence[str], width: int) -> str:
    return f"{name:<{width}}" + "".join(f"{cell:>10}" for cell in cells)


def _cells(one: Score) -> tuple[str, ...]:
    shares = (one.regret_low, one.regret_mean, one.sign, one.cover)
    return (
        str(one.pairs),
        f"{100 * one.bias:+.1f} %",
        f"{100 * one.mape:.1f} %",
        "-" if np.isnan(one.spearman) else f"{one.spearman:.2f}",
        *(f"{100 * share:.1f} %" for share in shares),
    )


def _goals(one: Score) -> Iterator[tuple[str, bool]]:
    yield "MAPE", one.mape <= MAPE_GOAL
    yield "Spearman", np.isnan(one.spearman) or one.spearman >= SPEARMAN_GOAL
    yield "regret", one.regret_low <= REGRET_GOAL
    yield "sign", one.sign >= SIGN_GOAL
    yield "cover", COVER_GOAL[0] <= one.cover <= COVER_GOAL[1]


# -- the command -----------------------------------------------------------------------------------------------------


def tables_nearby(start: Path) -> list[Path]:
    """draftbench results under a folder or its parent, at most three levels deep, and the cost tables next to them."""
    found: dict[Path, None] = {}
    for root in (start, start.parent):
        patterns = ("*/" * depth + "*draftbench*/*.json" for depth in range(SEARCH_DEPTH))
        for path in sorted(path for pattern in patterns for path in root.glob(pattern) if _looks_like_results(path)):
            found[path.resolve()] = None
            for folder in (path.parent, path.parent.parent):
                found.update((table.resolve(), None) for name in COST_TABLES if (table := folder / name).is_file())
    return list(found)


def _looks_like_results(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "hardware" in content and "results" in content


def gather(files: Sequence[Path], catalog: Catalog, *, data_dir: Path, start: Path) -> Evidence:
    """The files, else what was imported, else what lies nearby. FileProblem when that has no pairs."""
    if files:
        evidence = read_evidence(files, catalog)
    else:
        evidence = sum((read for _, read in imported.read_kept(data_dir, catalog)), Evidence())
        if not evidence.pairs:
            evidence = read_evidence(tables_nearby(start), catalog)
    if not evidence.pairs:
        raise FileProblem(
            "There are no measured pairs to judge the priors by.",
            why="No file with pairs was named or imported, and no folder nearby holds draftbench results.",
            fix="Name draftbench results: python -m advisor.predict.evaluate FILE ...",
        )
    return evidence


def report(evidence: Evidence, *, jobs: int, told: Callable[[str], None]) -> Iterator[str]:
    """Both cross-validations as lines of text."""
    yield from (f"read {line}" for line in evidence.provenance)
    yield from (f"note: {line}" for line in evidence.notes)
    for title, key in (("each target left out", by_target), ("each table left out", by_table)):
        yield ""
        if len({key(pair) for pair in evidence.pairs}) < 2:
            yield f"{title}: there is only one"
            continue
        yield from summary(title, cross_validate(evidence, key, jobs=jobs, told=told))


def main(arguments: Sequence[str] | None = None, *, out: TextIO | None = None) -> int:
    """The exit code: 0, or as advisor.errors says."""
    parser = argparse.ArgumentParser("python -m advisor.predict.evaluate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("files", metavar="FILE", nargs="*", type=Path, help="draftbench results and tables of costs")
    parser.add_argument("--jobs", metavar="N", type=int, default=_cores(), help="fits at once [default: cores]")
    parser.add_argument("--no-refit", action="store_true", help="judge the priors in use, as they are, by these pairs")
    options = parser.parse_args(arguments)
    data_dir = store.data_dir()

    def told(line: str) -> None:
        print(visible(line), file=sys.stderr, flush=True)

    try:
        catalog = user_catalog()
        evidence = gather(options.files, catalog, data_dir=data_dir, start=Path.cwd())
        if options.no_refit:
            lines = summary("the priors in use", predict_unseen(evidence.pairs, current(data_dir)))
        else:
            lines = report(evidence, jobs=max(1, options.jobs), told=told)
        for line in lines:
            print(line, file=out or sys.stdout, flush=True)
    except AdvisorError as error:
        told("error: " + " ".join(str(error).splitlines()))
        return error.exit_code
    except KeyboardInterrupt:
        told("Interrupted.")
        return 130
    return 0


def _cores() -> int:
    from joblib import cpu_count

    return int(cpu_count())


if __name__ == "__main__":
    from advisor.predict import evaluate  # under its own name, so that other processes find its functions

    sys.exit(evaluate.main())
