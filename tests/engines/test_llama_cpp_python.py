"""The real engine in its real worker process, on real small models."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from advisor.engines.base import LoadOptions, RolloutOptions
from advisor.engines.llama_cpp_python import LlamaCppPython
from advisor.engines.process import WorkerProcess
from advisor.errors import EngineCrash, EngineRefusal, EngineTimeout
from advisor.gguf import read_model
from advisor.testing.zoo import Recipe, build
from advisor.types import Config, Message, Model, Sampling, Transcript
from advisor.workload import builtin

pytestmark = pytest.mark.alone

ROLLOUT = RolloutOptions(p_min=0.4, length=8, chains=8)
MAX_TOKENS = 48
LOADED = {"context": 256, "threads": 1, "extra_buffers": False}


@pytest.fixture(scope="module")
def target() -> Model:
    return read_model(build(Recipe(30, "F16")))


@pytest.fixture(scope="module")
def draft() -> Model:
    return read_model(build(Recipe(27, "Q8_0")))


@pytest.fixture
def engine(target: Model, draft: Model) -> Iterator[LlamaCppPython]:
    engine = LlamaCppPython()
    engine.open("target", target, LoadOptions(context=512, threads=2, outputs=17))
    engine.open("draft", draft, LoadOptions(context=512, threads=2, sequences=ROLLOUT.chains + 1, outputs=32))
    yield engine
    engine.shutdown()


def transcripts_of(engine: LlamaCppPython, sampling: Sampling, count: int) -> list[Transcript]:
    written = []
    for prompt in builtin().prompts[:count]:
        tokens = engine.tokenize(prompt.messages)
        run = engine.answer(tokens, sampling, MAX_TOKENS)
        text, ended = engine.text(run.answer_tokens)
        written.append(Transcript(prompt.category, tokens, run.answer_tokens, ended, text))
    return written


def test_the_chat_template_wraps_the_message(engine):
    text, _ = engine.text(engine.tokenize([Message("user", "Say hello.")]))
    assert text.startswith("<|im_start|>")
    assert "Say hello." in text
    assert text.rstrip().endswith("<|im_start|>assistant")


def test_a_quantized_cache_writes_nearly_the_same(engine, target, draft):
    prompt = engine.tokenize([Message("user", "Name three animals.")])
    plain = engine.answer(prompt, Sampling(), 16)
    for role, model in (("target", target), ("draft", draft)):
        engine.open(role, model, LoadOptions(context=512, threads=2, outputs=17, cache_type="q8_0"))
    quantized = engine.speculate(prompt, Config(draft.content_hash, 4), Sampling(), 16)
    assert quantized.drafted > 0
    assert quantized.answer_tokens[:4] == plain.answer_tokens[:4]


def test_a_model_drafting_for_itself_is_always_right(engine, target):
    engine.open("draft", target, LoadOptions(context=512, threads=2))
    transcript = transcripts_of(engine, Sampling(), 1)[0]
    run = engine.speculate(transcript.prompt_tokens, Config("", 4), Sampling(), MAX_TOKENS)
    assert run.accepted >= 0.95 * run.drafted
    assert sum(run.accepted_per_position) == run.accepted
    assert run.steps + run.accepted + 1 == run.tokens or run.answer_tokens[-1] == transcript.answer_tokens[-1]


def test_almost_all_time_of_the_loop_is_inside_llama_cpp(engine):
    prompt = engine.tokenize([Message("user", "Write a short story about a lighthouse.")])
    run = engine.speculate(prompt, Config("", 4, p_min=0.5), Sampling(), MAX_TOKENS)
    assert run.native_s / run.decode_s > 0.95


def test_a_run_records_the_most_memory_its_process_held(engine, target, draft):
    prompt = engine.tokenize([Message("user", "Hello.")])
    run = engine.speculate(prompt, Config("", 4), Sampling(), 8)
    assert run.peak_bytes > target.weights_bytes + draft.weights_bytes


def test_a_draft_is_freed_before_the_next_is_loaded(target: Model):
    other = read_model(build(Recipe(29, "F16")))
    worker = WorkerProcess()
    for model in (target, other, target):
        worker.ask("open", {"role": "draft", "path": model.path, "options": LOADED}, timeout_s=60)
    assert target.weights_bytes < most_resident_bytes(worker.pid) < target.weights_bytes + other.weights_bytes
    worker.close()


def most_resident_bytes(pid: int) -> int:
    """Ever; on macOS what is resident now."""
    if sys.platform == "linux":
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    use = psutil.Process(pid).memory_info()
    return int(getattr(use, "peak_wset", use.rss))


def test_a_killed_worker_is_a_typed_error_and_the_next_question_is_answered(engine):
    prompt = engine.tokenize([Message("user", "Hello.")])
    os.kill(engine._worker.pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
    with pytest.raises(EngineCrash) as caught:
        engine.answer(prompt, Sampling(), 4)
    if os.name != "nt":
        assert caught.value.signal_name == "SIGKILL"
    assert engine.answer(prompt, Sampling(), 4).tokens > 0


def test_a_file_llama_cpp_cannot_load_is_refused_with_its_own_words(tmp_path: Path, draft: Model):
    import dataclasses

    broken = tmp_path / "broken.gguf"
    broken.write_bytes(Path(draft.path).read_bytes()[:100_000])
    engine = LlamaCppPython()
    engine.open("draft", dataclasses.replace(draft, path=str(broken)), LoadOptions(context=256, threads=1))
    with pytest.raises(EngineRefusal, match=r"could not load broken\.gguf"):
        engine.score(Transcript("x", (1, 2), (3, 4), False), ROLLOUT)
    engine.shutdown()


def test_the_remedy_is_tried_once_found_and_told(draft: Model):
    """A worker that dies on the first decode with extra buffers, as AMX hosts do, is survived without them."""
    told: list[str] = []
    engine = LlamaCppPython(
        on_remedy=lambda: told.append("remedy"),
        start_worker=lambda _waiting: WorkerProcess("tests.engines.crashing_worker"),
    )
    engine.open("draft", draft, LoadOptions(context=256, threads=1, sequences=2, outputs=8))
    trace = engine.score(Transcript("x", (1, 2), (3, 4), False), RolloutOptions(2.0, 1, 1))
    assert len(trace.proposal) == 2
    assert engine.repack_off
    assert told == ["remedy"]
    engine.shutdown()


def test_a_crash_that_the_remedy_does_not_cure_is_reported_with_its_signal(draft: Model, monkeypatch):
    monkeypatch.setenv("CRASH_ALWAYS", "1")
    engine = LlamaCppPython(start_worker=lambda _waiting: WorkerProcess("tests.engines.crashing_worker"))
    engine.open("draft", draft, LoadOptions(context=256, threads=1))
    with pytest.raises(EngineCrash) as caught:
        engine.score(Transcript("x", (1, 2), (3, 4), False), ROLLOUT)
    assert "the last words" in caught.value.log_tail
    assert not engine.repack_off
    engine.shutdown()


def test_a_killed_worker_leaves_no_talk_about_tensors(draft: Model):
    worker = WorkerProcess()
    worker.ask("open", {"role": "draft", "path": draft.path, "options": LOADED}, timeout_s=60)
    psutil.Process(worker.pid).kill()
    with pytest.raises(EngineCrash) as caught:
        worker.ask("answer", {"prompt": [1], "sampling": {}, "max_tokens": 1}, timeout_s=60)
    assert caught.value.why == ""


def test_what_llama_cpp_complains_of_is_passed_on(draft: Model, tmp_path: Path):
    broken = tmp_path / "half.gguf"
    content = Path(draft.path).read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    worker = WorkerProcess()
    with pytest.raises(EngineRefusal) as caught:
        worker.ask("open", {"role": "draft", "path": str(broken), "options": LOADED}, timeout_s=60)
    worker.close()
    assert "corrupted or incomplete" in caught.value.why
    assert "print_info" not in caught.value.why


def test_a_hanging_worker_is_stopped_at_its_time_limit(monkeypatch):
    monkeypatch.setenv("HANG", "1")
    worker = WorkerProcess("tests.engines.crashing_worker")
    with pytest.raises(EngineTimeout):
        worker.ask("open", {"role": "draft", "path": "x", "options": {}}, timeout_s=1.5)
    assert worker._process.returncode is not None


ASKS_AND_WAITS = """
from advisor.engines.process import WorkerProcess
worker = WorkerProcess("tests.engines.crashing_worker")
print(worker.pid, flush=True)
worker.ask("open", {"role": "draft", "path": "", "options": {}}, timeout_s=600)
"""


def test_a_worker_in_the_midst_of_a_call_does_not_outlive_a_killed_parent(monkeypatch):
    monkeypatch.setenv("HANG", "1")
    parent = subprocess.Popen([sys.executable, "-c", ASKS_AND_WAITS], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert psutil.wait_procs([worker], timeout=20)[1] == []
