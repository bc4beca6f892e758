"""The page in a real Chromium, headless and offline: drawn, hovered, dark, on a phone, printed, and attacked.

Chromium is required, not optional: without one these tests fail and say how to get it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from advisor.reasons import explain
from advisor.report import explain_page
from advisor.testing.chromium import launch
from advisor.types import Recommendation
from tests.explained import foreseen, pair, simulated, sweep, without_a_draft
from tests.report.test_explain_page import NASTY, poisoned


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = launch(playwright)
        yield running
        running.close()


@dataclass
class Opened:
    """A page, with what it complained about and what it asked the network for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


class Opener:
    def __init__(self, browser: Browser, folder: Path) -> None:
        self._browser, self._folder = browser, folder

    def __call__(self, rec: Recommendation, *, width: int = 1100, scheme: str = "light") -> Opened:
        file = self._folder / "report.html"
        file.write_text(explain_page.page(rec, explain(rec)), encoding="utf-8")
        context = self._browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, reduced_motion="reduce"
        )
        opened = Opened(context.new_page())
        opened.page.on("console", lambda message: opened.complaints.append(message.text))
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.page.on("dialog", lambda dialog: (opened.complaints.append(dialog.message), dialog.dismiss()))
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        opened.page.goto(file.as_uri())
        opened.page.wait_for_function("document.documentElement.dataset.drawn !== undefined")
        return opened


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[Opener]:
    yield Opener(browser, tmp_path)
    for context in browser.contexts:
        context.close()


def drawn_charts(page: Page) -> dict[str, int]:
    """How many shapes each chart drew."""
    return page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('.chart')]"
        ".map(c => [c.id, c.querySelectorAll('svg path, svg rect, svg circle').length]))"
    )


def background(page: Page) -> str:
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def text_colour_of_chart(page: Page) -> str:
    return page.evaluate("document.querySelector('#chart-lengths svg text').getAttribute('fill')")


@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (1100, "dark"), (390, "light"), (390, "dark")])
def test_every_chart_is_drawn_without_complaint_or_request(open_page, width, scheme):
    opened = open_page(simulated(), width=width, scheme=scheme)
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith("file:")] == []
    assert len(opened.requests) == 1
    charts = drawn_charts(opened.page)
    assert set(charts) == {
        f"chart-{name}" for name in ("heat", "lengths", "acceptance", "survival", "categories", "step", "costs")
    }
    assert all(shapes > 5 for shapes in charts.values())


@pytest.mark.parametrize("width", [390, 320])
def test_a_phone_never_scrolls_sideways(open_page, width):
    opened = open_page(simulated(), width=width)
    for summary in opened.page.locator("summary").all():
        summary.click()  # wide tables scroll inside their own box
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    for chart in opened.page.locator(".chart svg").all():
        assert chart.bounding_box()["width"] <= width


def test_dark_mode_is_dark_and_follows_a_change(open_page):
    opened = open_page(simulated(), scheme="light")
    light, light_text = background(opened.page), text_colour_of_chart(opened.page)
    opened.page.emulate_media(color_scheme="dark")
    opened.page.wait_for_function(
        "before => document.querySelector('#chart-lengths svg text').getAttribute('fill') !== before", arg=light_text
    )
    assert background(opened.page) != light
    assert sum(map(int, background(opened.page)[4:-1].split(","))) < 150
    assert opened.complaints == []


def test_hovering_a_point_shows_its_numbers(open_page):
    opened = open_page(simulated())
    point = explain(simulated()).subject.lengths[3]
    tip = hover(opened.page, "lengths", [point.k, point.speedup])
    assert f"k = {point.k}" in tip
    assert f"{point.speedup:.2f}x [{point.low:.2f}, {point.high:.2f}]" in tip


