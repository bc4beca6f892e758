import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.exporters.llama_server import command, shell
from advisor.testing.builders import (
    GIB,
    make_candidate,
    make_estimate,
    make_gpu_host,
    make_measurement,
    make_model,
    make_recommendation,
)
from advisor.types import Build, Placement, Recommendation, Sampling, Settings

posix_only = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")


def values(argv: list[str]) -> dict[str, str]:
    """Flags with their values, for commands in which every flag has one, but for --metrics."""
    assert "--metrics" in argv
    rest = [arg for arg in argv if arg != "--metrics"]
    return dict(zip(rest[1::2], rest[2::2], strict=True))


def placed(rec: Recommendation, placement: Placement) -> Recommendation:
    candidates = tuple(dataclasses.replace(c, placement=placement) for c in rec.candidates)
    return dataclasses.replace(rec, candidates=candidates)


def test_the_recommended_pair() -> None:
    argv = command(make_recommendation())
    assert argv[0] == "llama-server"
    assert values(argv) == {
        "-m": "/models/Example-14B-Instruct-Q8_0.gguf",
        "-md": "/models/Example-0.5B-Instruct-Q8_0.gguf",
        "--spec-type": "draft-simple",
        "--spec-draft-n-max": "4",
        "--spec-draft-p-min": "0.5",
        "-c": "4096",
        "-np": "1",
        "--temp": "0",
    }


HUB = "example/Example-{}-GGUF:Q8_0"


def foreseen(build: int, **config: float) -> Recommendation:
    """A recommendation for models that nobody has downloaded."""
    rec = make_recommendation(build=Build("llama-server", f"b{build}", build))
    drafts = {one.draft.content_hash: f"draft-{i}" for i, one in enumerate(rec.candidates)}
    candidates = tuple(
        dataclasses.replace(
            one, draft=dataclasses.replace(one.draft, path="", hub=HUB.format(drafts[one.draft.content_hash]))
        )
        for one in rec.candidates
    )
    best = make_estimate(rec.candidates[0].draft, **{"k": 8, "p_min": 0.5, **config})
    target = dataclasses.replace(rec.target, path="", hub=HUB.format("target"))
    return dataclasses.replace(rec, target=target, candidates=candidates, best=best)


def test_models_without_a_file_are_named_by_their_repository() -> None:
    found = values(command(foreseen(0)))
    assert (found["-hf"], found["-hfd"]) == (HUB.format("target"), HUB.format("draft-0"))
    assert not {"-m", "-md"} & set(found)


def test_a_target_that_is_here_and_a_draft_that_is_not() -> None:
    rec = foreseen(0)
    found = values(command(dataclasses.replace(rec, target=make_model())))
    assert found["-m"] == make_model().path
    assert "-hf" not in found
    assert "-hfd" in found


@pytest.mark.parametrize("build", [0, 9464, 11434])
def test_a_current_build_is_told_to_speculate(build: int) -> None:
    found = values(command(foreseen(build, n_min=2)))
    assert found["--spec-type"] == "draft-simple"
    assert (found["--spec-draft-n-max"], found["--spec-draft-n-min"]) == ("8", "2")
    assert found["--spec-draft-p-min"] == "0.5"
    assert not any(flag.startswith("--draft") for flag in found)


@pytest.mark.parametrize("build", [7900, 8980])
def test_an_old_build_gets_the_old_flags(build: int) -> None:
    found = values(command(foreseen(build, n_min=2)))
    assert (found["--draft-max"], found["--draft-min"], found["--draft-p-min"]) == ("8", "2", "0.5")
    assert not any(flag.startswith("--spec") for flag in found)


def test_builds_between_know_the_new_flags_and_need_no_type() -> None:
    found = values(command(foreseen(8981)))
    assert found["--spec-draft-n-max"] == "8"
    assert "--spec-type" not in found


@pytest.mark.parametrize(("build", "flag"), [(7900, "--draft-p-min"), (9000, "--spec-draft-p-min")])
def test_a_p_min_of_zero_is_written_where_the_default_is_another(build: int, flag: str) -> None:
    assert values(command(foreseen(build, p_min=0)))[flag] == "0"
    assert not any("p-min" in one for one in command(foreseen(11434, p_min=0)))


