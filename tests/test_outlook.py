"""What is foreseen for models that nobody has downloaded, from the shipped catalogue and the shipped priors."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from advisor import outlook
from advisor.catalog.load import Catalog, load
from advisor.catalog.names import host_named
from advisor.errors import NothingFits
from advisor.exporters.llama_server import command
from advisor.predict.belief import shipped
from advisor.predict.places import named_host
from advisor.predict.question import WITHDRAWN_QUANTS, Outlook, default_quant, named_target, usual_quants
from advisor.predict.reading import read_text
from advisor.ranking import TIE
from advisor.types import Build, Estimate, Recommendation, Settings

SCHEMA = Path(__file__).parent.parent / "advisor" / "schema" / "recommendation.schema.json"
QUICK = {"k": 16, "p_min": 0.75}  # one setting is priced, not all


@functools.cache
def catalog() -> Catalog:
    return load()


def outlook_of(target: str, host: str, build: int = 0, **asked: Any) -> Outlook:
    model, entry = named_target(target, catalog(), lambda note: None)
    host_entry, memory_gib = host_named(host, catalog())
    return Outlook(
        target=model,
        target_entry=entry,
        host=named_host(host_entry, memory_gib),
        host_entry=host_entry,
        build=Build("llama-server", f"b{build}" if build else "current", build),
        settings=asked.pop("settings", Settings()),
        **asked,
    )


@functools.cache
def foreseen(
    target: str = "qwen2.5-72b-q8", host: str = "m4-max-128gb", build: int = 0, **asked: Any
) -> Recommendation:
    return outlook.foresee(outlook_of(target, host, build, **asked), catalog(), shipped())


def by_draft(rec: Recommendation) -> dict[str, float]:
    return {rec.draft_of(one.config).label: one.speedup for one in rec.estimates}


def figures(one: Estimate) -> list[float]:
    return [one.speedup, one.speedup_low, one.speedup_high, one.acceptance_rate, one.tokens_per_step]


def width(rec: Recommendation) -> float:
    """The narrowest interval of the answer, as a ratio of its ends."""
    return min(one.speedup_high / one.speedup_low for one in rec.estimates)


# -- the answer ------------------------------------------------------------------------------------------------------


def test_everything_is_foreseen_and_nothing_measured() -> None:
    rec = foreseen()
    assert len(rec.estimates) > 20
    assert {one.evidence for one in rec.estimates} == {rec.baseline.evidence} == {"prior"}
    assert all(0 < one.speedup_low < one.speedup < one.speedup_high for one in rec.estimates)
    assert (rec.measurement.prompts, rec.trials, rec.traces) == (0, (), {})


def test_a_small_draft_of_the_family_is_worth_it() -> None:
    rec = foreseen()
    assert rec.verdict == "speculate"
    assert rec.best is not None
    assert rec.draft_of(rec.best.config).parameters < 8e9
    assert 1.5 < rec.best.speedup < 4


def test_rows_are_in_the_order_of_their_lower_ends_with_ties_by_memory() -> None:
    rec = foreseen()
    memory = {one.draft.content_hash: one.memory_bytes for one in rec.candidates}
    lows = [one.speedup_low for one in rec.estimates]
    floor = max(lows) * (1 - TIE)
    tied = sum(low >= floor for low in lows)
    leading = [memory[one.config.draft] for one in rec.estimates[:tied]]
    assert min(lows[:tied]) >= floor
    assert leading == sorted(leading)
    assert lows[tied:] == sorted(lows[tied:], reverse=True)


def test_drafts_are_those_with_the_tokens_of_the_target() -> None:
    rec = foreseen()
    names = {one.draft.name for one in rec.candidates}
    assert {"Qwen2.5-0.5B-Instruct", "Qwen2.5-1.5B-Instruct"} <= names
    assert not [name for name in names if re.search("Qwen3|R1-Distill|Llama|gemma", name)]
    assert all(one.draft.parameters < rec.target.parameters for one in rec.candidates)
    refused = {one.draft: one for one in rec.rejected if one.reason == "tokenizer"}
    assert "BOS" in refused["DeepSeek-R1-Distill-Qwen-1.5B"].detail


def test_no_file_is_offered_that_llama_cpp_no_longer_reads() -> None:
    assert not {one.draft.quant for one in foreseen().candidates} & WITHDRAWN_QUANTS


# -- memory ----------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_beside_the_target_is_told_with_numbers() -> None:
    large, small = foreseen("qwen2.5-72b-q4_0", **QUICK), foreseen("qwen2.5-72b-q4_0", "m4-max-64gb", **QUICK)
    short = [one for one in small.rejected if one.reason == "memory"]
    assert len(short) > sum(one.reason == "memory" for one in large.rejected)
    for one in short:
        assert re.search(r"needs [\d.]+ GiB .*weights.*KV.*margin.* GiB; [\d.]+ GiB are free", one.detail), one
    assert small.candidates


def test_a_target_that_does_not_fit_is_said_with_numbers() -> None:
    with pytest.raises(NothingFits) as caught:
        foreseen("qwen2.5-72b-q8", "m4-max-64gb")
    assert "Qwen2.5-72B-Instruct Q8_0" in caught.value.what
    assert re.search(r"needs 7\d\.\d GiB.*48\.0 GiB are free on metal", caught.value.why)
    assert "qwen2.5-72b-q4_0" in caught.value.fix
    assert "iogpu" not in caught.value.fix, "with all memory it would not fit either"


@pytest.mark.parametrize(
    ("target", "host", "context", "advised"),
    [
        ("qwen2.5-72b-q8", "m1-8gb", 4096, "No quantization of it fits at any context: take a smaller model."),
        ("qwen2.5-7b-q2_k", "m1-8gb", 131072, "No smaller quantization of it fits: take a shorter context or "),
        ("qwen2.5-7b-q8", "m1-8gb", 131072, "No smaller quantization of it fits: take qwen2.5-7b-"),
    ],
)
def test_only_what_can_make_a_named_target_fit_is_advised(target: str, host: str, context: int, advised: str) -> None:
    with pytest.raises(NothingFits) as caught:
        foreseen(target, host, settings=Settings(context=context))
    assert caught.value.fix.startswith(advised)
    assert "--host" not in caught.value.fix


def test_a_target_that_does_not_fit_here_is_told_of_other_machines() -> None:
    asked = dataclasses.replace(outlook_of("qwen2.5-72b-q8", "m1-8gb"), host_entry=None)
    with pytest.raises(NothingFits, match="--host NAME predicts for another machine"):
        outlook.foresee(asked, catalog(), shipped())


def test_a_card_that_is_too_small_takes_some_layers() -> None:
    rec = foreseen("llama-3.3-70b-q4_k_m", "rtx-4090", **QUICK)
    for one in rec.candidates:
        assert 0 < one.placement.target_gpu_layers < rec.target.layers
    whole = foreseen("llama-3.3-70b-q4_k_m", **QUICK)
    assert rec.baseline.tokens_per_second < whole.baseline.tokens_per_second, "most of it is read from RAM"
    argv = command(rec)
    assert int(argv[argv.index("-ngl") + 1]) < rec.target.layers


# -- what is pinned --------------------------------------------------------------------------------------------------


def test_a_pinned_setting_is_kept() -> None:
    rec = foreseen(k=5, p_min=0.3)
    assert {(one.config.k, one.config.p_min) for one in rec.estimates} == {(5, 0.3)}


def test_a_chosen_setting_is_no_worse_than_a_pinned_one() -> None:
    free, pinned = by_draft(foreseen()), by_draft(foreseen(**QUICK))
    assert free.keys() == pinned.keys()
    assert all(free[name] >= pinned[name] * (1 - 1e-9) for name in free)


def test_drafts_are_no_longer_than_the_longest_that_is_considered() -> None:
    rec = foreseen(settings=Settings(k_max=4), p_min=0.75)
    assert max(one.config.k for one in rec.estimates) <= 4


def test_a_baseline_anchors_tokens_per_second() -> None:
    rec = foreseen(baseline_tps=8.0, **QUICK)
    assert rec.baseline.tokens_per_second == pytest.approx(8.0)
    assert all(one.tokens_per_second == pytest.approx(8.0 * one.speedup) for one in rec.estimates)


# -- what else it says -----------------------------------------------------------------------------------------------


def test_every_file_has_one_row_and_the_best_models_other_lengths_beside_it() -> None:
    rec = foreseen()
    assert len({one.config.draft for one in rec.estimates}) == len(rec.estimates)
    beside = [one.estimate for one in rec.what_if if one.settings == rec.settings]
    names = {rec.draft_of(one.config).name for one in beside}
    assert len(names) == outlook.MODELS_AT_EVERY_LENGTH
    best = rec.estimates[0]
    own = [one for one in beside if one.config.draft == best.config.draft]
    assert len({one.config.k for one in own}) == len(own) > 5
    assert {one.config.p_min for one in own} == {best.config.p_min}
    assert best.config.k not in {one.config.k for one in own}
    assert all(one.speedup <= best.speedup * (1 + 1e-9) for one in own)


def test_a_length_asked_for_alone_is_what_it_is_beside_the_others() -> None:
    rec = foreseen()
    beside = next(one.estimate for one in rec.what_if if one.estimate.config.k == 4)
    alone = foreseen(k=4, p_min=beside.config.p_min)
    same = next(one for one in alone.estimates if one.config == beside.config)
    assert figures(beside) == pytest.approx(figures(same))


def test_a_pinned_length_has_no_other_beside_it() -> None:
    assert not [one for one in foreseen(**QUICK).what_if if one.settings == Settings()]


def test_another_temperature_is_what_asking_for_it_gives() -> None:
    rec = foreseen(**QUICK)
    warm = next(one for one in rec.what_if if one.settings.sampling.temperature > 0)
    asked = foreseen(settings=warm.settings, **QUICK)
    same = next(one for one in asked.estimates if one.config == warm.estimate.config)
    assert figures(warm.estimate) == pytest.approx(figures(same))


def test_half_the_context_puts_more_of_a_large_target_on_the_card() -> None:
    settings = Settings(context=32768)
    rec = foreseen("llama-3.3-70b-q4_k_m", "rtx-4090", settings=settings, **QUICK)
    (half,) = (one for one in rec.what_if if one.settings.context == settings.context // 2)
    assert half.estimate.config == rec.estimates[0].config
    assert half.estimate.tokens_per_second > rec.estimates[0].tokens_per_second


# -- how good, and how sure ------------------------------------------------------------------------------------------


def test_chat_is_sped_up_less_than_code() -> None:
    code, chat = by_draft(foreseen(**QUICK)), by_draft(foreseen(categories=("chat",), **QUICK))
    assert all(chat[name] < code[name] for name in code)
    both = by_draft(foreseen(categories=("code", "chat"), **QUICK))
    assert all(chat[name] < both[name] < code[name] for name in code)


def test_sampling_is_sped_up_less_than_greedy() -> None:
    hot = Settings(sampling=dataclasses.replace(Settings().sampling, temperature=1.0))
    cold, warm = by_draft(foreseen(**QUICK)), by_draft(foreseen(settings=hot, **QUICK))
    assert all(warm[name] < cold[name] for name in cold)


def test_a_family_that_no_table_had_has_a_wider_interval() -> None:
    assert "skill/family/Granite" not in shipped().names
    unknown = foreseen("granite-3.3-8b-q8", **QUICK)
    assert width(unknown) > 1.05 * width(foreseen("qwen2.5-7b-q8", **QUICK))


def test_a_family_that_is_forgotten_is_less_certain() -> None:
    family = "skill/family/Qwen2.5"
    forgetful = shipped().over(name for name in shipped().names if name != family)
    asked = outlook_of("qwen2.5-72b-q8", "m4-max-128gb", **QUICK)
    assert width(outlook.foresee(asked, catalog(), forgetful)) > 1.02 * width(foreseen(**QUICK))


# -- how to run it ---------------------------------------------------------------------------------------------------


def test_the_command_is_in_the_words_of_the_build() -> None:
    old, new = command(foreseen(build=7900, **QUICK)), command(foreseen(**QUICK))
    assert old[old.index("--draft-max") + 1] == new[new.index("--spec-draft-n-max") + 1] == "16"
    assert "--spec-type" not in old
    assert new[new.index("--spec-type") + 1] == "draft-simple"
    for argv in (old, new):
        assert argv[argv.index("-hf") + 1].endswith(":Q8_0")
        assert "Qwen2.5" in argv[argv.index("-hfd") + 1]


def test_the_next_step_is_a_download_and_a_measurement() -> None:
    notes = " ".join(foreseen().measurement.notes)
    assert "advisor pull bartowski/Qwen2.5-72B-Instruct-GGUF:Q8_0" in notes
    assert "advisor recommend --target" in notes
    before = re.search(r"narrows the interval \(\+-(\d+) % now\) to some \+-(\d+) %", notes)
    assert before is None or int(before[1]) >= int(before[2]), "nothing is narrowed to something wider"


def test_a_file_that_is_here_is_used_and_not_pulled() -> None:
    key = ("qwen2.5-0.5b", "Q8_0")
    rec = outlook.foresee(
        outlook_of("qwen2.5-7b-q8", "m4-max-128gb", on_disk={key: "/models/draft.gguf"}, **QUICK), catalog(), shipped()
    )
    here = [one.draft for one in rec.candidates if one.draft.path]
    assert [(one.name, one.quant, one.path) for one in here] == [
        ("Qwen2.5-0.5B-Instruct", "Q8_0", "/models/draft.gguf")
    ]


def test_a_hybrid_target_says_what_is_priced_and_what_is_not() -> None:
    notes = " ".join(foreseen("qwen3.5-27b-q8", **QUICK).measurement.notes)
    assert "decode again" in notes
    assert "Measure:" not in notes


def test_ram_of_unknown_speed_is_told_where_it_matters() -> None:
    told = "bandwidth of the RAM is assumed"
    assert told in " ".join(foreseen("qwen2.5-72b-q4", "rtx-4090", **QUICK).measurement.notes)
    assert told not in " ".join(foreseen("qwen2.5-7b-q4", "rtx-4090", **QUICK).measurement.notes)


QUESTION = "recommend --target qwen2.5-72b-q8 --host m4-max-128gb --format json --all --k 16 --p-min 0.75"
LOADED = (
    "import sys; from advisor.cli import app; app(standalone_mode=False); print(*sorted(sys.modules), file=sys.stderr)"
)


def test_the_whole_command_without_an_engine() -> None:
    arguments = [*QUESTION.split(), "--llama-build", "b7900"]
    run = [sys.executable, "-c", LOADED, *arguments]
    done = subprocess.run(run, capture_output=True, text=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    jsonschema.validate(document, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert {(one["k"], one["p_min"], one["evidence"]) for one in document["candidates"]} == {(16, 0.75, "prior")}
    assert "--draft-max" in document["command"]
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert "numpy" in loaded, "the list of modules is there"
    assert not {"llama_cpp", "optuna"} & loaded


# -- models that nobody publishes, and quants ------------------------------------------------------------------------


def told_of(target: str) -> tuple[str, str]:
    notes: list[str] = []
    model, _ = named_target(target, catalog(), notes.append)
    return model.quant, " ".join(notes)


@pytest.mark.parametrize(
    ("target", "quant"), [("qwen2.5-72b", "Q4_K_M"), ("gpt-oss-120b", "MXFP4"), ("granite-3.1-8b", "Q4_K_M")]
)
def test_a_target_without_a_quant_gets_one_that_exists(target: str, quant: str) -> None:
    found, note = told_of(target)
    assert found == quant
    assert f"{quant} is taken" in note


def test_every_model_with_files_gets_one_of_them_by_default() -> None:
    for entry in catalog().entries.values():
        if usual_quants(entry):
            assert default_quant(entry, catalog()) in usual_quants(entry), entry.id


def test_a_target_that_nobody_publishes_is_a_file_to_make() -> None:
    rec = foreseen("llama-3.1-8b-f16", "m4-max-128gb", **QUICK)
    assert command(rec)[1:3] == ["-m", "TARGET.gguf"]
    assert "make TARGET.gguf" in " ".join(rec.measurement.notes)


def test_two_names_of_one_mix_are_one_candidate() -> None:
    quants = {one.draft.quant for one in foreseen(**QUICK).candidates if one.draft.name == "Qwen2.5-1.5B-Instruct"}
    assert "Q4_K_M" in quants
    assert not quants & {"Q3_K", "Q4_K", "Q5_K"}


def test_every_draft_that_ran_beside_this_target_on_such_a_mac_is_listed() -> None:
    found = {(one.draft.name, one.draft.quant) for one in foreseen(**QUICK).candidates}
    usual = ("Q2_K", "Q3_K_M", "Q4_0", "Q4_K_M", "Q5_0", "Q5_K_M", "Q6_K", "Q8_0", "F16")
    ran = {"0.5B": usual, "1.5B": usual, "7B": usual, "3B": ("Q4_0", "Q4_K_M", "Q8_0", "F16")}
    assert {(f"Qwen2.5-{size}-Instruct", quant) for size, quants in ran.items() for quant in quants} <= found


def test_drafts_of_bits_that_no_table_has_tried_do_not_lead() -> None:
    for target, host in (("llama-3.3-70b-q4_k_m", "epyc-9004-384gb"), ("qwen3-32b-q4_k_m", "m4-max-128gb")):
        rec = foreseen(target, host)
        assert not rec.draft_of(rec.estimates[0].config).quant.removeprefix("UD-").startswith(("IQ1", "IQ2", "IQ3"))


# -- machines --------------------------------------------------------------------------------------------------------


def test_a_mac_lends_its_gpu_a_part_of_its_memory() -> None:
    rec = foreseen(**QUICK)
    (gpu,) = rec.host.devices
    assert gpu.memory_free_bytes == gpu.memory_total_bytes == 96 << 30
    short = [one.detail for one in rec.rejected if one.reason == "memory"]
    assert any("iogpu.wired_limit_mb=" in detail for detail in short)
    with pytest.raises(NothingFits) as caught:
        foreseen(settings=Settings(context=98304), **QUICK)
    assert "iogpu.wired_limit_mb" in caught.value.fix


def test_a_target_that_no_model_can_draft_for_is_said_so_and_runs_on_the_card() -> None:
    rec = foreseen("gpt-oss-20b-mxfp4", "rtx-4090", **QUICK)
    assert "the catalogue knows no smaller model" in rec.sentence
    argv = command(rec)
    assert argv[argv.index("-ngl") + 1] == "all"


# -- notes -----------------------------------------------------------------------------------------------------------


def notes_of(*question: Any, **asked: Any) -> str:
    return " ".join(foreseen(*question, **{**QUICK, **asked}).measurement.notes)


def test_the_foreseen_baseline_has_an_interval() -> None:
    assert re.search(r"baseline is foreseen too: [\d.]+ tok/s \(80 % interval [\d.]+ to [\d.]+\)", notes_of())


def test_a_baseline_far_from_the_foreseen_one_is_doubted() -> None:
    assert "is far from" in notes_of(baseline_tps=40.0)
    assert "is far from" not in notes_of(baseline_tps=7.0)


def test_a_context_beyond_the_models_own_is_told() -> None:
    assert "longer than the 32768 tokens" in notes_of("qwen2.5-7b-q8", settings=Settings(context=65536))


def test_traps_of_the_families_are_told() -> None:
    assert "the experts in MXFP4" in notes_of("gpt-oss-20b-mxfp4")


# -- what was measured before ----------------------------------------------------------------------------------------

TABLE = {
    "timestamp": "2026-02-06",
    "hardware": "m4max-128gb",
    "model_family": "Qwen2.5",
    "results": [
        {"target": "72B Q8_0", "draft": None, "mean_tps": 7.5, "acceptance_rate": None},
        {"target": "72B Q8_0", "draft": "0.5B Q8_0", "mean_tps": 15.0, "acceptance_rate": 0.7},
    ],
}


def test_imported_results_of_this_host_anchor_the_baseline_and_are_shown() -> None:
    pairs = read_text(Path("friend.json"), json.dumps(TABLE), catalog()).pairs
    rec, other = (
        outlook.foresee(outlook_of("qwen2.5-72b-q8", host, measured=pairs, **QUICK), catalog(), shipped())
        for host in ("m4-max-128gb", "m2-ultra-192gb")
    )
    assert rec.baseline.tokens_per_second == pytest.approx(7.5)
    notes = " ".join(rec.measurement.notes)
    assert "what was imported for this host" in notes
    assert re.search(r"Qwen2.5-0.5B-Instruct Q8_0 gave 2.00x at k = 16, p_min = 0.75; foreseen is \d\.\d+x\.", notes)
    other = outlook.foresee(
        outlook_of("qwen2.5-72b-q8", "m2-ultra-192gb", measured=pairs, **QUICK), catalog(), shipped()
    )
    assert "imported" not in " ".join(other.measurement.notes).lower()


# -- how long it takes -----------------------------------------------------------------------------------------------


def seconds_of(*arguments: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, timeout=120)
    return time.perf_counter() - started


@pytest.mark.alone
def test_an_answer_takes_at_most_three_times_as_long_as_importing_scikit_learn() -> None:
    """One after the other, so that what else the machine does hits both."""
    question = ("-m", "advisor", *QUESTION.split(), "--llama-build", "b7900")
    ratios = [seconds_of(*question) / seconds_of("-c", "import sklearn.linear_model, yaml, pydantic") for _ in range(3)]
    assert statistics.median(ratios) < 3
