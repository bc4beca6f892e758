"""llama-server as an engine: against scripts that fail in every known way, and against the real one on real models."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from advisor.dialect import dialect_of
from advisor.engines import RUNNERS, llama_server, server_process
from advisor.engines.base import BARE, LoadOptions, Operation
from advisor.engines.find_server import PACKAGED, Program, devices, find_server
from advisor.engines.llama_server import LlamaServer
from advisor.engines.server_process import Deadlines
from advisor.errors import EngineCrash, EngineRefusal, EngineTimeout, FileProblem, OptionError, OutOfTime
from advisor.gguf import read_model
from advisor.runs import RunMeasurer
from advisor.store import Store
from advisor.testing.builders import make_candidate, make_model
from advisor.testing.zoo import Recipe, build
from advisor.types import Build, Config, Message, Model, Placement, Sampling, Transcript
from tests.engines.fake_llama_server import END, decode_ms, script

GREEDY = Sampling()
TARGET, DRAFT = make_model("Target", weights_bytes=1000), make_model("Draft", weights_bytes=100)
CONFIG = Config(DRAFT.content_hash, 4)
PROMPT = (72, 101, 108, 108, 111)
PATIENT = Deadlines(start_s=60, answer_s=60, death_s=0.5)
posix_only = pytest.mark.skipif(os.name == "nt", reason="signals, and scripts that run by themselves")
Start = Callable[..., LlamaServer]


def alive(folder: Path) -> list[int]:
    """Every server and child of one that was started in this folder and still runs."""
    pids = [int(line) for line in (folder / "pids").read_text().split()] if (folder / "pids").exists() else []
    running = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                running.append(pid)
    return running


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    engines: list[LlamaServer] = []

    def starter(version: str = "b11434", mode: str = "", **changes: object) -> LlamaServer:
        program = Program((sys.executable, str(script(tmp_path, version, mode))), "fake")
        engine = LlamaServer(program, **{"deadlines": PATIENT, **changes})
        engine.open("target", TARGET, LoadOptions(512, 2))
        engine.open("draft", DRAFT, LoadOptions(512, 2))
        engines.append(engine)
        return engine

    yield starter
    for engine in engines:
        engine.shutdown()
    assert alive(tmp_path) == []


# -- runs, in every dialect --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["b8672", "b9101", "b11434"])
def test_a_baseline_and_a_speculative_run_in_every_dialect(start: Start, version: str) -> None:
    engine = start(version)
    baseline = engine.answer(PROMPT, GREEDY, 16)
    assert (baseline.tokens, baseline.steps, baseline.drafted) == (16, 0, 0)
    assert baseline.decode_s == pytest.approx(0.4)
    assert baseline.prefill_s == pytest.approx(0.05)
    run = engine.speculate(PROMPT, CONFIG, GREEDY, 16)
    assert run.answer_tokens == baseline.answer_tokens
    assert 0 < run.accepted < run.drafted <= CONFIG.k * run.steps
    assert run.steps + run.accepted + 1 == run.tokens
    assert engine.build.llama_cpp_build == int(version[1:])
    assert engine.used


def test_an_answer_in_time_leaves_time_for_its_prompt_and_is_no_baseline(start: Start) -> None:
    """0.05 s for the prompt and 0.4 s a token, so it was seen: four tokens would take 1.65 of 1.6 s."""
    engine = start()
    engine.answer(PROMPT, GREEDY, 2)
    with engine.within(2.0):
        assert engine.answer(PROMPT, GREEDY, 16).tokens == 3
    engine.answer(PROMPT, GREEDY, 2)
    measurer = RunMeasurer(
        engine,
        Store.in_memory(),
        TARGET,
        [make_candidate(DRAFT)],
        [Transcript("", PROMPT, tuple(range(10, 26)), ended=False)],
        GREEDY,
        host="h",
        context=512,
        threads=2,
        max_tokens=16,
        place=Placement(),
        time_left_s=lambda: 2.0,
    )
    with pytest.raises(OutOfTime):
        measurer(CONFIG, 0)


def test_places_of_the_draft_are_counted_for_each_request_alone(start: Start) -> None:
    engine = start("b11434")
    first, second = (engine.speculate(PROMPT, CONFIG, GREEDY, 16) for _ in range(2))
    assert sum(first.accepted_per_position) == first.accepted
    assert first.accepted_per_position == second.accepted_per_position
    assert len(first.accepted_per_position) == CONFIG.k


def test_a_server_without_counters_leaves_the_places_unknown(start: Start) -> None:
    assert start("b8672").speculate(PROMPT, CONFIG, GREEDY, 16).accepted_per_position == ()


def test_the_draft_length_is_respected_and_a_new_one_restarts_only_the_speculating_server(
    start: Start, tmp_path: Path
) -> None:
    engine = start()
    engine.answer(PROMPT, GREEDY, 16)
    (alone,) = alive(tmp_path)
    short, long = (engine.speculate(PROMPT, Config(DRAFT.content_hash, k), GREEDY, 16) for k in (1, 8))
    assert short.drafted <= short.steps
    assert long.steps < short.steps
    assert alone in alive(tmp_path)
    assert len(alive(tmp_path)) == 2
    engine.answer(PROMPT, GREEDY, 16)
    assert len((tmp_path / "pids").read_text().split()) == 3, "no server was started twice for the same thing"


def test_where_memory_is_short_the_two_servers_replace_each_other(start: Start, tmp_path: Path) -> None:
    engine = start()
    engine.open("target", TARGET, LoadOptions(512, 2, room_for_two=False))
    for ask in (engine.answer, lambda *asked: engine.speculate(asked[0], CONFIG, *asked[1:]), engine.answer):
        ask(PROMPT, GREEDY, 16)
        assert len(alive(tmp_path)) == 1


def test_closing_a_draft_that_is_not_open_leaves_the_server_running(start: Start, tmp_path: Path) -> None:
    engine = start()
    engine.close("draft")
    config = Config("", 4, method="ngram-mod", ngram_size=3)
    for prompt in (PROMPT, PROMPT[:-1]):
        engine.close("draft")
        engine.speculate(prompt, config, GREEDY, 16)
    assert len((tmp_path / "pids").read_text().split()) == 1


def test_an_ngram_method_never_meets_a_prompt_that_its_server_has_answered(start: Start, tmp_path: Path) -> None:
    engine = start()
    config = Config("", 4, method="ngram-mod", ngram_size=3)
    for prompt in (PROMPT, PROMPT[:3]):
        engine.speculate(prompt, config, GREEDY, 16)
    assert len((tmp_path / "pids").read_text().split()) == 1
    engine.speculate(PROMPT, config, GREEDY, 16)
    assert len((tmp_path / "pids").read_text().split()) == 2


def test_text_and_the_end_of_an_answer(start: Start) -> None:
    engine = start()
    tokens = engine.tokenize([Message("user", "Hi")])
    assert engine.text(tokens) == ("<user>Hi", False)
    whole = engine.answer(PROMPT, GREEDY, 100).answer_tokens
    assert whole[-1] == END
    assert engine.text(whole)[1]
    assert not engine.text(whole[:-1])[1]


def test_nothing_is_started_until_something_is_asked(start: Start, tmp_path: Path) -> None:
    engine = start()
    assert engine.build.key
    assert not engine.used
    assert not (tmp_path / "pids").exists()


def test_settings_of_the_users_own_server_do_not_reach_this_one(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_ARG_SPEC_TYPE", "ngram-mod")
    monkeypatch.setenv("LLAMA_API_KEY", "secret")
    engine = start()
    engine.answer(PROMPT, GREEDY, 8)
    (server,) = (one.server for one in engine._serving.values())
    environment = psutil.Process(server.pid).environ()
    assert not [name for name in environment if name.startswith(("LLAMA_ARG", "LLAMA_API"))]
    assert engine.peak_memory_bytes > 1e6


# -- runs that are not what they seem ----------------------------------------------------------------------------------


def test_a_baseline_that_speculates_is_refused(start: Start) -> None:
    with pytest.raises(EngineRefusal, match="baseline") as caught:
        start(mode="eager").answer(PROMPT, GREEDY, 16)
    assert caught.value.why
    assert caught.value.fix


def test_a_draft_that_is_silently_not_used_is_refused(start: Start) -> None:
    with pytest.raises(EngineRefusal, match="without speculating") as caught:
        start(mode="silent").speculate(PROMPT, CONFIG, GREEDY, 16)
    assert "draft-simple" in caught.value.why
    assert caught.value.fix


def test_a_dropped_draft_is_refused_also_where_nothing_need_be_drafted(start: Start) -> None:
    with pytest.raises(EngineRefusal, match="without speculating") as caught:
        start(mode="dropped").speculate(PROMPT, Config("d", 4, p_min=0.9), GREEDY, 16)
    assert "failed to initialize" in caught.value.why


@pytest.mark.parametrize(("config", "max_tokens"), [(Config("d", 4, p_min=0.9), 16), (CONFIG, 2)])
def test_a_run_in_which_nothing_need_be_drafted_is_not(start: Start, config: Config, max_tokens: int) -> None:
    run = start(mode="silent").speculate(PROMPT, config, GREEDY, max_tokens)
    assert (run.drafted, run.steps) == (0, run.tokens - 1)


@pytest.mark.parametrize("mode", ["garbage", "other-json", "miscounts"])
def test_an_answer_that_makes_no_sense_is_refused_and_quoted(start: Start, mode: str) -> None:
    with pytest.raises(EngineRefusal, match="not an answer") as caught:
        start(mode=mode).answer(PROMPT, GREEDY, 16)
    assert "It said" in caught.value.why
    assert caught.value.fix


def test_what_the_server_refuses_is_told_in_its_own_words(start: Start) -> None:
    with pytest.raises(EngineRefusal, match="the request exceeds the context"):
        start(mode="refuses").answer(PROMPT, GREEDY, 16)


# -- servers that are told in the words of another build --------------------------------------------------------------


def mistaken_for(monkeypatch: pytest.MonkeyPatch, build: int) -> None:
    told = (dialect_of(build), Build("llama-server", f"b{build}", build))
    monkeypatch.setattr(llama_server, "speech", lambda _program, *, within_s: told)


@pytest.mark.parametrize(
    ("told", "version", "complaint"),
    [
        (8672, "b9101", "has been removed"),
        (8672, "b11434", "has been removed"),
        (9101, "b8672", "invalid argument: --spec-draft-n-max"),
    ],
)
def test_flags_of_another_build_end_the_server_with_its_own_complaint(
    start: Start, monkeypatch: pytest.MonkeyPatch, told: int, version: str, complaint: str
) -> None:
    mistaken_for(monkeypatch, told)
    engine = start(version)
    assert engine.answer(PROMPT, GREEDY, 16).tokens == 16
    with pytest.raises(EngineCrash) as caught:
        engine.speculate(PROMPT, CONFIG, GREEDY, 16)
    assert complaint in caught.value.log_tail


def test_a_current_build_that_is_not_told_the_type_loads_the_draft_and_is_refused(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    mistaken_for(monkeypatch, 9101)
    with pytest.raises(EngineRefusal, match="without speculating"):
        start("b11434").speculate(PROMPT, CONFIG, GREEDY, 16)


# -- servers that fail -------------------------------------------------------------------------------------------------


def test_a_server_that_never_gets_healthy_is_ended_at_its_deadline(start: Start, tmp_path: Path) -> None:
    engine = start(mode="never-healthy", deadlines=Deadlines(start_s=2))
    assert engine.dialect.spec_flags, "reading its --help is not part of the deadline"
    began = time.monotonic()
    with pytest.raises(EngineTimeout):
        engine.answer(PROMPT, GREEDY, 16)
    assert time.monotonic() - began < 15
    assert alive(tmp_path) == []


def test_a_server_that_does_not_answer_is_ended_at_its_deadline(start: Start, tmp_path: Path) -> None:
    engine = start(mode="hangs", deadlines=Deadlines(start_s=60, answer_s=0.5))
    with pytest.raises(EngineTimeout, match="/completion"):
        engine.answer(PROMPT, GREEDY, 16)
    assert alive(tmp_path) == []


def test_a_server_that_dies_is_an_error_with_its_last_words_and_the_next_question_is_asked_anew(
    start: Start, tmp_path: Path
) -> None:
    engine = start(mode="dies")
    with pytest.raises(EngineCrash) as caught:
        engine.answer(PROMPT, GREEDY, 16)
    assert caught.value.signal_name == "exit code 7"
    assert "the last words" in caught.value.log_tail
    assert alive(tmp_path) == []
    assert engine.tokenize([Message("user", "Hi")])
    assert len(alive(tmp_path)) == 1


def test_a_server_killed_between_two_questions_is_an_error(start: Start, tmp_path: Path) -> None:
    engine = start()
    engine.answer(PROMPT, GREEDY, 8)
    psutil.Process(alive(tmp_path)[0]).kill()
    with pytest.raises(EngineCrash):
        engine.answer(PROMPT, GREEDY, 8)
    assert engine.answer(PROMPT, GREEDY, 8).tokens == 8


def test_a_killed_guard_leaves_no_server_behind(start: Start, tmp_path: Path) -> None:
    engine = start()
    engine.answer(PROMPT, GREEDY, 8)
    psutil.Process(alive(tmp_path)[0]).parent().kill()
    engine.shutdown()
    assert alive(tmp_path) == []


@posix_only
def test_the_remedy_is_tried_once_found_and_told(start: Start) -> None:
    told: list[str] = []
    engine = start(mode="needs-no-repack", on_remedy=lambda: told.append("remedy"))
    assert engine.answer(PROMPT, GREEDY, 8).tokens == 8
    assert engine.speculate(PROMPT, CONFIG, GREEDY, 8).drafted > 0
    assert engine.repack_off
    assert told == ["remedy"]


def test_children_of_a_server_end_with_it(start: Start, tmp_path: Path) -> None:
    engine = start(mode="with-a-child")
    engine.answer(PROMPT, GREEDY, 8)
    assert len(alive(tmp_path)) == 2
    engine.shutdown()
    assert alive(tmp_path) == []


KILLED = """
import sys
from advisor.engines.find_server import Program
from tests.engines.test_llama_server import GREEDY, PROMPT, TARGET, LlamaServer, LoadOptions
engine = LlamaServer(Program((sys.executable, sys.argv[1]), "fake"))
engine.open("target", TARGET, LoadOptions(512, 2))
engine.answer(PROMPT, GREEDY, 8)
print("up", flush=True)
sys.stdin.read()
"""


def test_a_server_does_not_outlive_a_killed_advisor(tmp_path: Path) -> None:
    path = script(tmp_path, "b11434", "with-a-child")
    parent = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    with parent:
        assert parent.stdout is not None
        assert parent.stdout.readline()
        servers = [psutil.Process(pid) for pid in alive(tmp_path)]
        assert len(servers) == 2
        parent.kill()
    assert psutil.wait_procs(servers, timeout=20)[1] == []


# -- ports -------------------------------------------------------------------------------------------------------------


def test_a_busy_port_is_left_for_another_one(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another llama-server holds the port and is healthy: its answers must not be taken for ours."""
    other, engine = start("b11434", "eager"), start("b11434")
    other.tokenize([Message("user", "Hi")])
    (holder,) = other._serving.values()
    free, ports = server_process._free_port, [holder.server.port]
    monkeypatch.setattr(server_process, "_free_port", lambda: ports.pop() if ports else free())
    assert engine.answer(PROMPT, GREEDY, 8).drafted == 0


