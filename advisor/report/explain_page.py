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
from importlib import resources
from string import Template

from advisor.printable import visible
from advisor.ranking import setting_of
from advisor.reasons.records import ColouredAnswer, ColouredToken, Explanation
from advisor.report.explain_cost import costs_section, step_section, sureness_section
from advisor.report.explain_heat import drafts_section
from advisor.report.explain_section import rendered
from advisor.report.explain_section import text as _text
from advisor.report.explain_speed import (
    acceptance_section,
    categories_section,
    changes_section,
    lengths_section,
    methods_section,
    survival_section,
)
from advisor.report.explain_wording import (
    UPPER_BOUND,
    about_the_draft,
    above_or_below,
    break_even,
    break_even_path,
    chance,
    margin_points,
    too_unsure,
)
from advisor.report.wording import counted, percent, sampling, size, what_is_served
from advisor.types import Recommendation

LIBRARY = "echarts-6.1.0.min.js"

_SECTIONS = (
    drafts_section,
    methods_section,
    lengths_section,
    acceptance_section,
    changes_section,
    survival_section,
    categories_section,
    step_section,
    costs_section,
    sureness_section,
)
_ROLE_WORDS = {
    "accepted": "drafted and accepted",
    "corrected": "the target's own, in place of a rejected draft token",
    "bonus": "the target's own, after a draft accepted whole",
    "alone": "the target's own, nothing was drafted",
}


def page(rec: Recommendation, explanation: Explanation, command: str = "") -> str:
    """The whole page. ``command`` is the llama-server command line, already quoted for the shell; "": none is shown."""
    sections = [section for build in _SECTIONS for section in build(explanation)]
    charts = {section.name: section.chart for section in sections if section.chart is not None}
    library, script = _asset("vendor", LIBRARY), _asset("templates", "explain.js")
    body = "\n".join(
        [
            _head(rec, explanation),
            *(rendered(section) for section in sections),
            _answers(explanation),
            _command(explanation, command),
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


# --- the top ----------------------------------------------------------------------------------------------------------


def _head(rec: Recommendation, explanation: Explanation) -> str:
    no = "" if explanation.verdict == "speculate" else " no"
    bound = f'<p class="bound">{_text(UPPER_BOUND)}</p>\n' if explanation.is_upper_bound else ""
    listed = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in _facts(rec, explanation))
    return (
        f'<h1 class="verdict{no}">{_text(explanation.sentence)}</h1>\n{bound}'
        f'{_figures(rec, explanation)}<dl class="facts">{listed}</dl>\n{_margin(explanation)}'
    )


def _facts(rec: Recommendation, explanation: Explanation) -> list[tuple[str, str]]:
    host = rec.host
    probed = f", {counted(host.cores_usable, 'core')}, {size(host.ram_total_bytes)} RAM" if host.os else ""
    facts = [
        ("Target", f"{rec.target.label}, {size(rec.target.weights_bytes)}"),
        ("Machine", f"{host.cpu}{probed}"),
        ("Engine", f"{rec.build.engine} {rec.build.version}"),
    ]
    how = sampling(rec.settings.sampling)
    if explanation.answered:
        of = f" of {rec.measurement.prompts}" if explanation.answered != rec.measurement.prompts else ""
        facts.append(("Workload", f"{rec.workload}: {counted(explanation.answered, 'prompt')}{of}, {how}"))
    else:
        facts.append(("Text", f"{', '.join(rec.categories)}, {how}"))
    facts.append(("Baseline", f"{rec.baseline.tokens_per_second:.1f} tokens a second ({rec.baseline.evidence})"))
    if explanation.category is not None:
        facts.append(("Category", f"{explanation.category} alone"))
    return facts


def _figures(rec: Recommendation, explanation: Explanation) -> str:
    subject, sure = explanation.subject, explanation.sureness
    if subject is None:
        return ""
    best = explanation.pick or subject.best
    own = best.config == subject.best.config
    helper = "the draft" if best.config.draft else best.config.method
    shown = [
        (f"{best.speedup:.2f}x", f"80 % interval {best.speedup_low:.2f} to {best.speedup_high:.2f}"),
        (
            f"{best.tokens_per_second:.1f} tok/s",
            f"with {helper}, {rec.baseline.tokens_per_second:.1f} without ({best.evidence})",
        ),
        (percent(best.acceptance_rate), f"of the drafted tokens accepted, {best.tokens_per_step:.2f} tokens a step"),
    ]
    margin = margin_points(subject)
    if margin is not None and own:
        shown.append((f"{abs(margin)} points", f"of agreement {above_or_below(margin)} break-even"))
    if sure is not None and own:
        shown.append((chance(sure.gain_chance), "chance of any gain"))
    boxes = "".join(f"<div><b>{_text(figure)}</b><span>{_text(words)}</span></div>" for figure, words in shown)
    return f'<div class="figures">{boxes}</div>\n'


def _margin(explanation: Explanation) -> str:
    if explanation.subject is None:
        return ""
    even = explanation.subject.break_even
    said = [about_the_draft(explanation), too_unsure(explanation), break_even(explanation.subject)]
    why = f"{break_even_path(even)} {explanation.why_formulas_differ}".strip()
    stands = "".join(f"<p>{_text(sentence)}</p>\n" for sentence in said if sentence)
    return stands + (f'<p class="lead">{_text(why)}</p>\n' if why else "")


# --- answers and the end ----------------------------------------------------------------------------------------------


def _answers(explanation: Explanation) -> str:
    if not explanation.answers or explanation.subject is None:
        return ""
    subject = explanation.subject
    key = "".join(f'<span class="{role}">{_text(words)}</span> ' for role, words in _ROLE_WORDS.items())
    shown = "\n".join(_answer(one) for one in explanation.answers)
    return (
        f'<section id="answers">\n<h2>The target\'s own answers</h2>\n<p class="lead">How {_text(subject.label)} at '
        f"{_text(setting_of(subject.best.config))} would have drafted them, by replay.</p>\n"
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


def _command(explanation: Explanation, command: str) -> str:
    if not command:
        return ""
    shown = html.escape(visible(command, keep_newlines=True), quote=True)
    lead = f"llama-server, {what_is_served(explanation.verdict)}."
    return f'<section id="command">\n<h2>The command</h2>\n<p class="lead">{lead}</p>\n<pre>{shown}</pre>\n</section>'


def _closing(rec: Recommendation, explanation: Explanation) -> str:
    said = "".join(f"<li>{_text(sentence)}</li>" for sentence in explanation.left_out)
    missing = (
        f'<section id="left-out"><h2>Not in this report</h2><ul class="notes">{said}</ul></section>\n' if said else ""
    )
    return (
        f"{missing}<footer>Recommendation of {_text(rec.created_at)}. Charts: Apache ECharts 6.1.0, Apache License 2.0."
        "</footer>"
    )
