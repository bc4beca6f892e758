"""The notebooks run from a clean kernel, and what is committed of them can be shown."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from scripts.notebooks import executed, notebooks

MOST_BYTES = 300_000
PLACES = re.compile(r"/(?:root|home|Users|tmp|work|var|opt|usr)/|[A-Z]:\\\\|site-packages")

pytestmark = [pytest.mark.alone, pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)]


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


@pytest.mark.filterwarnings("default")  # of the libraries that run a kernel
def test_it_runs_from_a_clean_kernel(path: Path, tmp_path: Path) -> None:
    notebook = executed(path, tmp_path)
    said = [output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [text for text in said if "Warning" in text]


def test_it_was_run_from_top_to_bottom_and_shows_pictures(path: Path) -> None:
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3


def test_it_is_light_and_says_nothing_of_the_machine(path: Path) -> None:
    assert path.stat().st_size < MOST_BYTES
    text = json.dumps([output for cell in code_cells(path) for output in cell["outputs"]])
    without_pictures = re.sub(r'"image/png": "[^"]*"', "", text)
    assert not PLACES.findall(without_pictures)
