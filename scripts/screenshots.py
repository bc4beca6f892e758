"""Make the screenshots of the README from a saved recommendation.

    make screenshots                                         from the last recommendation; make demo makes one
    python scripts/screenshots.py RECOMMENDATION.json

Writes docs/images/explain-page.png and docs/images/explain-terminal.png.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from itertools import takewhile
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.text import Text

from advisor.reasons import explain
from advisor.reasons.records import Explanation
from advisor.report import explain_page, explain_terminal, json_document
from advisor.store import load_last
from advisor.testing.chromium import launch

IMAGES = Path(__file__).parent.parent / "docs" / "images"
WIDTH, HEIGHT, MARGIN_PX = 1000, 1500, 16
LAST_SECTION = "lengths"
CUT_BEFORE = "By position"  # the rest of the terminal's report goes on in the same way


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path)
    file = parser.parse_args().file
    rec = json_document.load(file.read_bytes()) if file else load_last()
    explanation = explain(rec)
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = launch(playwright)
        context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light", offline=True)
        page = context.new_page()
        report, terminal = Path(folder) / "report.html", Path(folder) / "terminal.svg"
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
        save_terminal(explanation, terminal)
        frame = Path(folder) / "terminal.html"
        frame.write_text(f'<img src="{terminal.name}" width="{WIDTH - 20}">', encoding="utf-8")
        page.goto(frame.as_uri())
        page.locator("img").screenshot(path=IMAGES / "explain-terminal.png")
        browser.close()


def save_terminal(explanation: Explanation, image: Path) -> None:
    """The top of the report, in colour, as SVG. It asks the network for its font and does without."""
    whole = io.StringIO()
    explain_terminal.render(explanation, console=_console(whole))
    top = list(takewhile(lambda line: CUT_BEFORE not in line, whole.getvalue().splitlines()))
    recorder = _console(io.StringIO(), record=True)
    recorder.print(Text.from_ansi("\n".join(top).rstrip()))
    recorder.save_svg(str(image), title="advisor explain")


def _console(stream: io.StringIO, *, record: bool = False) -> Console:
    return Console(
        file=stream, width=100, force_terminal=True, color_system="truecolor", highlight=False, record=record
    )


if __name__ == "__main__":
    main()