@pytest.mark.parametrize("width", [1100, 390])
def test_every_chart_answers_a_pointer(open_page, width):
    page = open_page(simulated(), width=width).page
    explanation = explain(simulated())
    subject = explanation.subject
    best, position, cost = subject.best, subject.positions[1], explanation.target_cost[2]
    category, step = subject.categories[0], subject.step
    cell = next(c for c in page.evaluate(data_of("heat"))["cells"] if c["label"] == subject.label)
    token_ms = 1e3 * step.parts.verifying_s / step.tokens
    for chart, place, expected in (
        ("heat", [cell["x"], cell["y"]], [f"{best.speedup:.2f}x", f"k = {best.config.k}"]),
        ("lengths", [best.config.k, best.speedup], [f"{best.speedup:.2f}x"]),
        ("acceptance", [100 * subject.agreement, best.speedup], ["as it stands", f"{best.speedup:.2f}x"]),
        ("survival", [position.position, 100 * position.survival], [f"{100 * position.survival:.1f} %"]),
        ("categories", [category.speedup / 2, category.category], [f"{category.speedup:.2f}x", "answers"]),
        ("step", [1, subject.label], [f"verifying: {token_ms:.1f} ms", f"{step.tokens:.2f} tokens"]),
        ("costs", [cost.b, 1e3 * cost.seconds], [f"t(b), the target: {1e3 * cost.seconds:.1f} ms", "3 rounds"]),
    ):
        tip = hover(page, chart, place)
        for words in expected:
            assert words in tip, (chart, tip)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_category_that_loses_has_another_colour_and_says_so(open_page, scheme):
    rec = simulated()
    best = dataclasses.replace(rec.best, speedup_by_category={"code": 1.4, "chat": 1.1, "math": 0.89})
    opened = open_page(dataclasses.replace(rec, best=best, estimates=(best, *rec.estimates[1:])), scheme=scheme)
    bars = "[...document.querySelectorAll('#chart-categories svg path')].map(one => one.getAttribute('fill'))"
    loss = opened.page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--loss').trim()")
    assert opened.page.evaluate(bars).count(loss) == 1
    labels = opened.page.locator("#chart-categories svg text").all_text_contents()
    assert [label for label in labels if "slower" in label] == ["0.89x slower"]
    assert "0.89x slower" in hover(opened.page, "categories", [0.4, "math"])


def test_hovering_a_refused_model_says_why(open_page):
    page = open_page(foreseen()).page
    refused = page.evaluate(data_of("heat"))["refused"][0]
    assert refused["detail"] in hover(page, "heat", [3, refused["y"]])


@pytest.mark.parametrize("width", [1100, 390])
@pytest.mark.parametrize("make", [simulated, foreseen, sweep, poisoned, without_a_draft, lambda: pair(0.05)])
def test_no_two_labels_of_a_chart_overlap(open_page, make, width):
    page = open_page(make(), width=width).page
    boxes = page.evaluate(
        """() => [...document.querySelectorAll('.chart')].map(chart => [chart.id,
        [...chart.querySelectorAll('svg text')].map(text => [text.textContent, text.getBoundingClientRect()])
        .map(([said, box]) => [said, box.left, box.top, box.right, box.bottom])])"""
    )
    for chart, labels in boxes:
        for i, (said, left, top, right, bottom) in enumerate(labels):
            for other, left2, top2, right2, bottom2 in labels[i + 1 :]:
                apart = right <= left2 + 1 or right2 <= left + 1 or bottom <= top2 + 3 or bottom2 <= top + 3
                assert apart, f"{chart}: {said!r} and {other!r}"


@pytest.mark.parametrize("make", [simulated, foreseen])
def test_the_legend_of_the_map_has_ends_that_a_speedup_can_have(open_page, make):
    page = open_page(make()).page
    (high, low) = page.evaluate("window.reportCharts.get('heat').getOption().visualMap[0].text")
    assert float(low[:-1]) * float(high[:-1]) == pytest.approx(1, abs=0.02)


def test_what_the_legend_chose_survives_a_resize_and_a_change_to_dark(open_page):
    page = open_page(simulated()).page
    labels = [one.label for one in explain(simulated()).drafts]
    page.evaluate(
        "names => names.forEach(name => window.reportCharts.get('lengths')"
        ".dispatchAction({type: 'legendToggleSelect', name}))",
        [labels[0], labels[3]],
    )
    page.set_viewport_size({"width": 500, "height": 900})
    page.wait_for_function("() => document.querySelector('#chart-lengths svg').getBoundingClientRect().width < 500")
    page.emulate_media(color_scheme="dark")
    selected = page.evaluate("window.reportCharts.get('lengths').getOption().legend[0].selected")
    assert selected == {labels[0]: False, labels[1]: True, labels[2]: True, labels[3]: True}


def test_printing_opens_the_tables_and_closes_them_again(open_page):
    page = open_page(simulated()).page
    page.locator("#heat summary").click()
    count = "document.querySelectorAll('details[open]').length"
    assert page.evaluate(count) == 1
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(count) == page.locator("details").count()
    for chart in page.locator(".chart svg").all():
        assert chart.bounding_box()["width"] <= 690
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(count) == 1


