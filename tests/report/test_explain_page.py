"""The page as a file: self-contained, small, true to the record, and deaf to what names try."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from html.parser import HTMLParser

import pytest

from advisor.reasons import explain
from advisor.report import explain_page, json_document
from advisor.types import AnswerText, Estimate, Recommendation, Rejected
from tests.explained import corrected, foreseen, pair, simulated, sweep, without_a_draft

NASTY = '</script><script>alert(1)</script>"><img src=x onerror=alert(1)>\u2028<!--'
# As published: npm package echarts 6.1.0, dist/echarts.min.js.
ECHARTS_SHA256 = "b66b25aeb4df84e33199dc21694014d336d222cbd9deb0e5a7c14bd6aa0d0fd0"


class Page(HTMLParser):
    """Elements, attributes, table rows and scripts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[tuple[str, float | None]]]] = {}
        self.scripts: list[str] = []
        self.text = ""
        self._section, self._open = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.elements.append((tag, found))
        self._open = tag
        if tag == "section":
            self._section = found["id"] or ""
        elif tag == "tr":
            self.tables.setdefault(self._section, []).append([])
        elif tag in ("td", "th"):
            value = found.get("data-value")
            self.tables[self._section][-1].append(("", float(value) if value is not None else None))
        elif tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts[-1] += data
            return
        self.text += data
        if self._open in ("td", "th"):
            row = self.tables[self._section][-1]
            row[-1] = (row[-1][0] + data, row[-1][1])

    @property
    def charts(self) -> dict[str, dict]:
        return json.loads(self.scripts[0])["charts"]


def source(rec: Recommendation) -> str:
    return explain_page.page(rec, explain(rec))


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(source(simulated()))


def poisoned() -> Recommendation:
    """Every text that comes from a file, a model, a machine or a workload tries to become markup."""
    rec = simulated()
    draft = rec.best.config.draft
    candidates = tuple(
        dataclasses.replace(c, draft=dataclasses.replace(c.draft, name=NASTY)) if c.draft.content_hash == draft else c
        for c in rec.candidates
    )

    def with_nasty_categories(one: Estimate) -> Estimate:
        return dataclasses.replace(
            one,
            speedup_by_category=_poison(one.speedup_by_category),
            acceptance_by_category=_poison(one.acceptance_by_category),
        )

    return dataclasses.replace(
        rec,
        host=dataclasses.replace(rec.host, cpu=NASTY, notes=(NASTY,)),
        build=dataclasses.replace(rec.build, version=NASTY),
        target=dataclasses.replace(rec.target, name=NASTY, path=f"/{NASTY}.gguf"),
        sentence=f"Speculate with {NASTY}",
        workload=NASTY,
        categories=tuple(map(_poisonous, rec.categories)),
        candidates=candidates,
        estimates=tuple(map(with_nasty_categories, rec.estimates)),
        best=with_nasty_categories(rec.best),
        traces={
            hashed: tuple(dataclasses.replace(trace, category=_poisonous(trace.category)) for trace in traces)
            for hashed, traces in rec.traces.items()
        },
        rejected=(Rejected(NASTY, NASTY, "tokenizer", NASTY),),
        measurement=dataclasses.replace(rec.measurement, stop_reason=NASTY, notes=(NASTY,)),
        answers=tuple(AnswerText(_poisonous(a.category), (NASTY, *a.pieces[1:])) for a in rec.answers),
    )


def _poisonous(category: str) -> str:
    return category + NASTY


def _poison(by_category: dict[str, float]) -> dict[str, float]:
    return {_poisonous(category): value for category, value in by_category.items()}


def test_the_charting_library_is_the_published_one():
    text = explain_page._asset("vendor", explain_page.LIBRARY)
    assert hashlib.sha256(text.encode()).hexdigest() == ECHARTS_SHA256


def test_the_page_is_one_file_below_five_megabytes(page):
    assert len(source(simulated()).encode()) < 5_000_000
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        assert not {"src", "href", "srcset", "action", "data"} & attributes.keys()


def test_only_the_scripts_of_the_page_may_run_and_nothing_may_be_fetched(page):
    policy = next(a["content"] for t, a in page.elements if t == "meta" and a.get("http-equiv"))
    allowed = {part.strip("'") for part in policy.split("script-src ")[1].split(";")[0].split()}
    run = {"sha256-" + base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in page.scripts[1:]}
    assert allowed == run
    assert policy.startswith("default-src 'none'")


def test_the_numbers_of_the_page_are_those_of_the_saved_document(page):
    rec = json_document.load(json_document.dumps(json_document.document(simulated(), command=[])))
    by_label = {c.draft.label: c.draft.content_hash for c in rec.candidates}
    rows = page.tables["lengths"][1:]
    assert rows
    for row in rows:
        (label, _), (_, k), (_, speedup), (_, low), (_, high), (_, rate), (_, tokens), _ = row
        assert any(
            (e.config.draft, e.config.k, e.speedup, e.speedup_low, e.speedup_high, e.acceptance_rate, e.tokens_per_step)
            == (by_label[label], k, speedup, low, high, rate, tokens)
            for e in rec.estimates
        )


