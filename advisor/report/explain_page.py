"""An Explanation as one HTML file: opens offline, light and dark, on a phone and on paper. Nothing is fetched.

The charts are drawn by Apache ECharts, inlined as it was released (see vendor/ and docs/decisions/0005-charts.md).
Three fences keep text of models and files from becoming markup: it is escaped in the HTML, ``<`` is written as an
escape in the JSON, and the page's policy runs only scripts whose hash it names.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from string import Template
from typing import Any

from advisor.explain.reasons import ColouredAnswer, ColouredToken, CostPoint, DraftReasons, Explanation
from advisor.printable import visible
from advisor.report.explain_wording import break_even, chance, length_range, margin, shares_of_step
from advisor.report.wording import counted, percent, sampling, size
from advisor.types import Recommendation

LIBRARY = "echarts-6.1.0.min.js"
LINES_SHOWN = 3  # drafts whose lines are drawn at first; the legend brings the others
CURVES_SHOWN = 4  # drafts whose d(b) is drawn

_ROLE_WORDS = {
    "accepted": "drafted and accepted",
    "corrected": "the target's own, in place of a rejected draft token",
    "bonus": "the target's own, after a draft accepted whole",
    "alone": "the target's own, nothing was drafted",
}


@dataclass(frozen=True)
class Number:
    """A table cell: what is shown, and the exact value it stands for."""

    value: float
    shown: str


Cell = str | Number | None


@dataclass(frozen=True)
class Section:
    """One part of the page. ``chart`` is the data that the drawing of that name takes, None for a table alone."""

    name: str
    title: str
    lead: str
    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    chart: dict[str, Any] | None = None


def page(rec: Recommendation, explanation: Explanation) -> str:
    """The whole page."""
    sections = [section for build in _SECTIONS for section in build(explanation)]
    charts = {section.name: section.chart for section in sections if section.chart is not None}
    library, script = _asset("vendor", LIBRARY), _asset("templates", "explain.js")
    body = "\n".join(
        [
            _head(rec, explanation),
            *(_section(section) for section in sections),
            _answers(explanation),
            _closing(rec, explanation),
        ]
    )
    return Template(_asset("templates", "explain.html")).substitute(
        policy=_policy(library, script),
        title=_text(f"{rec.target.label}: {rec.verdict}"),
        style=_asset("templates", "explain.css"),
        body=body,
        data=script_json({"charts": charts}),
        library=library,
        script=script,
    )


def script_json(value: object) -> str:
    """JSON that cannot end the script element around it, nor begin a comment in it, nor break a line of it."""
    text = json.dumps(_finite(value), allow_nan=False)  # ASCII: U+2028 and U+2029 are escapes already
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return visible(value) if isinstance(value, str) else value


def _policy(*scripts: str) -> str:
    """Only these scripts run; nothing is fetched, framed, sent or submitted."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def _asset(folder: str, name: str) -> str:
    return (resources.files("advisor.report") / folder / name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _text(content: str) -> str:
    return html.escape(visible(content), quote=True)


# --- the top ----------------------------------------------------------------------------------------------------------


def _head(rec: Recommendation, explanation: Explanation) -> str:
    no = "" if rec.verdict == "speculate" else " no"
    host = rec.host
    facts = [
        ("Target", f"{rec.target.label}, {size(rec.target.weights_bytes)}"),
        ("Machine", f"{host.cpu}, {counted(host.cores_usable, 'core')}, {size(host.ram_total_bytes)} RAM"),
        ("Engine", f"{rec.build.engine} {rec.build.version}"),
        (
            "Workload",
            f"{rec.workload}: {counted(rec.measurement.prompts, 'prompt')}, {sampling(rec.settings.sampling)}",
        ),
        ("Baseline", f"{rec.baseline.tokens_per_second:.1f} tokens a second ({rec.baseline.evidence})"),
    ]
    if explanation.category is not None:
        facts.append(("Category", f"{explanation.category} alone"))
    listed = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in facts)
    return (
        f'<h1 class="verdict{no}">{_text(explanation.sentence)}</h1>\n'
        f'{_figures(explanation)}<dl class="facts">{listed}</dl>\n{_margin(explanation)}'
    )


