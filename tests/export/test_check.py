"""The exported command, started: a script that counts as llama-server does, and the real server on real models."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest

from advisor.engines.find_server import PACKAGED, Program
from advisor.engines.llama_server import completion
from advisor.engines.server_process import Deadlines, Server
from advisor.errors import EngineRefusal, FileProblem, OptionError
from advisor.exporters.check import check, prompts_for
from advisor.exporters.llama_server import command
from advisor.gguf import read_model
from advisor.testing.builders import make_candidate, make_estimate, make_measurement, make_recommendation
from advisor.testing.saved import none, with_paths
from advisor.testing.zoo import Recipe, build
from advisor.types import Baseline, Build, Message, Prompt, Recommendation, Sampling, Settings
from tests.engines.fake_llama_server import script

pytestmark = pytest.mark.alone

PROMPTS = tuple(Prompt((Message("user", text),), "code") for text in ("List the planets.", "Count to ten."))
PATIENT = Deadlines(start_s=60, answer_s=120, death_s=0.5)
FAKE_TPS, FAKE_ACCEPTANCE = 39 / 0.4, 28 / 40


def fake(folder: Path, mode: str = "") -> Program:
    return Program((sys.executable, str(script(folder, "b11434", mode))), "fake")


def saved(
    folder: Path, baseline_tps: float = FAKE_TPS / 1.42, acceptance_rate: float = FAKE_ACCEPTANCE
) -> Recommendation:
    """Of models that are there, whose best does without p_min."""
    rec = with_paths(make_recommendation(), str(folder / "it's $target.gguf"), str(folder / "draft.gguf"))
    for model in (rec.target, rec.candidates[0].draft):
        Path(model.path).touch()
    best = make_estimate(
        rec.candidates[0].draft,
        1.42,
        4,
        acceptance_rate=acceptance_rate,
        speedup_by_category={},
        acceptance_by_category={},
    )
    baseline = Baseline(baseline_tps, 1 / baseline_tps, "measured")
    return dataclasses.replace(rec, best=best, baseline=baseline, settings=Settings(max_tokens=40))


def test_a_server_that_is_as_fast_as_was_said_is_inside(tmp_path: Path) -> None:
    checked = check(saved(tmp_path), fake(tmp_path), PROMPTS, PATIENT)
    assert checked.inside
    assert checked.tokens_per_second == pytest.approx(FAKE_TPS)
    assert checked.acceptance == pytest.approx(FAKE_ACCEPTANCE)
    assert len(checked.runs) == 2
    assert checked.build.llama_cpp_build == 11434


@pytest.mark.parametrize(("baseline_tps", "place"), [(FAKE_TPS * 1.3, "below"), (FAKE_TPS / 3, "above")])
def test_one_that_is_slower_or_faster_is_outside(tmp_path: Path, baseline_tps: float, place: str) -> None:
    checked = check(saved(tmp_path, baseline_tps), fake(tmp_path), PROMPTS, PATIENT)
    assert (checked.inside, checked.speed_place, checked.acceptance_place) == (False, place, "inside")


@pytest.mark.parametrize(("acceptance_rate", "place"), [(0.97, "below"), (0.4, "above")])
def test_one_that_accepts_less_or_more_is_outside_at_whatever_speed(
    tmp_path: Path, acceptance_rate: float, place: str
) -> None:
    checked = check(saved(tmp_path, acceptance_rate=acceptance_rate), fake(tmp_path), PROMPTS, PATIENT)
    assert (checked.inside, checked.speed_place, checked.acceptance_place) == (False, "inside", place)


def test_one_that_is_slower_than_the_target_alone_is_outside_though_it_is_as_was_said(tmp_path: Path) -> None:
    checked = check(saved(tmp_path, FAKE_TPS / 2 / 1.42), fake(tmp_path, "drags"), PROMPTS, PATIENT)
    assert (checked.speed_place, checked.acceptance_place) == ("inside", "inside")
    assert checked.speedup == pytest.approx(0.5)
    assert not checked.inside


def test_what_is_not_judged_is_not_held_against_it(tmp_path: Path) -> None:
    rec = saved(tmp_path)
    rates = dict(zip("abcd", (0.0, 1.0, 0.0, 1.0), strict=True))
    best = dataclasses.replace(rec.best, acceptance_by_category=rates, speedup_by_category=dict.fromkeys("abcd", 1.42))
    checked = check(dataclasses.replace(rec, best=best), fake(tmp_path), PROMPTS, PATIENT)
    assert (checked.acceptance_place, checked.speed_place, checked.inside) == (None, "inside", True)


def test_another_build_than_was_measured_is_known(tmp_path: Path) -> None:
    rec = saved(tmp_path)
    checked = check(rec, fake(tmp_path), PROMPTS, PATIENT)
    assert checked.other_build == rec.build
    same = dataclasses.replace(rec, build=Build("llama-server", "b11434", 11434, "another digest"))
    assert check(same, fake(tmp_path), PROMPTS, PATIENT).other_build is None
    predicted = dataclasses.replace(rec, baseline=dataclasses.replace(rec.baseline, evidence="prior"))
    assert check(predicted, fake(tmp_path), PROMPTS, PATIENT).other_build is None


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


# -- the real server ---------------------------------------------------------------------------------------------------

TOKENS = 48


def real(**changes: Any) -> Recommendation:
    """Of a pair that is here, for the real server: nothing is said yet of how well it does."""
    target, draft = read_model(build(Recipe(30, "F16"))), read_model(build(Recipe(29, "Q8_0")))
    rec = make_recommendation(
        target=target,
        candidates=(make_candidate(draft, target),),
        settings=Settings(context=512, threads=1, max_tokens=TOKENS),
        measurement=make_measurement(repack_off=True),
        categories=("code",),
    )
    best = make_estimate(draft, 1.5, 4, speedup_by_category={}, acceptance_by_category={}, **changes)
    return dataclasses.replace(rec, estimates=(best,), best=best)


@pytest.fixture(scope="module")
def truth() -> tuple[float, float]:
    """(acceptance, tok/s) of the pair on two prompts, by a command that is written out here."""
    rec = real()
    argv = ["-m", rec.target.path, "-md", rec.candidates[0].draft.path, "-c", "512", "-np", "1", "-t", "1"]
    argv += ["--no-repack", "--spec-type", "draft-simple", "--spec-draft-n-max", "4"]
    server = Server.start(PACKAGED, argv, Deadlines(), load_s=60.0)
    try:
        timings = [asked(server, prompt)["timings"] for prompt in PROMPTS]
    finally:
        server.stop()
    acceptance = sum(one["draft_n_accepted"] for one in timings) / sum(one["draft_n"] for one in timings)
    decode_s = sum(one["predicted_ms"] for one in timings) / 1e3
    return acceptance, sum(one["predicted_n"] - 1 for one in timings) / decode_s


def asked(server: Server, prompt: Prompt) -> dict[str, Any]:
    chat = [{"role": message.role, "content": message.content} for message in prompt.messages]
    text = server.post("/apply-template", {"messages": chat})["prompt"]
    return server.post("/completion", completion(text, Sampling(), TOKENS))


def as_fast_as(rec: Recommendation, tokens_per_second: float) -> Recommendation:
    baseline_tps = tokens_per_second / rec.best.speedup
    return dataclasses.replace(rec, baseline=Baseline(baseline_tps, 1 / baseline_tps, "measured"))


def test_the_real_server_does_as_was_recommended(truth: tuple[float, float]) -> None:
    """Speeds of this machine change by themselves, so the interval of the speed is wide: a factor of about 2."""
    acceptance, speed = truth
    rec = as_fast_as(real(acceptance_rate=acceptance, speedup_low=1.5 / 1.6, speedup_high=1.5 * 1.6), speed)
    checked = check(rec, Program(PACKAGED, "packaged"), PROMPTS)
    assert checked.acceptance_place == "inside", f"{checked.acceptance} where {acceptance} was seen"
    assert checked.speed_place == "inside", f"{checked.tokens_per_second} where {speed} was seen"
    assert checked.acceptance == pytest.approx(acceptance, abs=0.1), "the same prompts, decoded greedily"
    assert checked.expected.acceptance.low > acceptance - 0.45
    assert all(run.drafted > 0 and run.tokens == TOKENS for run in checked.runs)


def test_the_real_server_is_not_as_fast_nor_as_good_as_was_made_up(truth: tuple[float, float]) -> None:
    acceptance, speed = truth
    rec = as_fast_as(real(acceptance_rate=max(0.02, acceptance - 0.5)), speed * 4)
    checked = check(rec, Program(PACKAGED, "packaged"), PROMPTS)
    assert (checked.acceptance_place, checked.speed_place) == ("above", "below")
    assert not checked.inside


def test_the_real_server_samples_as_was_asked_for_where_a_request_does_not_say() -> None:
    sampling = Sampling(temperature=0.6, top_p=0.9, top_k=20, min_p=0.1)
    rec = real()
    rec = dataclasses.replace(rec, settings=dataclasses.replace(rec.settings, sampling=sampling))
    server = Server.start(PACKAGED, command(rec)[1:], Deadlines(), load_s=60.0)
    try:
        used = server.post("/completion", {"prompt": "One", "n_predict": 1})["generation_settings"]
    finally:
        server.stop()
    found = [used[name] for name in ("temperature", "top_p", "top_k", "min_p")]
    assert found == pytest.approx([0.6, 0.9, 20, 0.1])
