"""Make the screenshots of the README from a saved recommendation.

    make screenshots                                         from the last recommendation; make demo makes one
    python scripts/screenshots.py RECOMMENDATION.json

Writes docs/images/explain-page.png, explain-terminal.png and recommend-terminal.png. Folders of models are shown as
/models, whatever they are.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from dataclasses import replace
from itertools import takewhile
from pathlib import Path, PurePath

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.text import Text

import advisor
from advisor.exporters import llama_server
from advisor.reasons.records import Explanation
from advisor.report import explain_page, explain_terminal, terminal
from advisor.testing.chromium import launch
from advisor.types import Model, Recommendation

IMAGES = Path(__file__).parent.parent / "docs" / "images"
WIDTH, HEIGHT, MARGIN_PX = 1000, 1500, 16
LAST_SECTION = "lengths"
LEFT_OUT_BETWEEN = ("By category", "Verdict")
CUT_BEFORE = "By position"  # the rest of the terminal's report goes on in the same way


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path)
    rec = advisor.load(parser.parse_args().file)
    explanation = advisor.explain(rec)
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = launch(playwright)
        context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light", offline=True)
        page = context.new_page()
        report, svg = Path(folder) / "report.html", Path(folder) / "terminal.svg"
        report.write_text(explain_page.page(rec, explanation), encoding="utf-8")
        page.goto(report.as_uri())
        page.wait_for_function("document.documentElement.dataset.drawn !== undefined")
        last = page.locator(f"#{LAST_SECTION}").bounding_box()
        assert last is not None
        height = last["y"] + last["height"] + MARGIN_PX
        page.screenshot(
            path=IMAGES / "explain-page.png",
            full_page=True,
            clip={"x": 0, "y": 0, "width": WIDTH, "height": height},
        )
        for name, lines in {
            "explain": top_of_explain(explanation),
            "recommend": short_recommend(in_models_folder(rec)),
        }.items():
            save_terminal(lines, f"advisor {name}", svg)
            frame = Path(folder) / "terminal.html"
            frame.write_text(f'<img src="{svg.name}" width="{WIDTH - 20}">', encoding="utf-8")
            page.goto(frame.as_uri())
            page.locator("img").screenshot(path=IMAGES / f"{name}-terminal.png")
        browser.close()


def top_of_explain(explanation: Explanation) -> list[str]:
    whole = io.StringIO()
    explain_terminal.render(explanation, console=_console(whole))
    return list(takewhile(lambda line: CUT_BEFORE not in line, whole.getvalue().splitlines()))


def short_recommend(rec: Recommendation) -> list[str]:
    """Without what stands between the candidates and the verdict."""
    whole = io.StringIO()
    command = llama_server.shell(llama_server.command(rec))
    terminal.render(rec, console=_console(whole), command=command)
    lines = whole.getvalue().splitlines()
    candidates, verdict = (next(i for i, line in enumerate(lines) if word in line) for word in LEFT_OUT_BETWEEN)
    return [*lines[:candidates], "...", "", *lines[verdict:]]


def in_models_folder(rec: Recommendation) -> Recommendation:
    def moved(model: Model) -> Model:
        return replace(model, path=f"/models/{PurePath(model.path).name}")

    candidates = tuple(replace(one, draft=moved(one.draft)) for one in rec.candidates)
    return replace(rec, target=moved(rec.target), candidates=candidates)


def save_terminal(lines: list[str], title: str, image: Path) -> None:
    """Lines of a report, in colour, as SVG. It asks the network for its font and does without."""
    recorder = _console(io.StringIO(), record=True)
    recorder.print(Text.from_ansi("\n".join(lines).rstrip()))
    recorder.save_svg(str(image), title=title)


def _console(stream: io.StringIO, *, record: bool = False) -> Console:
    return Console(
        file=stream, width=100, force_terminal=True, color_system="truecolor", highlight=False, record=record
    )


if __name__ == "__main__":
    main()