def _figures(explanation: Explanation) -> str:
    subject, sure = explanation.subject, explanation.sureness
    if subject is None:
        return ""
    best = subject.best
    shown = [
        (f"{best.speedup:.2f}x", f"80 % interval {best.speedup_low:.2f} to {best.speedup_high:.2f}"),
        (f"{best.tokens_per_second:.1f} tok/s", f"with the draft ({best.evidence})"),
        (percent(best.acceptance_rate), "of the drafted tokens accepted"),
    ]
    if subject.margin is not None:
        shown.append((margin(subject), "of agreement over break-even"))
    if sure is not None:
        shown.append((chance(sure.gain_chance), "chance of any gain"))
    boxes = "".join(f"<div><b>{_text(figure)}</b><span>{_text(words)}</span></div>" for figure, words in shown)
    return f'<div class="figures">{boxes}</div>\n'


def _margin(explanation: Explanation) -> str:
    if explanation.subject is None:
        return ""
    said = [break_even(explanation.subject), explanation.why_formulas_differ]
    return "".join(f"<p>{_text(sentence)}</p>\n" for sentence in said if sentence)


# --- sections ---------------------------------------------------------------------------------------------------------


def _drafts_section(explanation: Explanation) -> Iterable[Section]:
    if not explanation.drafts and not explanation.rejected:
        return
    rows: list[tuple[Cell, ...]] = [_draft_row(one) for one in explanation.drafts]
    rows += [
        (one.draft, one.quant, None, None, None, None, None, None, None, None, f"{one.reason}: {one.detail}")
        for one in explanation.rejected
    ]
    many = len(explanation.drafts) + len(explanation.rejected) > 1 and explanation.drafts
    yield Section(
        "heat",
        "Drafts",
        "The best setting of each draft, by model and quantization. A cross is a draft that was rejected. Agreement is "
        "the share of positions at which the draft's own choice is the token that the target wrote.",
        ("draft", "quant", "k", "p_min", "speedup", "low", "high", "agreement", "break-even", "textbook", "why"),
        tuple(rows),
        _heat(explanation) if many else None,
    )


def _draft_row(one: DraftReasons) -> tuple[Cell, ...]:
    best, even = one.best, one.break_even
    return (
        one.draft.name,
        one.draft.quant,
        Number(best.config.k, str(best.config.k)),
        Number(best.config.p_min, f"{best.config.p_min:g}"),
        *(Number(value, f"{value:.2f}") for value in (best.speedup, best.speedup_low, best.speedup_high)),
        _share(one.agreement),
        _share(even.measured) if even and even.measured is not None else "never" if one.curve else None,
        _share(even.textbook) if even and even.textbook is not None else "never" if even else None,
        one.verdict,
    )


def _heat(explanation: Explanation) -> dict[str, Any]:
    rejected = explanation.rejected
    by_size = sorted(explanation.drafts, key=lambda one: one.draft.weights_bytes)
    quants = list(dict.fromkeys([one.draft.quant for one in by_size] + [one.quant for one in rejected]))
    sizes: dict[str, int] = {}
    for one in explanation.drafts:
        sizes[one.draft.name] = min(one.draft.weights_bytes, sizes.get(one.draft.name, one.draft.weights_bytes))
    drafts = list(dict.fromkeys([*sorted(sizes, key=sizes.__getitem__), *(one.draft for one in rejected)]))
    cells: list[dict[str, Any]] = [
        {
            "x": quants.index(one.draft.quant),
            "y": drafts.index(one.draft.name),
            "label": one.label,
            "speedup": one.best.speedup,
            "low": one.best.speedup_low,
            "high": one.best.speedup_high,
            "k": one.best.config.k,
            "p_min": one.best.config.p_min,
            "evidence": one.best.evidence,
            "detail": one.verdict,
        }
        for one in explanation.drafts
    ]
    cells += [
        {
            "x": quants.index(one.quant),
            "y": drafts.index(one.draft),
            "label": f"{one.draft} {one.quant}",
            "speedup": None,
            "reason": f"rejected: {one.reason}",
            "detail": one.detail,
        }
        for one in rejected
    ]
    return {"drafts": drafts, "quants": quants, "cells": cells}