def test_ports_that_are_all_busy_are_an_error(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, engine = start(), start()
    other.tokenize([Message("user", "Hi")])
    (holder,) = other._serving.values()
    monkeypatch.setattr(server_process, "_free_port", lambda: holder.server.port)
    with pytest.raises(EngineCrash) as caught:
        engine.answer(PROMPT, GREEDY, 8)
    assert "couldn't bind" in caught.value.log_tail
    assert alive(tmp_path) == [holder.server.pid]


# -- programs ----------------------------------------------------------------------------------------------------------


@posix_only
def test_a_server_is_taken_from_where_it_is_asked_for_then_from_path_then_from_the_package(tmp_path: Path) -> None:
    for name in ("asked", "listed", "home/llama.cpp/build/bin"):
        (tmp_path / name).mkdir(parents=True)
        script(tmp_path / name, "b11434")
    asked, usual = str(tmp_path / "asked" / "llama-server"), "home/llama.cpp/build/bin/llama-server"
    path = {"PATH": os.pathsep.join([".", str(tmp_path / "listed")]), "HOME": str(tmp_path / "home")}
    assert find_server(asked, path).argv == find_server(str(tmp_path / "asked"), path).argv == (asked,)
    assert find_server("", path).argv == (str(tmp_path / "listed" / "llama-server"),)
    assert find_server("", {"HOME": path["HOME"]}).argv == (str(tmp_path / usual),)
    assert find_server("", {"HOME": str(tmp_path)}).argv == PACKAGED


def test_devices_are_those_that_the_server_names(tmp_path: Path) -> None:
    program = Program((sys.executable, str(script(tmp_path, "b11434", "gpu"))), "fake")
    (gpu,) = devices(program, within_s=60)
    assert (gpu.name, gpu.description, gpu.kind, gpu.unified) == ("CUDA0", "Example GPU 9000", "gpu", False)
    assert (gpu.memory_total_bytes, gpu.memory_free_bytes) == (24564 << 20, 23028 << 20)


def test_a_server_that_does_not_list_devices_leaves_them_unknown(tmp_path: Path) -> None:
    program = Program((sys.executable, str(script(tmp_path, "b11434"))), "fake")
    assert devices(program, within_s=60) is None


@posix_only
def test_the_engine_is_known_by_its_name(tmp_path: Path) -> None:
    found = RUNNERS["llama-server"](str(script(tmp_path, "b9101", "gpu")))
    runner = found.start(False, lambda: None)
    assert [device.name for device in found.devices or ()] == ["CUDA0"]
    assert (runner.build.llama_cpp_build, runner.repack_off, runner.used) == (9101, True, False)


@posix_only
def test_the_folder_the_user_is_in_does_not_decide_what_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path, "b11434")
    monkeypatch.chdir(tmp_path)
    assert find_server("", {"PATH": os.pathsep.join([".", ""]), "HOME": str(tmp_path)}).packaged