def test_hovering_a_rejected_cell_says_why(open_page):
    opened = open_page(simulated())
    cell = next(c for c in opened.page.evaluate(data_of("heat"))["cells"] if c["speedup"] is None)
    tip = hover(opened.page, "heat", [cell["x"], cell["y"]], series=1)
    rejected = simulated().rejected[0]
    assert rejected.detail in tip
    assert "rejected: tokenizer" in tip


def test_hovering_a_token_says_whose_it_is(open_page):
    opened = open_page(simulated())
    token = opened.page.locator(".answer span.corrected").first
    assert "in place of a rejected draft token; step" in token.get_attribute("title")


def test_what_the_browser_shows_are_the_numbers_of_the_record(open_page):
    rec = simulated()
    opened = open_page(rec)
    shown = opened.page.evaluate(
        "[...document.querySelectorAll('#lengths tbody tr')].map(r => [...r.children]"
        ".map(c => c.dataset.value === undefined ? c.textContent : Number(c.dataset.value)))"
    )
    labels = {candidate.draft.content_hash: candidate.draft.label for candidate in rec.candidates}
    known = {(labels[e.config.draft], e.config.k, e.speedup, e.speedup_low, e.speedup_high) for e in rec.estimates}
    assert len(shown) > 8
    assert {tuple(row[:5]) for row in shown} <= known
    plotted = opened.page.evaluate(
        "window.reportCharts.get('lengths').getOption().series.filter(s => s.type === 'line')"
        ".flatMap(s => s.data.map(d => [s.name, d.value[0], d.value[1]]))"
    )
    assert {tuple(point) for point in plotted} == {(row[0], row[1], row[2]) for row in shown}


def test_markup_in_names_and_answers_stays_text(open_page):
    opened = open_page(poisoned())
    page = opened.page
    assert opened.complaints == []
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 3
    assert "alert(1)" in page.locator("h1").inner_text()
    assert "<script>alert(1)</script>" in page.locator(".answer").first.inner_text()
    best = explain(poisoned()).subject.best
    tip = hover(page, "lengths", [best.config.k, best.speedup])
    assert NASTY[:9] in tip
    assert page.locator("img").count() == 0


def test_a_script_that_got_in_would_not_run(open_page):
    """The policy is a second fence: it holds without the first."""
    page = open_page(simulated()).page
    page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.gotIn = 1';"
        " document.body.append(s); document.body.insertAdjacentHTML('beforeend',"
        ' \'<img src="data:," onerror="window.gotIn = 1">\'); }'
    )
    page.wait_for_timeout(50)
    assert page.evaluate("window.gotIn") is None


def test_it_prints_on_white_with_its_charts(open_page, tmp_path):
    opened = open_page(simulated(), scheme="dark")
    opened.page.emulate_media(media="print", color_scheme="dark")
    assert background(opened.page) == "rgb(255, 255, 255)"
    assert all(shapes > 5 for shapes in drawn_charts(opened.page).values())
    assert opened.page.pdf().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("make", "names"),
    [(foreseen, {"heat", "lengths"}), (sweep, {"heat", "lengths", "survival", "categories", "step"})],
)
def test_charts_without_data_are_left_out(open_page, make, names):
    opened = open_page(make())
    assert opened.complaints == []
    assert set(drawn_charts(opened.page)) == {f"chart-{name}" for name in names}


def test_a_page_without_candidates_opens(open_page):
    rec = dataclasses.replace(
        simulated(), best=None, runner_up=None, candidates=(), estimates=(), traces={}, draft_curves={}, trials=(),
        answers=(), verdict="do-not-speculate",
    )  # fmt: skip
    opened = open_page(rec)
    assert opened.complaints == []
    assert drawn_charts(opened.page) == {}


def data_of(chart: str) -> str:
    return f"JSON.parse(document.getElementById('report-data').textContent).charts['{chart}']"


def hover(page: Page, chart: str, value: list[float], series: int = 0) -> str:
    """Move the mouse to a point of a series; the text of the tooltip."""
    page.locator(f"#chart-{chart}").scroll_into_view_if_needed()
    inside = page.evaluate(
        "([name, value, series]) => window.reportCharts.get(name).convertToPixel({seriesIndex: series}, value)",
        [chart, value, series],
    )
    box = page.locator(f"#chart-{chart}").bounding_box()
    page.mouse.move(box["x"] + inside[0] - 30, box["y"] + inside[1])
    page.mouse.move(box["x"] + inside[0], box["y"] + inside[1], steps=4)
    tip = page.locator(f"#chart-{chart} .tip")
    tip.wait_for(state="visible", timeout=5000)
    return tip.inner_text()
