"""Simulated machines, each with a data directory of its own: what one measures, another must be able to use.

Acceptance is the same everywhere, costs are not: machine B has a slower target and cheaper drafts than A, and another
build of the engine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from advisor import pipeline, surroundings
from advisor.engines.simulated import Clock, SimulatedDraft, SimulatedEngine, World
from advisor.pipeline import Request
from advisor.progress import Silent
from advisor.testing.builders import TARGET_S, make_host, make_model
from advisor.testing.surroundings import simulated_sources
from advisor.types import Build, Config, Host, Message, Model, Prompt, Recommendation, Settings, Workload

GIB = 1024**3
TARGET = make_model("Target-14B", "Q8_0", weights_bytes=14 * GIB)
SMALL = make_model("Small-0.5B", "Q8_0", weights_bytes=GIB // 2)
MIDDLE = make_model("Middle-1.5B", "Q4_0", weights_bytes=GIB)
WORKLOAD = Workload(
    "test",
    tuple(Prompt((Message("user", f"question {i}"),), ("code", "chat")[i % 2]) for i in range(12)),
    content_hash="w1",
)
WORLD_A = World(
    target_s=TARGET_S,
    drafts={
        SMALL.content_hash: SimulatedDraft(token_s=0.006, row_s=0.0005, match={"": 0.65}),
        MIDDLE.content_hash: SimulatedDraft(token_s=0.012, row_s=0.0008, match={"": 0.85}),
    },
)
WORLD_B = World(
    target_s=tuple(0.2 * (1 + 0.08 * (b - 1)) for b in range(1, 30)),
    drafts={
        SMALL.content_hash: SimulatedDraft(token_s=0.004, row_s=0.001, match={"": 0.65}),
        MIDDLE.content_hash: SimulatedDraft(token_s=0.05, row_s=0.004, match={"": 0.85}),
    },
)
HOST_B = make_host(fingerprint="ffffffffffffffff", cpu="Other CPU 1")


class OtherBuild(SimulatedEngine):
    @property
    def build(self) -> Build:
        return Build("simulated", "2", libraries="another-digest")


@dataclass
class Machine:
    """One machine; ``engines`` are those that it started."""

    data: Path
    world: World = WORLD_A
    host: Host = field(default_factory=make_host)
    make: type[SimulatedEngine] = SimulatedEngine
    engines: list[SimulatedEngine] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def recommend(
        self, drafts: tuple[Model, ...] = (SMALL, MIDDLE), workload: Workload = WORKLOAD, **asked: Any
    ) -> Recommendation:
        """``asked`` are fields of the Request or of its Settings."""
        of_request = {f.name for f in dataclasses.fields(Request)}
        given = {name: value for name, value in asked.items() if name in of_request}
        settings = {name: value for name, value in asked.items() if name not in of_request}
        request = Request(
            Path(TARGET.path),
            tuple(Path(draft.path) for draft in drafts),
            workload,
            Settings(**{"budget_s": 3600, "max_tokens": 100, **settings}),
            **given,
        )
        with self.active():
            return pipeline.recommend(request, _Heard(self.notes), self._start)

    @contextmanager
    def active(self) -> Iterator[None]:
        """From here on this process is on this machine."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ADVISOR_DATA_DIR", str(self.data))
            self.data.mkdir(parents=True, exist_ok=True)
            patch.setenv("ADVISOR_LOCK_DIR", str(self.data))  # a machine of its own
            patch.setattr(pipeline, "probe", lambda *, store_dir, fresh=False: self.host)
            patch.setattr(surroundings, "this_machine", lambda: simulated_sources(Clock()))
            yield

    def _start(self, extra_buffers: bool, on_remedy: Any) -> SimulatedEngine:
        self.engines.append(self.make(self.world))
        return self.engines[-1]


class _Heard(Silent):
    def __init__(self, notes: list[str]) -> None:
        self._notes = notes

    def note(self, text: str) -> None:
        self._notes.append(text)


def machine_a(folder: Path) -> Machine:
    return Machine(folder / "a")


def machine_b(folder: Path) -> Machine:
    return Machine(folder / "b", WORLD_B, HOST_B, OtherBuild)


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    see_models(monkeypatch)


def see_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Model headers from records, and no tokenizer files."""
    by_path = {Path(model.path): model for model in (TARGET, SMALL, MIDDLE)}
    monkeypatch.setattr(pipeline, "read_model", lambda path: by_path[path])
    monkeypatch.setattr("advisor.prune.incompatibility", lambda target, draft: None)


def true_speedup(world: World, config: Config, max_tokens: int = 100) -> float:
    """What the config really gives: every prompt run in the simulated engine."""
    engine = SimulatedEngine(world)
    if config.draft:
        engine.open("draft", next(m for m in (SMALL, MIDDLE) if m.content_hash == config.draft), None)
    prompts = [engine.tokenize(prompt.messages) for prompt in WORKLOAD.prompts]
    sampling = Settings().sampling
    base = sum(engine.answer(prompt, sampling, max_tokens).decode_s for prompt in prompts)
    return base / sum(engine.speculate(prompt, config, sampling, max_tokens).decode_s for prompt in prompts)
