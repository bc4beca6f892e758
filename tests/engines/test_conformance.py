"""Every engine of the project through the suite that a new one has to pass."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from advisor.engines.find_server import PACKAGED, Program
from advisor.engines.llama_cpp_python import LlamaCppPython
from advisor.engines.llama_server import LlamaServer
from advisor.engines.simulated import SimulatedDraft, SimulatedEngine, World
from advisor.gguf import read_model
from advisor.testing.builders import make_model
from advisor.testing.engines import EngineConformance, RunnerConformance
from advisor.testing.zoo import Recipe, build
from advisor.types import Model
from tests.engines.fake_llama_server import script

pytestmark = pytest.mark.alone

TARGET, DRAFT = make_model("Target", weights_bytes=1000), make_model("Draft", weights_bytes=100)


@pytest.fixture(scope="module")
def zoo() -> tuple[Model, Model]:
    return read_model(build(Recipe(30, "F16"))), read_model(build(Recipe(27, "Q8_0")))


class TestSimulated(EngineConformance):
    def new(self) -> SimulatedEngine:
        drafts = {DRAFT.content_hash: SimulatedDraft(0.01, {"": 0.7}, row_s=0.001)}
        return SimulatedEngine(World((0.1, 0.11, 0.12), drafts, answer_period=12))

    def models(self) -> tuple[Model, Model]:
        return TARGET, DRAFT


class TestLlamaCppPython(EngineConformance):
    @pytest.fixture(autouse=True)
    def files(self, zoo: tuple[Model, Model]) -> None:
        self.zoo = zoo

    def new(self) -> LlamaCppPython:
        return LlamaCppPython()

    def models(self) -> tuple[Model, Model]:
        return self.zoo


class TestFakeLlamaServer(RunnerConformance):
    """The engine, against a script that answers as a llama-server does."""

    methods = ("ngram-simple", "ngram-mod")

    @pytest.fixture(autouse=True)
    def program(self, tmp_path: Path) -> None:
        self.started = Program((sys.executable, str(script(tmp_path, "b11434"))), "fake")

    def new(self) -> LlamaServer:
        return LlamaServer(self.started)

    def models(self) -> tuple[Model, Model]:
        return TARGET, DRAFT


class TestRealLlamaServer(RunnerConformance):
    """The llama-server inside the package xllamacpp."""

    methods = ("ngram-simple",)

    @pytest.fixture(autouse=True)
    def files(self, zoo: tuple[Model, Model]) -> None:
        pytest.importorskip("xllamacpp")
        self.zoo = zoo

    def new(self) -> LlamaServer:
        return LlamaServer(Program(PACKAGED, "xllamacpp"))

    def models(self) -> tuple[Model, Model]:
        return self.zoo