def _lengths_section(explanation: Explanation) -> Iterable[Section]:
    subject = explanation.subject
    drawn = [one for one in explanation.drafts if len(one.lengths) > 1]
    if subject is None or not drawn:
        return
    rows = tuple(
        (
            one.label,
            Number(point.k, str(point.k)),
            *(Number(value, f"{value:.2f}") for value in (point.speedup, point.low, point.high)),
            _share(point.acceptance_rate),
            Number(point.tokens_per_step, f"{point.tokens_per_step:.2f}"),
            point.evidence,
        )
        for one in drawn
        for point in one.lengths
    )
    yield Section(
        "lengths",
        "Speedup against draft length",
        f"{subject.label}: {length_range(subject)}. Bars are 80 % intervals; the legend shows and hides drafts.",
        ("draft", "k", "speedup", "low", "high", "accepted", "tokens a step", "evidence"),
        rows,
        {
            "k_max": max(point.k for one in drawn for point in one.lengths),
            "shown": LINES_SHOWN,
            "drafts": [{"label": one.label, "points": [asdict(point) for point in one.lengths]} for one in drawn],
        },
    )


def _acceptance_section(explanation: Explanation) -> Iterable[Section]:
    drawn = [one for one in explanation.drafts if one.curve]
    if not drawn:
        return
    rows = tuple(
        (
            one.label,
            _share(point.agreement),
            _share(point.acceptance_rate),
            Number(point.speedup, f"{point.speedup:.2f}"),
        )
        for one in drawn
        for point in one.curve
    )
    yield Section(
        "acceptance",
        "How far from losing",
        "Each draft at its best setting, with its agreement moved up and down: agreements of the replayed answers are "
        "turned into mismatches, or mismatches into agreements, at random places. The circle is where the draft "
        "stands, the diamond where it is as fast as the target alone. Dotted: the textbook formula for the first.",
        ("draft", "agreement", "accepted of drafted", "speedup"),
        rows,
        {
            "shown": LINES_SHOWN,
            "textbook_label": f"textbook, k = {drawn[0].best.config.k}",
            "textbook": [list(pair) for pair in drawn[0].textbook_curve],
            "drafts": [_acceptance_line(one) for one in drawn],
        },
    )


def _acceptance_line(one: DraftReasons) -> dict[str, Any]:
    even = one.break_even
    return {
        "label": one.label,
        "agreement": one.agreement,
        "acceptance_rate": one.best.acceptance_rate,
        "speedup": one.best.speedup,
        "break_even": even.measured if even else None,
        "break_even_rate": even.acceptance_rate if even else None,
        "curve": [asdict(point) for point in one.curve],
    }


def _changes_section(explanation: Explanation) -> Iterable[Section]:
    if not explanation.changes:
        return
    yield Section(
        "changes",
        "What would change it",
        "",
        ("if", "speedup", ""),
        tuple(
            (one.what, Number(one.speedup, f"{one.speedup:.2f}x") if one.speedup is not None else None, one.sentence)
            for one in explanation.changes
        ),
    )


def _survival_section(explanation: Explanation) -> Iterable[Section]:
    subject = explanation.subject
    if subject is None or not subject.positions:
        return
    lines = [("all answers", subject.positions)]
    if len(subject.categories) > 1:
        lines += [(one.category, one.survival) for one in subject.categories if one.survival]
    rows = tuple(
        (
            name,
            Number(one.position, str(one.position)),
            _share(one.survival),
            _share(one.hazard),
            Number(one.steps, str(one.steps)),
        )
        for name, points in lines
        for one in points
    )
    yield Section(
        "survival",
        "Acceptance by position and category",
        f"{subject.label}: the share of drafts whose first tokens, up to each position, are all accepted (p_min = 0).",
        ("category", "position", "accepted up to here", "accepted if all before were", "steps"),
        rows,
        {
            "k_max": max(one.position for _, points in lines for one in points),
            "lines": [{"name": name, "points": [asdict(one) for one in points]} for name, points in lines],
        },
    )


