"""Security: what bandit finds, chat templates that attack, who listens where, and who may read what is written."""

from __future__ import annotations

import importlib.util
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from advisor.engines.base import NO_LIMIT, LoadOptions
from advisor.engines.find_server import find_server
from advisor.engines.llama_cpp_python import LlamaCppPython
from advisor.engines.llama_server import LlamaServer
from advisor.engines.process import WorkerProcess
from advisor.errors import EngineError, FileProblem
from advisor.gguf import read_model, read_token_texts
from advisor.testing.gguf_files import llama_tensors, llama_values, write
from advisor.testing.zoo import Recipe, base_model, build
from advisor.types import Message, Model
from chaos.outcome import Outcome
from chaos.world import Ground, environment, search_in

ROOT = Path(__file__).parent.parent
CHECKED = ("advisor", "benchmarks", "chaos", "scripts")
TEMPLATE_PATIENCE_S = 4.0
LOOPBACK = ("127.0.0.1", "::1")

ATTACKS = {
    "endless loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a text doubled 40 times": (
        "{% set ns = namespace(x='aaaaaaaa') %}"
        "{% for i in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}"
    ),
    "a long product": "{{ 'a' * 9999999999 }}",
    "many characters": "{% for a in range(99999) %}{{ 'a' * 100 }}{% endfor %}",
    "Python's inside": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "a function's globals": "{{ raise_exception.__globals__['os'].system('true') }}",
    "a macro that calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "a broken template": "{% for %}",
    "a power": "{{ 9 ** 9 ** 9 }}",
}


def security(ground: Ground, *, real_server: bool) -> Iterator[Outcome]:
    yield bandit()
    yield chat_templates(ground.folder)
    yield private_files(ground)
    if real_server:
        yield loopback_only()


def bandit() -> Outcome:
    what = "bandit over the sources"
    if importlib.util.find_spec("bandit") is None:
        return Outcome(what, 0, skipped="bandit is not installed (pip install bandit)")
    folders = [str(ROOT / name) for name in CHECKED if (ROOT / name).is_dir()]
    command = [sys.executable, "-m", "bandit", "--quiet", "--configfile", str(ROOT / "pyproject.toml"), "-r", *folders]
    done = subprocess.run(
        [*command, "--format", "custom", "--msg-template", "{relpath}:{line} {test_id} {msg}"], **_TEXT
    )
    found = [line for line in done.stdout.splitlines() if line.strip()]
    if done.returncode and not found:
        found = [done.stderr[-300:]]
    return Outcome(what, 1, tuple(found))


_TEXT: dict[str, Any] = {"capture_output": True, "text": True, "check": False}


class _PatientFor(WorkerProcess):
    """Gives a chat template less time than a user would have to wait for."""

    def ask(
        self, call: str, arguments: dict[str, Any], *, timeout_s: float, within_s: float = NO_LIMIT
    ) -> dict[str, Any]:
        patience_s = TEMPLATE_PATIENCE_S if call == "render_chat" else timeout_s
        return super().ask(call, arguments, timeout_s=patience_s, within_s=within_s)


def chat_templates(folder: Path, attacks: Mapping[str, str] = ATTACKS) -> Outcome:
    """Each in a file that llama.cpp loads: refused or harmless, and the next question is answered."""
    lost: list[str] = []
    vocabulary = read_token_texts(base_model())
    for name, template in attacks.items():
        model = _model_with(folder / "template.gguf", template, vocabulary)
        engine = LlamaCppPython(start_worker=lambda _waiting: _PatientFor())
        engine.open("target", model, LoadOptions(context=512, threads=1))
        started = time.monotonic()
        try:
            tokens = engine.tokenize([Message("user", "Hello")])
            if len(tokens) > model.context_length:
                lost.append(f"{name}: {len(tokens)} tokens were let through")
        except EngineError:
            pass
        finally:
            engine.shutdown()
        if time.monotonic() - started > TEMPLATE_PATIENCE_S + 30:
            lost.append(f"{name}: it took {time.monotonic() - started:.0f} s")
    return Outcome("chat templates that attack", len(attacks), tuple(lost))


def _model_with(path: Path, template: str, vocabulary: list[bytes]) -> Model:
    """A tiny model, without weights of any meaning, that llama.cpp loads."""
    shapes: dict[str, Any] = {"layers": 1, "embedding": 32, "feed_forward": 32, "heads": 1, "kv_heads": 1}
    values = {**llama_values(vocabulary=vocabulary, **shapes), "tokenizer.chat_template": template}
    return read_model(write(path, values, llama_tensors(vocabulary=len(vocabulary), **shapes)))


def private_files(ground: Ground) -> Outcome:
    """Nothing that a search writes down of prompts and answers can be read by others."""
    what = "files are readable by their owner only"
    if os.name == "nt":
        return Outcome(what, 0, skipped="Windows has other rights")
    data, temporary = ground.data_dir("private"), ground.folder / "temporary"
    temporary.mkdir()
    with environment(TMPDIR=str(temporary)):
        tempfile.tempdir = None  # forgets what it found before
        try:
            search_in(data, ground.models)
        finally:
            tempfile.tempdir = None
    written = [*temporary.rglob("*"), data / "measurements.sqlite3", *(data / "recommendations").glob("*")]
    lost = [f"{path.name}: {stat.filemode(path.stat().st_mode)}" for path in written if path.stat().st_mode & 0o077]
    return Outcome(what, len(written), tuple(lost), "the store, the last recommendation, temporary files")


def loopback_only() -> Outcome:
    """The real llama-server, as the advisor starts it."""
    what = "servers listen on loopback only"
    try:
        program = find_server("")
    except FileProblem as error:
        return Outcome(what, 0, skipped=error.what)
    engine = LlamaServer(program)
    lost, listening = [], []
    try:
        engine.open("target", read_model(build(Recipe(29, "Q8_0"))), LoadOptions(context=512, threads=1))
        engine.tokenize([Message("user", "Hello")])
        for process in psutil.Process().children(recursive=True):
            listening += [one for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
    finally:
        engine.shutdown()
    lost += [f"{one.laddr.ip}:{one.laddr.port}" for one in listening if one.laddr.ip not in LOOPBACK]
    if not listening:
        lost.append("no server was seen to listen")
    return Outcome(what, len(listening), tuple(lost))
