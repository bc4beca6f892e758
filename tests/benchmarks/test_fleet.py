"""The figures of a simulated fleet, in seconds: more workers change the time, never the result."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from advisor.testing.builders import make_host
from benchmarks import fleet, fleet_report, shared_search
from benchmarks.fleet import ROOT, Spread

DOCUMENT = ROOT / "docs" / "fleet.md"


def test_the_same_comes_out_of_one_worker_and_of_two():
    one, two = fleet.replays((1, 2), pairs=12, replay_s=0.01)
    assert one.digest == two.digest
    assert (one.tasks, two.workers) == (12, 2)
    first, second = fleet.prices((1, 2), pairs=40, hosts=3)
    assert first.digest == second.digest


def test_a_machine_prices_every_pair_as_it_does_alone():
    assert fleet.price_host(0, pairs=5) == fleet.price_host(0, pairs=5)
    assert len(fleet.price_host(1, pairs=5)) == 5
    assert fleet.price_host(0, pairs=5) != fleet.price_host(30, pairs=5)


def test_a_shared_search_runs_no_config_twice_and_picks_as_well():
    one, two = shared_search.measure((1, 2), pair_s=0.001)
    assert one.speedup > 1
    assert two.speedup >= 0.97 * one.speedup
    assert one.ran[0] >= 2
    assert sum(two.ran) >= 2


def test_figures_and_picture(tmp_path: Path):
    replays = [Spread(1, 100, 0.05, 5.5, "a"), Spread(2, 100, 0.05, 2.8, "a")]
    assert round(replays[1].efficiency, 2) == 0.89
    assert round(1000 * replays[1].handing_out_s) == 3
    searches = [shared_search.Shared(1, 8.0, (8,), 1.7)]
    text = "\n".join(fleet_report.lines(make_host(), replays, replays, searches))
    assert "costs 3.0 ms" in text
    assert "| 2 | 2.8 s | 35.7 | 89% |" in text
    assert "same, bit for bit" in text
    apart = [replays[0], Spread(2, 100, 0.05, 2.8, "b")]
    assert "NOT the same" in "\n".join(fleet_report.lines(make_host(), apart, replays, searches))
    fleet_report.picture(replays, replays, tmp_path / "fleet.svg")
    assert (tmp_path / "fleet.svg").read_text().startswith("<?xml")


def test_the_document_has_what_was_measured_and_nothing_beside_it_changes(tmp_path: Path):
    """Every table of docs/fleet.md stands where the command writes."""
    shown = DOCUMENT.read_text()
    begin, end = shown.index(fleet_report.BEGIN), shown.index(fleet_report.END)
    assert not re.search(r"^\|", shown[:begin] + shown[end:], re.MULTILINE)
    path = Path(shutil.copy(DOCUMENT, tmp_path))
    fleet_report.write(path, "new figures")
    assert path.read_text() == f"{shown[:begin]}{fleet_report.BEGIN}new figures\n{shown[end:]}"
    path.write_text("nothing")
    with pytest.raises(ValueError, match="no place"):
        fleet_report.write(path, "new figures")