def test_n_min_only_when_set() -> None:
    rec = make_recommendation()
    best = make_estimate(rec.candidates[1].draft, k=8, n_min=2)
    found = values(command(dataclasses.replace(rec, best=best)))
    assert found["-md"] == rec.candidates[1].draft.path
    assert found["--spec-draft-n-min"] == "2"
    assert "--spec-draft-p-min" not in found


def test_do_not_speculate_is_the_target_alone() -> None:
    rec = make_recommendation("do-not-speculate")
    rec = dataclasses.replace(rec, best=rec.estimates[0])
    assert values(command(rec)) == {"-m": rec.target.path, "-c": "4096", "-np": "1", "--temp": "0"}


def test_context_threads_and_the_repack_remedy() -> None:
    rec = make_recommendation(settings=Settings(context=8192, threads=6), measurement=make_measurement(repack_off=True))
    argv = command(rec)
    argv.remove("--no-repack")
    assert values(argv)["-c"] == "8192"
    assert values(argv)["-t"] == "6"


def test_requests_that_name_no_sampling_get_the_one_that_acceptance_holds_for() -> None:
    """llama-server by itself decodes at a temperature of 0.8."""
    sampled = Settings(sampling=Sampling(temperature=0.6, top_p=0.9, top_k=20, min_p=0.0))
    found = values(command(make_recommendation(settings=sampled)))
    assert {flag: found[flag] for flag in ("--temp", "--top-p", "--top-k", "--min-p")} == {
        "--temp": "0.6",
        "--top-p": "0.9",
        "--top-k": "20",
        "--min-p": "0",
    }
    greedy = values(command(make_recommendation()))
    assert greedy["--temp"] == "0"
    assert not {"--top-p", "--top-k", "--min-p"} & set(greedy)


@pytest.mark.parametrize(
    ("placement", "target_layers", "draft_layers"),
    [(Placement(-1, -1, "CUDA0"), "all", "all"), (Placement(20, 0), "20", "0"), (Placement(0, 0), "0", "0")],
)
def test_offload_on_a_machine_with_a_gpu(placement: Placement, target_layers: str, draft_layers: str) -> None:
    found = values(command(placed(make_recommendation(host=make_gpu_host()), placement)))
    assert (found["-ngl"], found["-ngld"]) == (target_layers, draft_layers)


def test_offload_of_the_baseline_names_no_draft() -> None:
    rec = placed(make_recommendation("do-not-speculate", host=make_gpu_host()), Placement(-1, -1, "CUDA0"))
    found = values(command(rec))
    assert found["-ngl"] == "all"
    assert "-ngld" not in found


def test_flags_removed_from_llama_cpp_are_never_written() -> None:
    removed = {"--draft", "--draft-n", "--draft-max", "--draft-min", "--draft-n-min", "-cd", "--ctx-size-draft"}
    assert not removed & set(command(make_recommendation()))


def test_one_flag_per_line_for_a_posix_shell() -> None:
    assert shell(["llama-server", "-m", "a b.gguf", "-np", "1", "--no-repack"], windows=False) == (
        "llama-server \\\n  -m 'a b.gguf' \\\n  -np 1 \\\n  --no-repack"
    )


AWKWARD = [
    "plain.gguf",
    "with space.gguf",
    'it\'s "quoted".gguf',
    "$HOME `id` $(id) \\ * ? ~ ! # & ; | < >",
    "two\nlines\n",
    "übung-模型-🦙.gguf",
    "bell\x07 escape\x1b[2J tab\t return\r override\u202e",
    "-starts-with-a-dash",
    "",
    "%PATH%",
]


def through_sh(argv: list[str], script: Path) -> list[str]:
    """What a program receives that is started by the real shell."""
    line = shell([sys.executable, str(script), *argv], windows=False)
    environment = {**os.environ, "PYTHONUTF8": "1", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, check=True, env=environment)
    return done.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    script = tmp_path_factory.mktemp("echo dir") / "print arguments.py"
    script.write_text(
        "import os, sys\nfor arg in sys.argv[1:]:\n    sys.stdout.buffer.write(os.fsencode(arg) + b'\\0')\n"
    )
    return script


@posix_only
def test_awkward_names_reach_the_program_unchanged(echo: Path) -> None:
    assert through_sh(AWKWARD, echo) == AWKWARD


