import dataclasses
import io
import re
from typing import Any

import pytest
from rich.console import Console

from advisor.report.terminal import render, render_host
from advisor.testing.builders import (
    GIB,
    make_candidate,
    make_estimate,
    make_gpu_host,
    make_host,
    make_measurement,
    make_model,
    make_recommendation,
)
from advisor.types import Recommendation, Rejected, Settings

COMMAND = "llama-server \\\n  -m target.gguf"


def rendered(rec: Recommendation, *, width: int = 100, show_all: bool = False, **console: Any) -> str:
    stream = io.StringIO()
    render(rec, console=Console(file=stream, width=width, **console), command=COMMAND, show_all=show_all)
    return stream.getvalue()


def flat(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def line_with(text: str, *parts: str) -> str:
    found = [line for line in text.splitlines() if all(part in line for part in parts)]
    assert len(found) == 1, f"{parts} in {len(found)} lines of\n{text}"
    return found[0]


def test_says_everything_a_reader_needs_to_decide() -> None:
    text = flat(rendered(make_recommendation()))
    for part in (
        "Example CPU 9000 @ 3.20GHz, 8 of 8 cores usable, 32.00 GiB RAM, 24.00 GiB available",
        "reads at least 41.5 GB/s",
        "a decode reached 36.0 GB/s",
        "llama_cpp_python 0.3.36 (llama.cpp b11312)",
        "Example-14B-Instruct Q8_0",
        "14.00 GiB, context 4,096 tokens",
        "12 prompts, 2,304 answer tokens, greedy",
        "20.0 tok/s (measured)",
        "Other-1B Q4_0 (tokenizer): Token 1523 is 'ab' in the draft and 'ba' in the target.",
        "measured now; 3 speculative trials in 3:07",
        "drifted by 3.1 %",
        "stopped because: more runs cannot change the answer",
        "Verdict Use Example-0.5B-Instruct Q8_0 with k = 4",
    ):
        assert part in text


def test_a_candidate_line_has_all_its_figures() -> None:
    line = line_with(rendered(make_recommendation()), "Example-0.5B-Instruct", "Q8_0", "[")
    assert line.split() == [
        *(">", "Example-0.5B-Instruct", "Q8_0", "4", "0.5", "16.23", "GiB", "70", "%", "3.80"),
        *("1.42x", "[1.36,", "1.48]", "28.4", "measured"),
    ]


def foreseen() -> Recommendation:
    """A prediction: three quantizations of one model and one of another, on a machine that is only named."""
    models = [make_model("Small-1B", quant) for quant in ("Q4_0", "Q6_K", "Q8_0")] + [make_model("Large-3B", "Q8_0")]
    candidates = tuple(make_candidate(model) for model in models)
    speedups = zip(models, (1.9, 1.8, 1.7, 1.6), strict=True)
    estimates = tuple(make_estimate(model, speedup, evidence="prior") for model, speedup in speedups)
    return make_recommendation(
        host=make_host(os="", cpu="Example Mac, 128 GiB", isa=(), cores_physical=0, cores_usable=0),
        candidates=candidates,
        estimates=estimates,
        best=estimates[0],
        runner_up=estimates[3],
        rejected=tuple(Rejected(f"Huge-{i}B", "Q8_0", "memory", "needs 99 GiB") for i in range(40)),
        trials=(),
        measurement=make_measurement(
            prompts=0, answer_tokens=0, trials=0, stop_reason="nothing was run", notes=("Measuring costs 5 GiB.",)
        ),
    )


def test_a_prediction_shows_the_best_file_of_each_model() -> None:
    shown = rendered(foreseen(), width=120)
    line_with(shown, "Small-1B", "Q4_0", "[")
    line_with(shown, "Large-3B", "Q8_0", "GiB", "[")
    listed = shown.split("Rejected")[0]
    assert len(re.findall(r"\dx \[", listed)) == 2
    assert "the best setting of each model" in flat(shown)
    everything = rendered(foreseen(), width=120, show_all=True).split("Rejected")[0]
    assert len(re.findall(r"\dx \[", everything)) == 4


def test_a_prediction_says_what_it_stands_on_and_no_figures_of_a_run() -> None:
    text = flat(rendered(foreseen()))
    assert "prior: nothing was run" in text
    assert "Measuring costs 5 GiB." in text
    assert "0 prompts" not in text
    assert "speculative trial" not in text


def test_a_machine_that_is_only_named_has_no_cores() -> None:
    text = flat(rendered(foreseen()))
    assert "Example Mac, 128 GiB" in text
    assert "cores usable" not in text
    assert "instruction set" not in text


def test_many_rejections_are_counted_unless_all_are_asked_for() -> None:
    few, every = flat(rendered(foreseen())), flat(rendered(foreseen(), show_all=True))
    named = len(re.findall(r"Huge-\d+B", few))
    assert 0 < named < 40
    assert f"{40 - named} more, listed with --all" in few
    assert len(re.findall(r"Huge-\d+B", every)) == 40


def test_the_best_of_each_draft_or_all() -> None:
    rec = make_recommendation()
    assert len(re.findall(r"\dx \[", rendered(rec).split("Rejected")[0])) == 2
    assert len(re.findall(r"\dx \[", rendered(rec, show_all=True).split("Rejected")[0])) == 6


def test_acceptance_of_the_pick_by_category() -> None:
    text = rendered(make_recommendation())
    assert line_with(text, "code", "1.56x").split() == ["code", "77", "%", "1.56x"]
    assert line_with(text, "chat", "1.28x").split() == ["chat", "63", "%", "1.28x"]


def test_the_runner_up_and_what_it_gives_up() -> None:
    text = flat(rendered(make_recommendation()))
    expected = "Runner-up Example-1.5B-Instruct Q4_K_M with k = 4: 1.35x [1.30, 1.40]; 4.9 % slower,"
    assert expected in text
    assert "MiB more memory" in text


def test_do_not_speculate_marks_no_candidate_and_shows_the_plain_command() -> None:
    rec = make_recommendation("do-not-speculate")
    text = rendered(dataclasses.replace(rec, best=rec.estimates[0], runner_up=rec.estimates[1]))
    assert not any(line.lstrip().startswith(">") for line in text.splitlines())
    assert "Runner-up" not in text
    assert "Verdict    Do not speculate" in text
    assert "the target alone" in text
    assert "of the best that was found" in text


def test_an_undecided_answer_says_what_would_decide_it() -> None:
    rec = make_recommendation("do-not-speculate")
    unsure = dataclasses.replace(rec.estimates[0], speedup=1.3, speedup_low=0.94, speedup_high=1.8)
    asked = dataclasses.replace(rec, best=None, estimates=(unsure,), trials=(), settings=Settings(budget_s=210.0))
    assert "To decide No pairing was run for real yet: ask again with --budget 7m." in flat(rendered(asked))
    lost = dataclasses.replace(unsure, speedup=0.9, speedup_low=0.8, speedup_high=1.2)
    assert "To decide" not in rendered(dataclasses.replace(asked, estimates=(lost,)))


def test_the_longest_draft_that_was_considered_is_named_as_that() -> None:
    rec = make_recommendation(settings=Settings(k_max=make_recommendation().best.config.k))
    assert "--k-max tries longer" in flat(rendered(rec))
    assert "--k-max" not in rendered(make_recommendation())


def test_stored_measurements_and_the_repack_remedy_are_named() -> None:
    notes = make_measurement(from_store=True, repack_off=True, notes=("One draft was skipped.",))
    text = rendered(make_recommendation(measurement=notes))
    assert "from stored measurements" in text
    assert "--no-repack" in text
    assert "One draft was skipped." in text


def test_nothing_estimated_is_said() -> None:
    rec = make_recommendation("do-not-speculate", candidates=(), estimates=())
    assert "none could be estimated" in rendered(rec)


@pytest.mark.parametrize("width", [40, 60, 80, 91, 92, 100, 160])
@pytest.mark.parametrize("show_all", [False, True])
def test_nothing_but_the_command_is_wider_than_the_terminal(width: int, show_all: bool) -> None:
    draft = make_model("A-very-long-name-" * 6, "IQ3_XXS_and_more", weights_bytes=123 * GIB)
    rec = make_recommendation(candidates=(make_candidate(draft),), best=None, runner_up=None)
    wide = make_estimate(draft, 12.345, 64, p_min=0.125, tokens_per_second=12345.6, evidence="measured")
    text = rendered(dataclasses.replace(rec, estimates=(wide,), best=wide), width=width, show_all=show_all)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "12.35x" in text or "12.34x" in text
    assert "…" not in text, "a figure was cut off"


def test_a_long_command_stays_in_one_line_to_be_copied() -> None:
    stream = io.StringIO()
    command = "llama-server -m /models/" + "x" * 300
    render(make_recommendation(), console=Console(file=stream, width=60), command=command)
    assert command in stream.getvalue().splitlines()


EVIL = "[bold red]x[/]\x1b[2J\x07\r\n\u202e:smile:"


def test_names_are_shown_not_obeyed() -> None:
    draft = make_model(EVIL, EVIL)
    estimate = make_estimate(draft, acceptance_by_category={EVIL: 0.5}, speedup_by_category={EVIL: 1.5})
    rec = make_recommendation(
        target=make_model(EVIL, EVIL, architecture=EVIL),
        workload=EVIL,
        candidates=(make_candidate(draft),),
        estimates=(estimate,),
        best=estimate,
        runner_up=None,
        rejected=(Rejected(EVIL, EVIL, "memory", EVIL),),
        sentence=EVIL,
        measurement=make_measurement(stop_reason=EVIL, notes=(EVIL,)),
    )
    for width in (60, 100):
        text = rendered(rec, width=width)
        assert not set(text) & set("\x1b\x07\r\u202e")
    assert "[bold red]x[/]\\x1b[2J\\x07\\r\\n\\u202e:smile:" in text


def test_colour_only_repeats_the_words() -> None:
    rec = make_recommendation()
    coloured = rendered(rec, force_terminal=True, color_system="truecolor")
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == rendered(rec)


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    coloured = rendered(make_recommendation(), force_terminal=True, color_system="truecolor")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", coloured)


def test_an_ascii_terminal_gets_no_box_drawing() -> None:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="ascii") as stream:
        render(make_recommendation(), console=Console(file=stream, width=100), command=COMMAND)
        stream.flush()
        assert b"Verdict" in raw.getvalue()


def test_graphics_cards_are_part_of_the_host() -> None:
    stream = io.StringIO()
    render_host(
        make_gpu_host(
            read_bandwidth_bytes_per_s=None, decode_bandwidth_bytes_per_s=None, notes=("No swap was found.",)
        ),
        console=Console(file=stream, width=100),
    )
    text = stream.getvalue()
    assert "Note       No swap was found." in text
    assert "CUDA0: Example GPU 24GB (gpu), 24.00 GiB, 23.00 GiB free" in text
    assert "GB/s" not in text


@pytest.mark.parametrize("width", [80, 120])
def test_a_predicted_draft_that_is_here_is_marked(width: int) -> None:
    rec = foreseen()
    missing = dataclasses.replace(rec.candidates[3], draft=dataclasses.replace(rec.candidates[3].draft, path=""))
    shown = flat(rendered(dataclasses.replace(rec, candidates=(*rec.candidates[:3], missing)), width=width))
    assert shown.count("prior, on disk") == 1
    assert "on disk" not in flat(rendered(make_recommendation(), width=width))
