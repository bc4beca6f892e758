"""Draw the pictures of docs/concepts from a recommendation that was measured.

    make pictures                                         from the last recommendation; make demo makes one
    python scripts/pictures.py RECOMMENDATION.json

Writes docs/images/{acceptance,curves,break-even,evidence}.png.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import advisor
from advisor.acceptance.walk import pooled, walk
from advisor.reasons.break_even import independent_speedup
from advisor.reasons.records import DraftReasons, Explanation
from advisor.types import Config, Recommendation

IMAGES = Path(__file__).parent.parent / "docs" / "images"
LENGTHS = range(1, 17)
SHOWN_DRAFTS = 3
COLOURS = {"prior": "tab:gray", "replay": "tab:orange", "measured": "tab:blue"}
RUNGS = (
    ("prior", "a name", "learnt from published tables, in a second"),
    ("replay", "the files", "acceptance from answers, cost from curves"),
    ("measured", "the files, and time", "real runs beside their baselines"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path)
    rec = advisor.load(parser.parse_args().file)
    reasons = advisor.explain(rec)
    if reasons.subject is None or reasons.subject.break_even is None:
        parser.error("this recommendation has no replayed answers and curves; make demo makes one that has")
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        figure = draw(rec, reasons)
        figure.savefig(IMAGES / f"{name}.png", dpi=100, metadata={"Software": None})
        print(f"docs/images/{name}.png")


def spread_drafts(reasons: Explanation) -> list[DraftReasons]:
    """The best draft, the worst, and one in the middle."""
    drafts = reasons.drafts
    places = sorted({round(i * (len(drafts) - 1) / (SHOWN_DRAFTS - 1)) for i in range(SHOWN_DRAFTS)})
    return [drafts[place] for place in places]


def acceptance(rec: Recommendation, reasons: Explanation) -> Any:
    figure, (left, right) = _subplots(2)
    longest = max(LENGTHS)
    for draft in spread_drafts(reasons):
        digest = draft.draft.content_hash
        answers = rec.traces[digest]
        cap = max(len(trace.answer_tokens) for trace in answers)
        counts = {k: pooled([walk(trace, Config(digest, k), max_tokens=cap) for trace in answers]) for k in LENGTHS}
        left.plot(LENGTHS, [1 + one.accepted / one.steps for one in counts.values()], label=draft.label)
        deepest = counts[longest]
        right.plot(LENGTHS, [count / deepest.steps for count in deepest.accepted_per_position], label=draft.label)
    left.set(xlabel="draft length k", ylabel="tokens per step", ylim=(1, None))
    right.legend(*left.get_legend_handles_labels(), frameon=False)
    right.set(xlabel="position i in the draft", ylabel="share of steps with i tokens accepted", ylim=(0, 1))
    return figure


def curves(_rec: Recommendation, reasons: Explanation) -> Any:
    figure, (axis,) = _subplots(1)
    target = reasons.target_cost
    lines = [("target", "black", target)]
    lines += [(one.label, None, one.cost) for one in spread_drafts(reasons)]
    for label, colour, points in lines:
        b = [point.b for point in points]
        middle = [1000 * point.seconds for point in points]
        (line,) = axis.plot(b, middle, "o-", color=colour, label=label, markersize=4)
        low, high = [1000 * point.low_s for point in points], [1000 * point.high_s for point in points]
        axis.fill_between(b, low, high, color=line.get_color(), alpha=0.15)
    nine = next((point for point in target if point.b == 9), target[-1])
    axis.annotate(
        f"t({nine.b}) = {nine.seconds / target[0].seconds:.2f} target passes",
        (nine.b, 1000 * nine.seconds),
        xytext=(8, -30),
        textcoords="offset points",
    )
    axis.set(xlabel="tokens decoded at once, b", ylabel="ms, with the range of the rounds", ylim=(0, None))
    axis.legend(frameon=False)
    return figure


def break_even(_rec: Recommendation, reasons: Explanation) -> Any:
    subject = reasons.subject
    assert subject is not None
    figure, (axis,) = _subplots(1, integer=False)
    x, y = zip(*subject.textbook_curve, strict=True)
    axis.plot(x, y, ":", color="tab:gray", label="textbook: k·c + 1")
    k, target, draft = subject.best.config.k, _seconds(reasons.target_cost), _seconds(subject.cost)
    passes = (k * draft[1] + target[k + 1] + draft[k + 1]) / target[1]
    priced = [independent_speedup(k, passes, a) for a in x]
    axis.plot(x, priced, "--", color="tab:gray", label="the formula, all priced")
    moved = subject.curve
    axis.plot([p.agreement for p in moved], [p.speedup for p in moved], color="tab:blue", label="over the answers")
    axis.plot([subject.agreement], [subject.best.speedup], "o", color="tab:blue", label=subject.label)
    axis.axhline(1, color="black", linewidth=0.8)
    axis.set(
        xlabel="agreement of draft and target",
        ylabel=f"speedup at k = {k}, p_min = {subject.best.config.p_min:g}",
        xlim=(0.2, 1),
        ylim=(0, 3),
    )
    axis.legend(frameon=False)
    return figure


def evidence(_rec: Recommendation, _reasons: Explanation) -> Any:
    """A drawing, no measurement: what each rung needs and gives."""
    figure, (axis,) = _subplots(1, height=2.6)
    for step, (rung, needs, gives) in enumerate(RUNGS):
        axis.bar(step, step + 1, width=1, color=COLOURS[rung], alpha=0.25, align="edge")
        axis.text(step + 0.05, step + 0.93, rung, fontsize=12, weight="bold", va="top")
        axis.text(step + 0.05, step + 0.6, f"needs {needs}\n{gives}", fontsize=9, va="top")
    axis.set(xlim=(0, len(RUNGS)), ylim=(0, len(RUNGS)))
    axis.axis("off")
    return figure


def _seconds(points: Any) -> dict[int, float]:
    """By b, straight lines between the points that were measured."""
    import numpy as np

    b, seconds = [point.b for point in points], [point.seconds for point in points]
    return {i: float(np.interp(i, b, seconds)) for i in range(1, max(b) + 1)}


def _subplots(columns: int, *, height: float = 3.4, integer: bool = True) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.xaxis.get_major_locator().set_params(integer=integer)
    return figure, axes


PICTURES: dict[str, Callable[[Recommendation, Explanation], Any]] = {
    "acceptance": acceptance,
    "curves": curves,
    "break-even": break_even,
    "evidence": evidence,
}

if __name__ == "__main__":
    main()
