"""A worker process without models: the real protocol, simulated answers, and faults on demand.

Run as ``python -m chaos.simulated_worker``. It keeps the ledger, and with CHAOS_PACE_S takes that long for each answer,
as a real one would: a search must last a while for something to happen in its midst.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from advisor.engines.base import LoadOptions, Operation, Role, RolloutOptions
from advisor.engines.simulated import SimulatedEngine
from advisor.engines.worker import serve
from advisor.gguf import read_model
from advisor.types import Config, Message, Model, Run, Sampling, Transcript
from chaos import faults, ledger
from chaos.world import simulated_world

PACE = "CHAOS_PACE_S"


class SimulatedSession:
    """The calls of ``advisor.engines.worker.Session`` over a SimulatedEngine."""

    def __init__(self) -> None:
        self._models: dict[Role, Model] = {}
        self._pace_s = float(os.environ.get(PACE, "0"))
        self._engine = SimulatedEngine(simulated_world({}))
        self._extra_buffers = True

    def open(self, role: Role, path: str, options: dict[str, Any]) -> dict[str, Any]:
        self._models[role] = read_model(Path(path))
        self._extra_buffers = bool(options["extra_buffers"])
        self._strike("open")
        by_hash = {model.content_hash: Path(model.path).stem for model in self._models.values()}
        self._engine.world = simulated_world(by_hash)
        self._engine.open(role, self._models[role], LoadOptions(int(options["context"]), int(options["threads"])))
        return self._kept("open", {"role": role}, dict)

    def close(self, role: Role) -> dict[str, Any]:
        self._models.pop(role, None)
        self._engine.close(role)
        return {}

    def render_chat(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        return {"tokens": self._engine.tokenize([Message(**message) for message in messages])}

    def text_of(self, tokens: list[int]) -> dict[str, Any]:
        text, ended = self._engine.text(tokens)
        return {"text": text, "ended": ended}

    def answer(self, prompt: list[int], sampling: dict[str, Any], max_tokens: int) -> dict[str, Any]:
        self._strike("answer")
        asked = {"prompt": prompt, "sampling": sampling, "max_tokens": max_tokens}
        return self._kept(
            "answer", asked, lambda: _fields(self._engine.answer(prompt, Sampling(**sampling), max_tokens))
        )

    def speculate(
        self, prompt: list[int], config: dict[str, Any], sampling: dict[str, Any], max_tokens: int
    ) -> dict[str, Any]:
        self._strike("speculate")
        asked = {"prompt": prompt, "config": config, "sampling": sampling, "max_tokens": max_tokens}
        wanted = (prompt, Config(**config), Sampling(**sampling), max_tokens)

        def speculate() -> dict[str, Any]:
            run = self._engine.speculate(*wanted)
            return _fields(dataclasses.replace(run, decode_s=run.decode_s * self._surprise(config)))

        return self._kept("speculate", asked, speculate)

    def score(
        self, role: Role, prompt: list[int], answer_tokens: list[int], rollout: dict[str, Any], temperature: float
    ) -> dict[str, Any]:
        self._strike("score")

        def replay() -> dict[str, Any]:
            transcript = Transcript("", tuple(prompt), tuple(answer_tokens), ended=False)
            trace = self._engine.score(transcript, RolloutOptions(**rollout), role, temperature)
            seen = {"proposal": trace.proposal, "probability": trace.probability, "rollout": trace.rollout}
            return {**seen, "chosen": trace.chance}

        asked = {"role": role, "prompt": prompt, "answer": answer_tokens, "rollout": rollout}
        return self._kept("score", asked, replay)

    def weigh(self, prompt: list[int], answer_tokens: list[int], sampling: dict[str, Any]) -> dict[str, Any]:
        transcript = Transcript("", tuple(prompt), tuple(answer_tokens), ended=False)
        return {"chosen": self._engine.weigh(transcript, Sampling(**sampling))}

    def sleeps(self) -> dict[str, Any]:
        return {"sleeps": True}

    def time_decodes(self, operations: list[list[Any]], **arguments: Any) -> dict[str, Any]:
        self._strike("time_decodes")
        pairs: list[Operation] = [(role, int(b)) for role, b in operations]
        arguments["sampling"] = Sampling(**arguments["sampling"])
        asked = {"operations": operations}
        return self._kept("time_decodes", asked, lambda: {"rounds": self._engine.time_decodes(pairs, **arguments)})

    def _surprise(self, config: dict[str, Any]) -> float:
        """1 to 1.3, the same for the same config: what curves cannot know, so that a search needs several runs."""
        return 1 + 0.3 * int(ledger.fingerprint(config)[:4], 16) / 0xFFFF

    def _strike(self, call: str) -> None:
        model = self._models.get("draft") or self._models.get("target")
        faults.strike(call, Path(model.path).stem if model else "", extra_buffers=self._extra_buffers)

    def _kept(self, call: str, asked: dict[str, Any], answer: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        begin_s = time.monotonic()
        reply = answer()
        if self._pace_s:
            time.sleep(self._pace_s)
        models = "+".join(sorted(Path(model.path).stem for model in self._models.values()))
        entry = ledger.Entry(os.getppid(), call, ledger.fingerprint(asked), models, begin_s, time.monotonic())
        ledger.write(entry)
        return reply


def _fields(run: Run) -> dict[str, Any]:
    return dataclasses.asdict(run)


if __name__ == "__main__":
    serve(SimulatedSession())
