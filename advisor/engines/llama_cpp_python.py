"""The engine that runs models through llama-cpp-python, in a worker process of its own.

Known remedy (one, tried once): on hosts whose CPU reports AMX, llama.cpp's AMX kernels can crash on the first
quantized decode. Opening the models again without extra buffer types avoids those kernels.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from advisor.engines.base import NO_LIMIT, LoadOptions, Operation, Role, RolloutOptions, TimeLimits, Waiting
from advisor.engines.process import CODE_CRASHES, LOAD_BYTES_PER_S, WorkerProcess
from advisor.errors import EngineCrash, EngineRefusal, EngineTimeout, OutOfTime
from advisor.types import Build, Config, Message, Model, Run, Sampling, Trace, Transcript

# llama-cpp-python does not say which llama.cpp it vendors; read from its releases.
VENDORED_BUILDS = {"0.3.36": 11312}

CALL_TIMEOUT_S = 600.0
LATE_S = 2.0  # how much longer than allowed one decode may hold up a question before it is stopped from outside
TEMPLATE_TIMEOUT_S = 30.0  # a chat template is a program that came with the file
LEAST_PROBABILITY = 1e-6  # of a token that was sampled; a batch can round it away


def start_worker(waiting: Waiting) -> WorkerProcess:
    return WorkerProcess(waiting=waiting)


class LlamaCppPython(TimeLimits):
    """``extra_buffers`` False applies the remedy from the start; ``on_remedy`` is told when it had to be found."""

    def __init__(
        self,
        *,
        extra_buffers: bool = True,
        on_remedy: Callable[[], None] = lambda: None,
        start_worker: Callable[[Waiting], WorkerProcess] = start_worker,
    ) -> None:
        super().__init__()
        self._extra_buffers = extra_buffers
        self._on_remedy = on_remedy
        self._start_worker = start_worker
        self._worker: WorkerProcess | None = None
        self._waiting: Waiting = "as built"  # how the worker was started
        self._used = False
        self._wanted: dict[Role, tuple[Model, LoadOptions]] = {}
        self._loaded: dict[Role, tuple[Model, LoadOptions]] = {}

    rejection_sampling = True

    @property
    def repack_off(self) -> bool:
        return not self._extra_buffers

    @property
    def used(self) -> bool:
        return self._used

    @functools.cached_property
    def sleeps(self) -> bool:
        return bool(self._ask("sleeps", {})["sleeps"])

    @functools.cached_property
    def build(self) -> Build:
        version = importlib.metadata.version("llama-cpp-python")
        return Build("llama-cpp-python", version, VENDORED_BUILDS.get(version, 0), _library_digest())

    def open(self, role: Role, model: Model, options: LoadOptions) -> None:
        self._wanted[role] = (model, options)

    def close(self, role: Role) -> None:
        self._wanted.pop(role, None)
        if self._loaded.pop(role, None) is not None:
            with contextlib.suppress(EngineCrash, EngineTimeout):  # a worker that is gone holds nothing
                self._ask("close", {"role": role})

    def tokenize(self, messages: Sequence[Message]) -> tuple[int, ...]:
        reply = self._ask_model(
            "render_chat",
            {"messages": [dataclasses.asdict(message) for message in messages]},
            timeout_s=TEMPLATE_TIMEOUT_S,
        )
        return tuple(reply["tokens"])

    def answer(self, prompt: Sequence[int], sampling: Sampling, max_tokens: int) -> Run:
        asked = {"prompt": list(prompt), "sampling": dataclasses.asdict(sampling), "max_tokens": max_tokens}
        return _run(self._ask_model("answer", asked))

    def text(self, tokens: Sequence[int]) -> tuple[str, bool]:
        reply = self._ask_model("text_of", {"tokens": list(tokens)})
        return str(reply["text"]), bool(reply["ended"])

    def weigh(self, transcript: Transcript, sampling: Sampling) -> tuple[float, ...]:
        reply = self._ask_model(
            "weigh",
            {
                "prompt": list(transcript.prompt_tokens),
                "answer_tokens": list(transcript.answer_tokens),
                "sampling": dataclasses.asdict(sampling),
            },
        )
        return tuple(reply["chosen"])

    def score(
        self,
        transcript: Transcript,
        rollout: RolloutOptions,
        role: Role = "draft",
        temperature: float = 0.0,
    ) -> Trace:
        reply = self._ask_model(
            "score",
            {
                "role": role,
                "prompt": list(transcript.prompt_tokens),
                "answer_tokens": list(transcript.answer_tokens),
                "rollout": dataclasses.asdict(rollout),
                "temperature": temperature if transcript.probability else 0.0,
            },
        )
        return Trace(
            category=transcript.category,
            answer_tokens=transcript.answer_tokens,
            proposal=tuple(reply["proposal"]),
            probability=tuple(reply["probability"]),
            rollout={int(point): tuple(chain) for point, chain in reply["rollout"].items()},
            chance=tuple(
                min(1.0, q / max(p, LEAST_PROBABILITY))
                for q, p in zip(reply["chosen"], transcript.probability, strict=False)
            ),
        )

    def time_decodes(
        self,
        operations: Sequence[Operation],
        tokens: Sequence[int],
        depth: int,
        sampling: Sampling,
        *,
        rounds: int,
        budget_s: float,
    ) -> list[list[float]]:
        reply = self._ask_model(
            "time_decodes",
            {
                "operations": [list(operation) for operation in operations],
                "tokens": list(tokens),
                "depth": depth,
                "sampling": dataclasses.asdict(sampling),
                "rounds": rounds,
                "budget_s": budget_s,
            },
        )
        rounds_s: list[list[float]] = reply["rounds"]
        return rounds_s

    def speculate(self, prompt: Sequence[int], config: Config, sampling: Sampling, max_tokens: int) -> Run:
        return _run(
            self._ask_model(
                "speculate",
                {
                    "prompt": list(prompt),
                    "config": dataclasses.asdict(config),
                    "sampling": dataclasses.asdict(sampling),
                    "max_tokens": max_tokens,
                },
            )
        )

    def shutdown(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._forget_worker()

    def _ask_model(self, call: str, arguments: dict[str, Any], *, timeout_s: float = CALL_TIMEOUT_S) -> dict[str, Any]:
        self._used = True
        if self._worker is not None and self._wanted and self._wants_other_waiting():
            self.shutdown()
        for role in tuple(self._wanted):  # also after a crash or a timeout
            self._load_with_remedy(role)
        return self._ask(call, arguments, timeout_s=timeout_s, within_s=self._within_s)

    def _wants_other_waiting(self) -> bool:
        _, options = self._wanted.get("target") or next(iter(self._wanted.values()))
        return options.waiting != self._waiting

    def _load_with_remedy(self, role: Role) -> None:
        try:
            self._load(role)
        except EngineCrash as crash:
            if not self._extra_buffers or crash.signal_name not in CODE_CRASHES:
                raise
            self._extra_buffers = False
            try:
                for wanted in tuple(self._wanted):
                    self._load(wanted)
            except EngineCrash:
                self._extra_buffers = True  # it was not the remedy's disease
                raise
            self._on_remedy()

    def _load(self, role: Role) -> None:
        if self._loaded.get(role) == self._wanted[role]:
            return
        model, options = self._wanted[role]
        self._loaded.pop(role, None)
        self._ask(
            "open",
            {
                "role": role,
                "path": model.path,
                "options": {**_context_options(options), "extra_buffers": self._extra_buffers},
            },
            timeout_s=CALL_TIMEOUT_S + model.weights_bytes / LOAD_BYTES_PER_S,
        )
        self._loaded[role] = (model, options)

    def _ask(
        self,
        call: str,
        arguments: dict[str, Any],
        *,
        timeout_s: float = CALL_TIMEOUT_S,
        within_s: float = NO_LIMIT,
    ) -> dict[str, Any]:
        left_s = self._time_left_s()
        if left_s <= 0:
            raise OutOfTime
        if self._worker is None:
            self._waiting = next((options.waiting for _, options in self._wanted.values()), "as built")
            self._worker = self._start_worker(self._waiting)
        try:
            return self._worker.ask(call, arguments, timeout_s=min(timeout_s, left_s + LATE_S), within_s=within_s)
        except (EngineRefusal, OutOfTime):
            raise
        except EngineTimeout as error:
            self._forget_worker()
            if self._time_left_s() <= 0:
                raise OutOfTime from error
            raise
        except BaseException:  # dead, stopped, or Ctrl-C before the reply, which would then answer the next question
            self._worker.kill()
            self._forget_worker()
            raise

    def _forget_worker(self) -> None:
        self._worker = None
        self._loaded.clear()


def _context_options(options: LoadOptions) -> dict[str, Any]:
    of_the_process = ("room_for_two", "waiting")
    return {name: value for name, value in dataclasses.asdict(options).items() if name not in of_the_process}


def _run(reply: dict[str, Any]) -> Run:
    return Run(
        **{
            **reply,
            "answer_tokens": tuple(reply["answer_tokens"]),
            "accepted_per_position": tuple(reply.get("accepted_per_position", ())),
        }
    )


def _library_digest() -> str:
    """Names, sizes and times of the native libraries: another build of the same version is another build."""
    spec = importlib.util.find_spec("llama_cpp")
    folder = Path(spec.origin).parent / "lib" if spec and spec.origin else Path()
    files = sorted(path for path in folder.glob("*") if path.is_file())
    facts = [(path.name, path.stat().st_size, int(path.stat().st_mtime)) for path in files]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:10]