def test_no_server_at_all_is_an_error_that_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(FileProblem) as caught:
        find_server("", {"HOME": str(tmp_path)})
    assert "pip install" in caught.value.fix
    with pytest.raises(FileProblem, match="no llama-server at"):
        find_server(str(tmp_path / "missing"))


@posix_only
def test_files_that_are_no_llama_server_are_errors(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\necho hello\n")
    with pytest.raises(FileProblem, match="cannot be run"):
        find_server(str(plain))
    plain.chmod(0o755)
    with pytest.raises(OptionError, match="how it speculates"):
        _ = LlamaServer(find_server(str(plain))).build
    plain.write_bytes(b"\x7fELF not a program")
    with pytest.raises(OptionError, match="cannot be run"):
        _ = LlamaServer(find_server(str(plain))).build


def test_a_program_that_never_says_what_it_is_is_ended_at_its_deadline(start: Start, tmp_path: Path) -> None:
    engine = start(mode="mute", deadlines=Deadlines(speak_s=2))
    with pytest.raises(EngineTimeout, match="did not answer --version within 2 s") as caught:
        engine.answer(PROMPT, GREEDY, 16)
    assert caught.value.fix
    assert len((tmp_path / "pids").read_text().split()) == 2, "it had started a child of its own"
    assert alive(tmp_path) == []


def test_a_program_that_does_not_start_here_is_told_in_its_own_words(start: Start) -> None:
    with pytest.raises(OptionError, match="does not start") as caught:
        _ = start(mode="lacks-a-library").build
    assert "libggml.so" in caught.value.why
    assert caught.value.fix


@posix_only
def test_a_rebuilt_binary_is_another_build(tmp_path: Path) -> None:
    program = Program((str(script(tmp_path, "b9101")),), "fake")
    first = LlamaServer(program).build
    script(tmp_path, "b11434")
    second = LlamaServer(program).build
    assert (first.llama_cpp_build, second.llama_cpp_build) == (9101, 11434)
    assert first.key != second.key


# -- decodes -----------------------------------------------------------------------------------------------------------

OPERATIONS: list[Operation] = [("target", 1), ("draft", 1), ("target", 5), ("draft", 3), ("target", 1), BARE]


def timed(engine: LlamaServer, rounds: int = 2) -> list[list[float]]:
    return engine.time_decodes(OPERATIONS, range(100, 200), 64, GREEDY, rounds=rounds, budget_s=60)


def test_decodes_are_timed_each_for_itself(start: Start, tmp_path: Path) -> None:
    wanted = [decode_ms("Draft" if role == "draft" else "Target", b) / 1e3 for role, b in OPERATIONS]
    assert timed(start()) == [pytest.approx(wanted)] * 2
    assert len(alive(tmp_path)) == 2  # the target and the draft, each alone


def test_the_draft_alone_ends_before_it_speculates(start: Start, tmp_path: Path) -> None:
    engine = start()
    timed(engine)
    engine.speculate(PROMPT, CONFIG, GREEDY, 8)
    assert len(alive(tmp_path)) == 2  # the target alone, and both


def test_where_memory_is_short_a_target_is_held_once(start: Start, tmp_path: Path) -> None:
    engine = start()
    engine.open("target", TARGET, LoadOptions(512, 2, room_for_two=False))
    engine.speculate(PROMPT, CONFIG, GREEDY, 8)
    timed(engine)
    assert len(alive(tmp_path)) == 2  # the pair, as two
    engine.speculate(PROMPT, CONFIG, GREEDY, 8)
    assert len(alive(tmp_path)) == 1


def test_a_server_that_cannot_go_on_from_what_it_holds_is_refused(start: Start) -> None:
    with pytest.raises(
        EngineRefusal, match="does not time a decode of 5 tokens of the target: it decoded 69"
    ) as caught:
        timed(start(mode="cannot-go-on"))
    assert "in this process" in caught.value.fix


@pytest.mark.parametrize("mode", ["garbage", "other-json"])
def test_a_timing_that_makes_no_sense_is_refused(start: Start, mode: str) -> None:
    with pytest.raises(EngineRefusal, match="completion"):
        timed(start(mode=mode))


# -- the real server ---------------------------------------------------------------------------------------------------

TOKENS = 40


@pytest.fixture(scope="module")
def models() -> tuple[Model, Model]:
    return read_model(build(Recipe(30, "F16"))), read_model(build(Recipe(29, "Q8_0")))


@pytest.fixture(scope="module")
def real(models: tuple[Model, Model]) -> Iterator[LlamaServer]:
    engine = LlamaServer(Program(PACKAGED, "packaged"), extra_buffers=False)
    for role, model in zip(("target", "draft"), models, strict=True):
        engine.open(role, model, LoadOptions(512, 1))
    yield engine
    engine.shutdown()


@pytest.fixture(scope="module")
def question(real: LlamaServer) -> tuple[int, ...]:
    return real.tokenize([Message("user", "List the planets and say one thing about each.")])


@pytest.mark.alone
def test_the_real_server_speaks_the_chat_template(real: LlamaServer, question: tuple[int, ...]) -> None:
    text, _ = real.text(question)
    assert text.startswith("<|im_start|>")
    assert "List the planets" in text
    assert text.rstrip().endswith("<|im_start|>assistant")


@pytest.mark.alone
def test_the_real_server_speculates_as_told(
    real: LlamaServer, models: tuple[Model, Model], question: tuple[int, ...]
) -> None:
    baseline = real.answer(question, GREEDY, TOKENS)
    assert (baseline.tokens, baseline.drafted) == (TOKENS, 0)
    assert real.answer(question, GREEDY, TOKENS).answer_tokens == baseline.answer_tokens
    for k in (2, 4):
        run = real.speculate(question, Config(models[1].content_hash, k), GREEDY, TOKENS)
        assert run.tokens == TOKENS
        assert 0 < run.accepted < run.drafted <= k * run.steps
        assert run.steps + run.accepted + 1 == run.tokens
        assert sum(run.accepted_per_position) == run.accepted
        assert sorted(run.accepted_per_position, reverse=True) == list(run.accepted_per_position)
        assert len(run.accepted_per_position) == k
        assert run.decode_s > 0
        assert run.prefill_s > 0


@pytest.mark.alone
def test_speculation_of_the_real_server_does_not_change_its_text(question: tuple[int, ...]) -> None:
    """Of a quantized target: batches of another size round F16 weights otherwise, and tip what is nearly a tie."""
    target, draft = read_model(build(Recipe(30, "Q8_0"))), read_model(build(Recipe(27, "Q8_0")))
    engine = LlamaServer(Program(PACKAGED, "packaged"), extra_buffers=False)
    with contextlib.ExitStack() as stack:
        stack.callback(engine.shutdown)
        engine.open("target", target, LoadOptions(512, 1))
        engine.open("draft", draft, LoadOptions(512, 1))
        run = engine.speculate(question, Config(draft.content_hash, 4), GREEDY, TOKENS)
        assert run.answer_tokens == engine.answer(question, GREEDY, TOKENS).answer_tokens


@pytest.mark.alone
def test_the_real_server_keeps_a_quantized_cache(
    real: LlamaServer, models: tuple[Model, Model], question: tuple[int, ...]
) -> None:
    engine = LlamaServer(Program(PACKAGED, "packaged"), extra_buffers=False)
    with contextlib.ExitStack() as stack:
        stack.callback(engine.shutdown)
        for role, model in zip(("target", "draft"), models, strict=True):
            engine.open(role, model, LoadOptions(512, 1, cache_type="q8_0"))
        run = engine.speculate(question, Config(models[1].content_hash, 4), GREEDY, TOKENS)
    assert 0 < run.accepted < run.drafted
    plain = real.answer(question, GREEDY, TOKENS).answer_tokens
    alike = next((i for i, pair in enumerate(zip(run.answer_tokens, plain, strict=True)) if pair[0] != pair[1]), TOKENS)
    assert alike >= 4, "eight bits for keys and values change the text late, if at all"


@pytest.mark.alone
def test_the_real_server_forces_acceptance(
    real: LlamaServer, models: tuple[Model, Model], question: tuple[int, ...]
) -> None:
    config = Config(models[1].content_hash, 3)
    run = real.speculate_forced(question, config, (1.0, 1.0, 0.0), GREEDY, TOKENS)
    whole = run.steps - 1  # the last step drafts what is left of the answer
    assert run.accepted_per_position[0] >= whole
    assert run.accepted_per_position[1] >= whole
    assert run.accepted_per_position[2] == 0


@pytest.mark.alone
def test_decodes_of_the_real_server_cost_more_the_more_tokens_they_have(
    real: LlamaServer, question: tuple[int, ...]
) -> None:
    operations: list[Operation] = [("target", 1), ("target", 16), ("draft", 1), BARE, ("draft", 16)]
    text = question * (1 + 160 // len(question))
    rounds = real.time_decodes(operations, text, 128, GREEDY, rounds=3, budget_s=60)
    assert len(rounds) == 3
    fastest = [min(one) for one in zip(*rounds, strict=True)]
    assert fastest[0] < fastest[1] < 16 * fastest[0]
    assert fastest[2] < fastest[4] < 16 * fastest[2]
    assert 0.5 * fastest[0] < fastest[3] < 2 * fastest[0]


@pytest.mark.alone
def test_the_real_server_refuses_a_draft_it_does_not_use(
    real: LlamaServer, models: tuple[Model, Model], question: tuple[int, ...], tmp_path: Path
) -> None:
    """Another vocabulary: the server drops the draft and serves on, as if it had one."""
    other = tmp_path / "other.gguf"
    content = Path(models[1].path).read_bytes()
    word = b"hello"
    assert content.count(word) > 0
    other.write_bytes(content.replace(word, b"hullo"))
    real.open("draft", read_model(other), LoadOptions(512, 1))
    with pytest.raises(EngineRefusal, match="without speculating") as caught:
        real.speculate(question, Config("other", 4, p_min=0.9), GREEDY, 8)
    assert "compatible" in caught.value.why or "speculative" in caught.value.why
    real.open("draft", models[1], LoadOptions(512, 1))


@pytest.mark.alone
def test_the_real_server_says_why_it_cannot_load_a_model(models: tuple[Model, Model], tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(Path(models[1].path).read_bytes()[:100_000])
    engine = LlamaServer(Program(PACKAGED, "packaged"), extra_buffers=False)
    engine.open("target", make_model(path=str(broken), weights_bytes=1000), LoadOptions(256, 1))
    with pytest.raises(EngineCrash) as caught:
        engine.answer(PROMPT, GREEDY, 8)
    assert "broken.gguf" in caught.value.log_tail
    engine.shutdown()
