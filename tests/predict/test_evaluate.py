"""The judge of the priors: on tables made from the model itself its figures must be good, on spoilt ones bad."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.catalog.load import Catalog, load
from advisor.cost.step_law import OLD
from advisor.predict import imported
from advisor.predict.belief import Posterior
from advisor.predict.evaluate import (
    Predicted,
    by_table,
    by_target,
    cross_validate,
    gather,
    left_out,
    main,
    pooled,
    score,
    summary,
    tables_nearby,
)
from advisor.predict.evidence import Evidence
from advisor.predict.prior import Design
from advisor.predict.reading import read_text

DRAFTS = ("0.5B Q8_0", "0.5B Q4_K_M", "1.5B Q8_0", "1.5B Q4_K_M", "3B Q8_0", "3B Q4_K_M")
TARGETS = {"small": ("7B Q8_0", "7B Q4_K_M"), "large": ("32B Q8_0", "32B Q4_K_M")}
NOISE = 0.01


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load()


def table(
    name: str, targets: tuple[str, ...], measured: dict[tuple[str, str], tuple[float, float]] | None = None
) -> dict[str, Any]:
    """A draftbench table of (speedup, acceptance rate); without them all drafts double the speed."""
    rows: list[dict[str, Any]] = []
    for target in targets:
        base = 400 / (7.6 if target.startswith("7B") else 32.8)
        rows.append({"target": target, "draft": None, "mean_tps": base, "acceptance_rate": None})
        for draft in DRAFTS:
            speedup, rate = (2.0, 0.6) if measured is None else measured[target, draft]
            rows.append({"target": target, "draft": draft, "mean_tps": base * speedup, "acceptance_rate": rate})
    return {
        "timestamp": "2026-02-06",
        "name": name,
        "hardware": "m4max-128gb",
        "model_family": "Qwen2.5",
        "settings": {},
        "results": rows,
    }


def truth(catalog: Catalog) -> dict[tuple[str, str], tuple[float, float]]:
    """What the model itself says with its assumed coefficients, plus noise."""
    evidence = _evidence({name: table(name, targets) for name, targets in TARGETS.items()}, catalog)
    cases = [dataclasses.replace(pair.case, text="", baseline_s=None) for pair in evidence.pairs]
    design = Design(cases, OLD)
    values = Posterior((), np.zeros(0), np.zeros((0, 0)), 0.0).over(design.names).mean
    steps = design.steps(values, (16,), 0.75)
    log_speedup = design.log_speedup(values, steps)[:, 0]
    noise = np.random.default_rng(7).normal(0, NOISE, len(cases))
    keys = [(pair.target.removeprefix("Qwen2.5 "), pair.draft) for pair in evidence.pairs]
    speedups, rates = np.exp(log_speedup + noise).tolist(), steps.acceptance_rate[:, 0].tolist()
    return dict(zip(keys, zip(speedups, rates, strict=True), strict=True))


def _evidence(tables: dict[str, dict[str, Any]], catalog: Catalog) -> Evidence:
    return sum((read_text(Path(f"{n}.json"), json.dumps(t), catalog) for n, t in tables.items()), Evidence())


@pytest.fixture(scope="module")
def tables(catalog: Catalog) -> dict[str, dict[str, Any]]:
    measured = truth(catalog)
    return {name: table(name, targets, measured) for name, targets in TARGETS.items()}


@pytest.fixture(scope="module")
def evidence(tables: dict[str, dict[str, Any]], catalog: Catalog) -> Evidence:
    return _evidence(tables, catalog)


@pytest.fixture(scope="module")
def predictions(evidence: Evidence) -> list[Predicted]:
    return cross_validate(evidence, by_target, jobs=1, told=lambda _line: None)


def test_a_world_that_is_as_the_model_says_is_predicted_well(predictions: list[Predicted]) -> None:
    groups = [[p for p in predictions if p.pair.target == t] for t in {p.pair.target for p in predictions}]
    found = pooled(predictions, [score(group) for group in groups])
    assert found.pairs == 24
    assert found.mape < 0.12
    assert found.spearman > 0.9
    assert found.regret_low < 0.05
    assert found.cover > 0.7


def test_the_left_out_target_is_left_out_whole(evidence: Evidence) -> None:
    rest, held = left_out(evidence, by_target, "Qwen2.5 7B Q8_0")
    assert len(held) == 6
    assert {pair.target for pair in held} == {"Qwen2.5 7B Q8_0"}
    assert not any(pair.target == "Qwen2.5 7B Q8_0" for pair in rest.pairs)
    assert len(rest.decodes) == len(evidence.decodes) - 1
    gone = set(evidence.decodes) - set(rest.decodes)
    assert {round(1 / row.token_s, 3) for row in gone} == {round(400 / 7.6, 3)}


def test_a_target_in_two_tables_is_left_out_of_both(evidence: Evidence, tables: Any, catalog: Catalog) -> None:
    twice = evidence + _evidence({"again": tables["small"]}, catalog)
    rest, held = left_out(twice, by_target, "Qwen2.5 7B Q8_0")
    assert len(held) == 12
    assert len(rest.decodes) == len(twice.decodes) - 2
    rest, held = left_out(twice, by_table, "again")
    assert {pair.table for pair in held} == {"again"}
    assert {pair.table for pair in rest.pairs} == {"large"}


def test_nothing_about_the_target_itself_reaches_the_prediction(
    evidence: Evidence, tables: dict[str, dict[str, Any]], catalog: Catalog, predictions: list[Predicted]
) -> None:
    """Other speeds of one target change its score, not what is predicted for it."""
    spoilt = json.loads(json.dumps(tables))
    for row in spoilt["small"]["results"]:
        if row["target"] == "7B Q8_0":
            row["mean_tps"] *= 1.4 if row["draft"] is None else 0.6
    again = cross_validate(_evidence(spoilt, catalog), by_target, jobs=1, told=lambda _line: None)

    def of(found: list[Predicted]) -> dict[str, float]:
        return {p.pair.draft: p.speedup for p in found if p.pair.target == "Qwen2.5 7B Q8_0"}

    assert of(again) == pytest.approx(of(predictions), rel=1e-6)


def made(measured: list[float], predicted: list[float], log_sd: float, evidence: Evidence) -> list[Predicted]:
    pair = evidence.pairs[0]
    return [
        Predicted(dataclasses.replace(pair, speedup=m), p, log_sd) for m, p in zip(measured, predicted, strict=True)
    ]


def test_figures_by_hand(evidence: Evidence) -> None:
    found = score(made([2.0, 1.0, 0.8, 1.6], [2.2, 1.1, 0.9, 2.4], 0.1, evidence))
    assert found.mape == pytest.approx((0.1 + 0.1 + 0.125 + 0.5) / 4)
    assert found.bias == pytest.approx(np.mean(np.log([1.1, 1.1, 1.125, 1.5])))
    assert found.spearman == pytest.approx(0.8)
    assert found.regret_mean == pytest.approx(1 - 1.6 / 2.0)
    assert found.sign == pytest.approx(0.75)  # measured exactly 1.0 does not help
    assert found.cover == pytest.approx(0.75)


def test_the_pick_by_the_lower_end_can_be_another(evidence: Evidence) -> None:
    safe, risky = made([1.5, 1.0], [1.4, 1.6], 0.01, evidence)
    risky = dataclasses.replace(risky, log_sd=0.5)
    found = score([safe, risky])
    assert found.regret_low == 0
    assert found.regret_mean == pytest.approx(1 / 3)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.3, 3), min_size=3, max_size=12, unique=True))
def test_a_perfect_prediction_has_perfect_figures(evidence_speedups: list[float]) -> None:
    evidence = _evidence({"small": table("small", TARGETS["small"])}, load())
    found = score(made(evidence_speedups, evidence_speedups, 0.05, evidence))
    assert (found.bias, found.mape, found.regret_low, found.regret_mean) == pytest.approx((0, 0, 0, 0))
    assert (found.spearman, found.sign, found.cover) == pytest.approx((1, 1, 1))


def test_too_few_drafts_have_no_correlation(evidence: Evidence) -> None:
    assert np.isnan(score(made([1.0, 2.0], [1.0, 2.0], 0.1, evidence)).spearman)
    assert np.isnan(score(made([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], 0.1, evidence)).spearman)


def test_goals_are_beside_the_figures_and_misses_are_named(evidence: Evidence) -> None:
    good = "\n".join(summary("good", made([1.1, 1.5, 2.0], [1.1, 1.5, 2.0], 0.1, evidence)))
    assert "<= 12 %" in good
    assert ">= 0.90" in good
    assert "missed: cover" in good  # intervals that hold everything are too wide
    bad = "\n".join(summary("bad", made([1.1, 1.5, 2.0], [2.0, 1.5, 0.9], 0.01, evidence)))
    assert "missed: MAPE, Spearman, regret, sign, cover" in bad


def laid_out(root: Path, tables: dict[str, dict[str, Any]]) -> list[Path]:
    folder = root / "shared" / "data" / "draftbench"
    folder.mkdir(parents=True)
    for name, content in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "package.json").write_text("{}", encoding="utf-8")
    (folder.parent / "verify_cost.csv").write_text("device,backend,model,quant,n_rows,ratio_to_1,source\n")
    (folder.parent / "other.csv").write_text("a\n")
    return sorted(folder.glob("[sl]*.json"))


def test_tables_nearby_are_found_with_the_costs_beside_them(tmp_path: Path, tables: Any) -> None:
    laid_out(tmp_path, tables)
    (tmp_path / "project").mkdir()
    for start in (tmp_path, tmp_path / "project"):
        assert sorted(path.name for path in tables_nearby(start)) == ["large.json", "small.json", "verify_cost.csv"]
    deep = tmp_path / "project" / "too" / "deep"
    deep.mkdir(parents=True)
    assert tables_nearby(deep) == []


def test_named_files_come_before_imported_ones_and_these_before_the_neighbourhood(
    tmp_path: Path, tables: dict[str, dict[str, Any]], catalog: Catalog
) -> None:
    small = next(path for path in laid_out(tmp_path, tables) if path.stem == "small")
    data = tmp_path / "data"

    def pairs(*files: Path) -> set[str]:
        return {pair.table for pair in gather(files, catalog, data_dir=data, start=tmp_path).pairs}

    (small.parent.parent / "verify_cost.csv").unlink()
    assert pairs() == {"small", "large"}
    imported.keep(imported.Imported("mine.json", json.dumps(tables["large"])), data)
    assert pairs() == {"mine"}
    assert pairs(small) == {"small"}


def test_the_whole_command(
    tmp_path: Path, tables: dict[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    files = [path for path in laid_out(tmp_path, tables) if path.stem == "small"]
    out = io.StringIO()
    assert main([*map(str, files), "--jobs", "1"], out=out) == 0
    text = out.getvalue()
    assert "read draftbench (MIT), small.json: 12 pairs" in text
    assert "Qwen2.5 7B Q4_K_M" in text
    assert "each table left out: there is only one" in text
    assert "2 of 2: left out Qwen2.5 7B Q8_0" in capsys.readouterr().err


def test_the_priors_in_use_as_they_are(tmp_path: Path, tables: dict[str, dict[str, Any]]) -> None:
    out = io.StringIO()
    assert main([*map(str, laid_out(tmp_path, tables)), "--no-refit"], out=out) == 0
    assert "the priors in use" in out.getvalue()
    assert "24" in out.getvalue()


def test_without_any_table_it_says_what_to_do(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "advisor.predict.evaluate"]
    lonely = tmp_path / "a" / "b" / "c" / "d"
    lonely.mkdir(parents=True)
    done = subprocess.run(command, cwd=lonely, capture_output=True, text=True, timeout=120, env=dict(os.environ))
    assert done.returncode == 2, done.stderr
    assert "Name draftbench results" in done.stderr
    assert done.stdout == ""