def _categories_section(explanation: Explanation) -> Iterable[Section]:
    subject = explanation.subject
    if subject is None or len(subject.categories) < 2:
        return
    yield Section(
        "categories",
        "Speedup by category",
        f"{subject.label} at k = {subject.best.config.k}. A category rests on few answers: see the table.",
        ("category", "speedup", "accepted", "answers"),
        tuple(
            (
                one.category,
                Number(one.speedup, f"{one.speedup:.2f}"),
                _share(one.acceptance_rate),
                Number(one.answers, str(one.answers)),
            )
            for one in subject.categories
        ),
        {
            "points": [
                {name: value for name, value in asdict(one).items() if name != "survival"} for one in subject.categories
            ]
        },
    )


def _step_section(explanation: Explanation) -> Iterable[Section]:
    subject = explanation.subject
    drawn = [one for one in explanation.drafts if one.step is not None]
    if subject is None or not drawn:
        return
    rows, bars = [], []
    for one in drawn:
        assert one.step is not None
        parts = {name: max(0.0, seconds) for name, seconds, _ in shares_of_step(one.step)}
        bars.append({"name": one.label, "tokens": one.step.tokens, "parts": parts})
        named = {name: seconds for name, seconds, _ in shares_of_step(one.step)}
        rows.append(
            (
                one.label,
                *(
                    _milliseconds(named.get(name))
                    for name in ("drafting", "verifying", "re-evaluating", "rest of a real run")
                ),
                _milliseconds(one.step.total_s),
                Number(one.step.tokens, f"{one.step.tokens:.2f}"),
                _milliseconds(one.step.plain_s),
            )
        )
    first = drawn[0].step
    assert first is not None
    bars.append({"name": "the target alone", "tokens": 1, "parts": {"plain decoding": first.plain_s / first.tokens}})
    yield Section(
        "step",
        "Where the time goes",
        "One average step of each draft at its best setting, shared out over the tokens it yields.",
        ("draft", "drafting", "verifying", "re-evaluating", "rest", "a step", "tokens a step", "target alone"),
        tuple(rows),
        {"bars": bars},
    )


def _costs_section(explanation: Explanation) -> Iterable[Section]:
    lines: list[tuple[str, Sequence[CostPoint]]] = [("t(b), the target", explanation.target_cost)]
    lines += [(f"d(b), {one.label}", one.cost) for one in explanation.drafts if one.cost]
    lines = [(name, points) for name, points in lines if len(points) > 1]
    if not lines:
        return
    jumps = " ".join(
        f"A decode of {jump.b} tokens costs {jump.passes:.2f} target passes more than one of {jump.b - 1}."
        for jump in explanation.jumps
    )
    how = (
        "expected, not measured"
        if explanation.evidence == "prior"
        else "measured; bars are the fastest and the slowest round"
    )
    yield Section(
        "costs",
        "What decodes cost",
        f"The time of one decode of b tokens, {how}. {jumps}".strip(),
        ("curve", "b", "median", "fastest", "slowest"),
        tuple(
            (
                name,
                Number(one.b, str(one.b)),
                _milliseconds(one.seconds),
                _milliseconds(one.low_s),
                _milliseconds(one.high_s),
            )
            for name, points in lines
            for one in points
        ),
        {
            "jumps": [jump.b for jump in explanation.jumps],
            "lines": [
                {"name": name, "points": [asdict(one) for one in points]} for name, points in lines[: 1 + CURVES_SHOWN]
            ],
        },
    )


def _sureness_section(explanation: Explanation) -> Iterable[Section]:
    sure = explanation.sureness
    if sure is None:
        return
    said = [f"Chance that the pairing gains anything: {chance(sure.gain_chance)}."]
    if sure.lead_chance is not None:
        said.append(f"That it is faster than {explanation.drafts[1].label}: {chance(sure.lead_chance)}.")
    yield Section(
        "sureness",
        "How sure",
        " ".join([*said, sure.advice]),
        ("uncertainty from", "share", "measurement", "interval after it: low", "high"),
        tuple(
            (
                one.name,
                _share(one.share),
                one.remedy,
                Number(one.low, f"{one.low:.2f}"),
                Number(one.high, f"{one.high:.2f}"),
            )
            for one in sure.sources
        ),
    )


