"""A real Chromium for tests of the report and for its screenshots, driven by playwright."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.errors import FileProblem

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")


def launch(playwright: Playwright) -> Browser:
    """A headless browser. FileProblem where no Chromium is installed."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return playwright.chromium.launch(
        executable_path=find_chromium(playwright.chromium.executable_path),
        args=["--no-sandbox"] if is_root else [],  # Chromium refuses to run sandboxed as root
    )


def find_chromium(own: str) -> str:
    """$ADVISOR_CHROMIUM, one on the path, or ``own``, the one that playwright installs."""
    named = os.environ.get("ADVISOR_CHROMIUM")
    if named and not Path(named).is_file():
        raise FileProblem(f"ADVISOR_CHROMIUM names {named}, which is not a file.", fix="Correct it, or unset it.")
    found = named or next(filter(None, map(shutil.which, NAMES)), None)
    if found:
        return found
    if Path(own).is_file():
        return own
    raise FileProblem(
        "No Chromium was found.",
        why="The report is tested and photographed in a real one.",
        fix="Install one (Debian: apt-get install chromium; elsewhere: python -m playwright install chromium), or name "
        "it in ADVISOR_CHROMIUM.",
    )