def test_the_charts_show_the_numbers_of_the_tables(page):
    rec, charts = simulated(), page.charts
    drawn = {
        (draft["label"], point["k"], point["speedup"])
        for draft in charts["lengths"]["drafts"]
        for point in draft["points"]
    }
    assert drawn == {(row[0][0], row[1][1], row[2][1]) for row in page.tables["lengths"][1:]}
    cells = {(c["label"], c["speedup"], c.get("low"), c.get("high"), c.get("k")) for c in charts["heat"]["cells"]}
    assert cells == {
        (f"{row[0][0]} {row[1][0]}", row[4][1], row[5][1], row[6][1], row[2][1]) for row in page.tables["heat"][1:]
    }
    cost = {(line["name"], p["b"], p["seconds"]) for line in charts["costs"]["lines"] for p in line["points"]}
    assert cost <= {(row[0][0], row[1][1], row[2][1]) for row in page.tables["costs"][1:]}
    assert len(charts["heat"]["cells"]) == len(rec.candidates) + len(rec.rejected)


def test_the_figures_on_top_are_those_of_the_pick(page):
    best = simulated().best
    assert f"{best.speedup:.2f}x" in page.text
    assert f"80 % interval {best.speedup_low:.2f} to {best.speedup_high:.2f}" in page.text
    assert f"{best.tokens_per_second:.1f} tok/s" in page.text


def test_every_chart_has_a_place_and_a_table(page):
    places = {a["id"] for t, a in page.elements if t == "div" and a.get("class") == "chart"}
    assert places == {f"chart-{name}" for name in page.charts}
    assert set(page.charts) == {"heat", "lengths", "acceptance", "survival", "categories", "step", "costs"}
    for name in page.charts:
        assert len(page.tables[name]) > 1


def test_answers_are_coloured_token_by_token(page):
    roles = [a["class"] for t, a in page.elements if t == "span" and a.get("title")]
    explanation = explain(simulated())
    assert roles == [token.role for answer in explanation.answers for token in answer.tokens]
    assert {"accepted", "corrected", "bonus", "alone"} >= set(roles)


def test_text_that_tries_to_be_markup_stays_text():
    clean, dirty = Page(source(simulated())), Page(source(poisoned()))
    kinds = [tag for tag, _ in clean.elements]
    assert len(dirty.scripts) == 3
    assert "<" not in dirty.scripts[0]
    assert "img" not in {tag for tag, _ in dirty.elements}
    assert {tag for tag, _ in dirty.elements} <= set(kinds)
    assert not any(name.startswith("on") for _, attributes in dirty.elements for name in attributes)
    assert "</script><script>alert(1)</script>" in dirty.text
    assert NASTY.replace("\u2028", "\\u2028") in {
        d["label"].removesuffix(" Q4_0") for d in dirty.charts["lengths"]["drafts"]
    }


def test_a_prior_has_no_chart_that_needs_a_measurement():
    found = Page(source(foreseen()))
    assert set(found.charts) == {"heat", "lengths"}
    assert "No answers were replayed" in found.text
    for empty in ("0 core", "nothing was run:", "0 prompt", "It cannot be computed", "nan"):
        assert empty not in found.text


def test_the_map_of_a_prior_has_few_columns_from_few_to_many_bits():
    rec = foreseen()
    found = Page(source(rec))
    heat = found.charts["heat"]
    assert len(heat["quants"]) <= 9
    assert heat["quants"].index("Q2_K") < heat["quants"].index("Q4_K_M") < heat["quants"].index("Q8_0")
    assert "" not in heat["quants"]
    assert rec.draft_of(rec.best.config).quant in heat["quants"]
    assert {one["label"] for one in heat["refused"]} == {one.draft for one in rec.rejected if not one.quant}
    assert len(found.tables["heat"]) == 1 + len(rec.estimates) + len(rec.rejected)


def test_an_upper_bound_is_told_right_under_the_verdict():
    text = source(foreseen("qwen3.5-27b-q8"))
    assert text.index("</h1>") < text.index("An upper bound") < text.index('class="figures"')


def test_a_sweep_has_the_charts_that_whole_runs_give():
    found = Page(source(sweep()))
    assert set(found.charts) == {"heat", "lengths", "survival", "categories", "step"}
    assert found.charts["step"]["parts"] == ["whole step", "plain decoding"]


@pytest.mark.parametrize("make", [simulated, lambda: corrected(1.1), lambda: corrected(0.9), sweep])
def test_a_bar_is_as_long_as_the_draft_is_slow(make):
    rec = make()
    charts = Page(source(rec)).charts
    by_label = {c.draft.label: c.draft.content_hash for c in rec.candidates}
    *drafts, alone = charts["step"]["bars"]
    for bar in drafts:
        drawn_s = sum(bar["parts"].values()) * bar.get("shortened", 1) / bar["tokens"]
        best = bar["speedup"]
        assert any(e.speedup == best for e in rec.estimates if e.config.draft == by_label[bar["name"]])
        assert drawn_s == pytest.approx(rec.baseline.token_s / best)
    assert alone["parts"] == {"plain decoding": pytest.approx(rec.baseline.token_s)}