@posix_only
@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")), max_size=20))
def test_any_text_reaches_the_program_unchanged(echo: Path, argv: list[str]) -> None:
    assert through_sh(argv, echo) == argv


@posix_only
def test_a_name_that_is_not_utf8_reaches_the_program_unchanged(echo: Path) -> None:
    assert through_sh(["caf\udce9.gguf"], echo) == ["caf\udce9.gguf"]


@posix_only
def test_the_whole_command_survives_the_shell(echo: Path) -> None:
    rec = make_recommendation(target=make_model(path="/my models/it's $5/target.gguf"))
    argv = command(rec)
    assert through_sh(argv, echo) == argv


def test_the_text_itself_cannot_drive_a_terminal() -> None:
    text = shell(["llama-server", "-m", "a\x1b[2J\x07\x9b\u202e.gguf"], windows=False)
    assert text.isascii()
    assert text.isprintable() or set(text) - set("\n") <= {chr(c) for c in range(32, 127)}


@pytest.mark.parametrize(
    ("arg", "quoted"),
    [
        (r"C:\models\a.gguf", r"C:\models\a.gguf"),
        (r"C:\my models\a.gguf", r'"C:\my models\a.gguf"'),
        ("a&b.gguf", '"a&b.gguf"'),
        ("a,b", '"a,b"'),
        ("it's.gguf", '"it\'s.gguf"'),
        ("cost $5's.gguf", "'cost $5''s.gguf'"),
        ("dir with space\\", '"dir with space\\\\"'),
        ("", '""'),
    ],
)
def test_one_line_for_windows(arg: str, quoted: str) -> None:
    assert shell(["llama-server", "-m", arg], windows=True) == f"llama-server -m {quoted}"


GPU = "CUDA0"


def alone(target_gib: float, **changes: object) -> dict[str, str]:
    """The command without a draft, for a target of this size beside a card of 24 GiB."""
    target = make_model(weights_bytes=int(target_gib * GIB))
    fields = {"target": target, "host": make_gpu_host(), "best": None, **changes}
    return values(command(make_recommendation("do-not-speculate", **fields)))


def test_the_target_alone_gets_the_room_that_a_draft_would_have_taken() -> None:
    target = make_model(weights_bytes=20 * GIB)
    cut_back = dataclasses.replace(
        make_candidate(make_model("Small", weights_bytes=GIB)), placement=Placement(40, -1, GPU)
    )
    assert alone(20, target=target, candidates=(cut_back,))["-ngl"] == "all"


def test_the_target_alone_is_offloaded_where_there_is_no_candidate() -> None:
    assert alone(14, candidates=(), estimates=())["-ngl"] == "all"


def test_a_target_that_is_too_large_alone_is_split() -> None:
    layers = int(alone(30, candidates=(), estimates=())["-ngl"])
    assert 0 < layers < make_model().layers


def test_models_that_nobody_publishes_are_files_to_make() -> None:
    rec = foreseen(0)
    drafts = tuple(dataclasses.replace(one, draft=dataclasses.replace(one.draft, hub="")) for one in rec.candidates)
    rec = dataclasses.replace(rec, target=dataclasses.replace(rec.target, hub=""), candidates=drafts)
    found = values(command(rec))
    assert (found["-m"], found["-md"]) == ("TARGET.gguf", "DRAFT.gguf")


def test_an_ngram_method_names_no_draft() -> None:
    best = make_estimate("", k=8, method="ngram-simple")
    best = dataclasses.replace(best, config=dataclasses.replace(best.config, ngram_size=4))
    found = values(command(make_recommendation(best=best, host=make_gpu_host())))
    assert (found["--spec-type"], found["--spec-ngram-simple-size-n"]) == ("ngram-simple", "4")
    assert found["--spec-ngram-simple-size-m"] == "8"
    assert not {"-md", "-hfd", "-ngld", "--spec-draft-n-max"} & set(found)


def test_all_layers_are_a_number_for_builds_that_may_not_know_the_word() -> None:
    rec = placed(make_recommendation(host=make_gpu_host()), Placement(-1, -1, "CUDA0"))
    old = dataclasses.replace(rec, build=Build("llama-server", "b7000", 7000))
    assert values(command(old))["-ngl"] == values(command(old))["-ngld"] == "999"
