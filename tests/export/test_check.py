"""The exported command, started: a script that counts as llama-server does, and the real server on real models."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from advisor.engines.find_server import PACKAGED, Program
from advisor.engines.server_process import Deadlines
from advisor.errors import EngineRefusal, FileProblem, OptionError
from advisor.exporters.check import Checked, check, prompts_for
from advisor.gguf import read_model
from advisor.testing.zoo import Recipe, build
from advisor.types import Baseline, Build, Message, Prompt, Recommendation, Run, Sampling, Settings
from tests.builders import make_candidate, make_estimate, make_measurement, make_recommendation
from tests.engines.fake_llama_server import script
from tests.export.saved import none, with_paths

PROMPTS = tuple(Prompt((Message("user", text),), "code") for text in ("List the planets.", "Count to ten."))
PATIENT = Deadlines(start_s=60, answer_s=120, death_s=0.5)
FAKE_TPS = 39 / 0.4


def fake(folder: Path, mode: str = "") -> Program:
    return Program((sys.executable, str(script(folder, "b11434", mode))), "fake")


def saved(folder: Path, baseline_tps: float = FAKE_TPS / 1.42) -> Recommendation:
    """Of models that are there, whose best does without p_min."""
    rec = with_paths(make_recommendation(), str(folder / "it's $target.gguf"), str(folder / "draft.gguf"))
    for model in (rec.target, rec.candidates[0].draft):
        Path(model.path).touch()
    best = make_estimate(rec.candidates[0].draft, 1.42, 4, speedup_by_category={}, acceptance_by_category={})
    baseline = Baseline(baseline_tps, 1 / baseline_tps, "measured")
    return dataclasses.replace(rec, best=best, baseline=baseline, settings=Settings(max_tokens=40))


def test_a_server_that_is_as_fast_as_was_said_is_inside(tmp_path: Path) -> None:
    checked = check(saved(tmp_path), fake(tmp_path), PROMPTS, PATIENT)
    assert checked.inside
    assert checked.tokens_per_second == pytest.approx(FAKE_TPS)
    assert len(checked.runs) == 2
    assert 0 < checked.acceptance < 1
    assert checked.recommended_acceptance == 0.7
    assert checked.build.llama_cpp_build == 11434


@pytest.mark.parametrize("baseline_tps", [FAKE_TPS, FAKE_TPS / 3])
def test_one_that_is_slower_or_faster_is_outside(tmp_path: Path, baseline_tps: float) -> None:
    assert not check(saved(tmp_path, baseline_tps), fake(tmp_path), PROMPTS, PATIENT).inside


@pytest.mark.parametrize("mode", ["silent", "dropped"])
def test_one_that_does_not_speculate_is_an_error(tmp_path: Path, mode: str) -> None:
    with pytest.raises(EngineRefusal, match="without speculating"):
        check(saved(tmp_path), fake(tmp_path, mode), PROMPTS, PATIENT)


def test_a_draft_that_p_min_may_empty_must_still_have_drafted_something(tmp_path: Path) -> None:
    rec = saved(tmp_path)
    best = dataclasses.replace(rec.best, config=dataclasses.replace(rec.best.config, p_min=0.5))
    with pytest.raises(EngineRefusal, match="no token was drafted"):
        check(dataclasses.replace(rec, best=best), fake(tmp_path, "silent"), PROMPTS, PATIENT)


def test_there_is_nothing_to_check_where_nothing_speculates_or_nothing_is_there(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="nothing to check"):
        check(none(), fake(tmp_path), PROMPTS, PATIENT)
    with pytest.raises(FileProblem, match="does not exist"):
        check(make_recommendation(), fake(tmp_path), PROMPTS, PATIENT)
    rec = saved(tmp_path)
    with pytest.raises(OptionError, match="not on this machine"):
        check(dataclasses.replace(rec, target=dataclasses.replace(rec.target, path="")), fake(tmp_path), (), PATIENT)
    assert not (tmp_path / "pids").exists(), "no server was started"


def test_the_prompts_are_of_what_was_measured_and_of_two_kinds() -> None:
    rec = dataclasses.replace(make_recommendation(), categories=("math", "chat"))
    kinds = ("code", "math", "math", "chat", "chat")
    prompts = [Prompt((Message("user", str(number)),), kind) for number, kind in enumerate(kinds)]
    assert prompts_for(rec, prompts) == (prompts[1], prompts[3])
    assert prompts_for(dataclasses.replace(rec, categories=("math",)), prompts) == (prompts[1], prompts[2])
    assert prompts_for(dataclasses.replace(rec, categories=("other",)), prompts) == (prompts[0], prompts[1])


def test_the_interval_is_that_of_the_kinds_of_text_that_were_asked() -> None:
    best = make_estimate("draft", 1.5, speedup_by_category={"code": 2.0, "chat": 1.0})
    run = Run(tokens=11, decode_s=1.0, prefill_s=0.1, drafted=8, accepted=4)

    def interval(*kinds: str) -> tuple[float, float]:
        prompts = tuple(Prompt((), kind) for kind in kinds)
        checked = Checked(Build("llama-server", "b1"), prompts, (run,) * len(kinds), best, 10.0)
        return checked.interval_tps

    assert interval("code", "code") == pytest.approx((2.0 * 0.96 * 10, 2.0 * 1.04 * 10))
    assert interval("code", "chat") == pytest.approx((4 / 3 * 0.96 * 10, 4 / 3 * 1.04 * 10))
    assert interval("code", "other") == pytest.approx((1.5 * 0.96 * 10, 1.5 * 1.04 * 10))


def test_the_real_server_speculates_as_it_was_exported() -> None:
    target, draft = read_model(build(Recipe(30, "F16"))), read_model(build(Recipe(29, "Q8_0")))
    estimate = make_estimate(draft, 1.5, 4, speedup_low=1e-3, speedup_high=1e6, speedup_by_category={})
    rec = make_recommendation(
        target=target,
        candidates=(make_candidate(draft, target),),
        estimates=(estimate,),
        best=estimate,
        settings=Settings(context=512, threads=1, max_tokens=24, sampling=Sampling()),
        measurement=make_measurement(repack_off=True),
    )
    checked = check(rec, Program(PACKAGED, "packaged"), PROMPTS)
    assert checked.inside
    assert 0 < checked.acceptance <= 1
    assert all(run.drafted > 0 and run.tokens == 24 for run in checked.runs)