_SECTIONS = (
    _drafts_section,
    _lengths_section,
    _acceptance_section,
    _changes_section,
    _survival_section,
    _categories_section,
    _step_section,
    _costs_section,
    _sureness_section,
)


def _share(value: float | None) -> Number | None:
    return Number(value, f"{100 * value:.0f} %") if value is not None and math.isfinite(value) else None


def _milliseconds(seconds: float | None) -> Number | None:
    return Number(seconds, f"{1e3 * seconds:.1f} ms") if seconds is not None else None


def _section(section: Section) -> str:
    table = _table(section)
    if section.chart is not None:
        place = (
            f'<div class="chart" id="chart-{section.name}" role="img" aria-label="{_text(section.title)}"'
            f"{_height(section)}></div>"
        )
        table = f"{place}\n<details><summary>The numbers</summary>{table}</details>"
    lead = f'<p class="lead">{_text(section.lead)}</p>' if section.lead else ""
    return f'<section id="{section.name}">\n<h2>{_text(section.title)}</h2>\n{lead}\n{table}\n</section>'


def _height(section: Section) -> str:
    """Charts with one bar or row a draft grow with their number."""
    chart = section.chart or {}
    count = len(chart.get("drafts", ())) if section.name == "heat" else len(chart.get("bars", chart.get("points", ())))
    return f' style="height: {7 + 2.6 * count:.1f}rem"' if count else ""


def _table(section: Section) -> str:
    if not section.rows:
        return ""
    numeric = [any(isinstance(row[i], Number) for row in section.rows) for i in range(len(section.headings))]
    head = "".join(
        f'<th scope="col"{" class=n" if is_number else ""}>{_text(name)}</th>'
        for name, is_number in zip(section.headings, numeric, strict=True)
    )
    rows = "\n".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in section.rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table></div>'


def _cell(cell: Cell) -> str:
    if cell is None:
        return "<td></td>"
    if isinstance(cell, Number):
        return f'<td class="n" data-value="{cell.value!r}">{_text(cell.shown)}</td>'
    return f"<td>{_text(cell)}</td>"


# --- answers and the end ----------------------------------------------------------------------------------------------


def _answers(explanation: Explanation) -> str:
    if not explanation.answers or explanation.subject is None:
        return ""
    subject = explanation.subject
    key = "".join(f'<span class="{role}">{_text(words)}</span> ' for role, words in _ROLE_WORDS.items())
    shown = "\n".join(_answer(one) for one in explanation.answers)
    return (
        f'<section id="answers">\n<h2>The target\'s own answers</h2>\n<p class="lead">How {_text(subject.label)} at '
        f"k = {subject.best.config.k} would have drafted them, by replay.</p>\n"
        f'<p class="key">{key}</p>\n{shown}\n</section>'
    )


def _answer(one: ColouredAnswer) -> str:
    tokens = "".join(_token(token) for token in one.tokens)
    accepted = sum(token.role == "accepted" for token in one.tokens)
    return (
        f"<h3>{_text(one.category)}: {accepted} of {counted(len(one.tokens), 'token')} from the draft</h3>\n"
        f'<div class="answer">{tokens}</div>'
    )


def _token(token: ColouredToken) -> str:
    if not token.text:
        return ""
    where = f"step {token.step}, place {token.position} of the draft" if token.position else f"step {token.step}"
    sure = f"; the draft's confidence here {100 * token.confidence:.0f} %" if token.role != "alone" else ""
    title = html.escape(f"{_ROLE_WORDS[token.role]}; {where}{sure}", quote=True)
    shown = html.escape(visible(token.text, keep_newlines=True), quote=True)
    return f'<span class="{token.role}" title="{title}">{shown}</span>'


def _closing(rec: Recommendation, explanation: Explanation) -> str:
    said = "".join(f"<li>{_text(sentence)}</li>" for sentence in explanation.left_out)
    missing = f'<section id="left-out"><h2>Not in this report</h2><ul>{said}</ul></section>\n' if said else ""
    return (
        f"{missing}<footer>Recommendation of {_text(rec.created_at)}. Charts: Apache ECharts 6.1.0, Apache License 2.0."
        "</footer>"
    )
