"""What every exporter writes for every kind of recommendation. UPDATE_GOLDEN=1 writes the files anew: read the diff."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from advisor.errors import OptionError
from advisor.exporters import EXPORTERS, exporter
from advisor.testing.saved import SAVED, deployed

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("consumer", [name for name in EXPORTERS if name != "json"])  # that one has a schema
@pytest.mark.parametrize("saved", SAVED)
def test_the_export_is_as_it_was_read_and_found_right(saved: str, consumer: str) -> None:
    path = GOLDEN / saved / f"{consumer}.txt"
    try:
        text = exporter(consumer).text(deployed(SAVED[saved]()))
    except OptionError as refusal:
        text = f"error: {refusal}\n"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    assert text == path.read_text(encoding="utf-8")