def test_every_table_has_the_numbers_of_the_reasons():
    """What is not an estimate of the record is what explain computed from the record as saved."""
    saved = json_document.dumps(json_document.document(corrected(1.1), command=[]))
    explanation = explain(json_document.load(saved))
    tables = Page(explain_page.page(corrected(1.1), explain(corrected(1.1)))).tables

    def numbers(name: str) -> list[list[float | None]]:
        return [[value for _, value in row] for row in tables[name][1:]]

    subject, sure = explanation.subject, explanation.sureness
    curves = [[None, p.agreement, p.acceptance_rate, p.speedup] for one in explanation.drafts for p in one.curve]
    formula = [[None, agreement, None, speedup] for agreement, speedup in explanation.drafts[0].textbook_curve]
    assert numbers("acceptance") == curves + formula
    lines = [subject.positions, *(one.survival for one in subject.categories)]
    assert numbers("survival") == [
        [None, p.position, p.survival, p.hazard, p.steps] for points in lines for p in points
    ]
    assert numbers("categories") == [[None, c.speedup, c.acceptance_rate, c.answers] for c in subject.categories]
    assert numbers("changes") == [[None, change.speedup, None] for change in explanation.changes]
    assert numbers("sureness") == [[None, s.low, s.high, None, s.share] for s in sure.sources]
    steps = [one.step for one in explanation.drafts]
    assert numbers("step") == [
        [None, s.parts.drafting_s, s.parts.verifying_s, s.parts.reevaluating_s, s.beyond_s, s.total_s, s.tokens,
         s.token_s, s.plain_s] for s in steps
    ]  # fmt: skip
    costs = [explanation.target_cost, *(one.cost for one in explanation.drafts)]
    assert numbers("costs") == [[None, p.b, p.seconds, p.low_s, p.high_s, p.rounds] for ps in costs for p in ps]
    evens = [(one.agreement, one.break_even.measured, one.break_even.acceptance_rate, one.break_even.textbook)
             for one in explanation.drafts]  # fmt: skip
    assert [tuple(row[8:12]) for row in numbers("heat")][: len(evens)] == evens


def test_a_draft_has_one_colour_in_all_charts():
    rec = simulated()
    charts = Page(source(rec)).charts
    colours = {one["label"]: one["colour"] for one in charts["lengths"]["drafts"]}
    assert colours == {one["label"]: one["colour"] for one in charts["acceptance"]["drafts"]}
    costs = {line["name"].removeprefix("d(b), "): line["colour"] for line in charts["costs"]["lines"][1:]}
    assert costs == {label: colours[label] for label in costs}


def test_two_files_of_one_name_and_quantization_have_their_own_cell_and_line():
    rec = simulated()
    first, second = rec.candidates[0].draft, rec.candidates[1].draft
    twin = dataclasses.replace(second, name=first.name, quant=first.quant)
    candidates = tuple(dataclasses.replace(c, draft=twin) if c.draft is second else c for c in rec.candidates)
    charts = Page(source(dataclasses.replace(rec, candidates=candidates))).charts
    places = [(cell["x"], cell["y"]) for cell in charts["heat"]["cells"]]
    assert len(set(places)) == len(places)
    labels = [one["label"] for one in charts["lengths"]["drafts"]]
    assert len(set(labels)) == len(labels)


def test_one_category_counts_its_own_answers():
    rec = simulated()
    found = Page(explain_page.page(rec, explain(rec, "chat")))
    assert "built-in: 3 prompts of 9" in found.text


def test_a_command_is_text():
    rec = simulated()
    found = Page(explain_page.page(rec, explain(rec), f"llama-server \\\n  -m '{NASTY}'"))
    assert "llama-server \\\n  -m '</script>" in found.text
    assert [tag for tag, _ in found.elements].count("script") == [tag for tag, _ in Page(source(rec)).elements].count(
        "script"
    )


def test_a_page_for_the_verdict_no():
    found = Page(source(pair(0.05)))
    assert any(a.get("class") == "verdict no" for _, a in found.elements)
    assert "heat" in found.charts  # the draft and the rejected file


def test_a_page_with_nothing_but_rejected_drafts():
    rec = dataclasses.replace(
        simulated(), verdict="do-not-speculate", sentence="Do not speculate: no draft can run beside this target.",
        best=None, runner_up=None, candidates=(), estimates=(), traces={}, draft_curves={}, trials=(), answers=(),
    )  # fmt: skip
    found = Page(source(rec))
    assert found.charts == {}
    assert rec.rejected[0].detail in found.text


def test_a_pick_without_a_draft_has_its_own_figures_and_a_table_of_methods():
    rec = without_a_draft()
    html = explain_page.page(rec, explain(rec))
    top = html[html.index('class="figures"') : html.index('class="facts"')]
    assert "2.50x" in top
    assert "with ngram-mod" in top
    assert "break-even" not in top  # that is the draft's
    methods = html[html.index('id="methods"') :]
    assert methods.index("ngram-mod") < methods.index("ngram-simple") < methods.index("</section>")
