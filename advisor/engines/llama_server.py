"""The engine that people deploy: llama-server, run and asked over HTTP.

Where memory allows it two servers are alive: the target alone, and one that speculates. Whatever decides how one is
started (models, context, every draft length) is a command-line option, so a change of it is a restart of that server;
the idle one of the two takes memory, no time. Without that memory they replace each other. While decodes are timed a
third holds the draft alone, in place of the one that speculates. Known remedy (one, tried once): as in
``llama_cpp_python.py``, here ``--no-repack``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from advisor.dialect import Dialect, cache_flags
from advisor.engines.base import NO_LIMIT, LoadOptions, Operation, Role, TimeLimits, Waiting
from advisor.engines.find_server import Program, speech
from advisor.engines.process import CODE_CRASHES, LOAD_BYTES_PER_S
from advisor.engines.server_answer import check_run, read_run
from advisor.engines.server_decodes import time_decodes
from advisor.engines.server_process import Deadlines, Server
from advisor.errors import EngineCrash, EngineRefusal, OutOfTime
from advisor.ngram import METHODS
from advisor.types import Build, Config, Message, Model, Run, Sampling

Duty = Literal["alone", "speculating", "draft"]
Flags = Callable[[], list[str]]
T = TypeVar("T")
SURELY = 0.8  # of the time: an answer that takes longer is lost, however much of it there was
OPENMP = re.compile("OPENMP = 1")  # of the line that says what a build can do (system_info)
BASELINE = Config("", 0, method="none")
HOLDS_ALONE: dict[Role, Duty] = {"target": "alone", "draft": "draft"}

# What is stopped before a server starts: the draft alone before real runs; where there is no room for two copies of a
# model, whatever holds one.
RIVALS: dict[Duty, tuple[Duty, ...]] = {"alone": (), "draft": (), "speculating": ("draft",)}
CROWDED_OUT: dict[Duty, tuple[Duty, ...]] = {
    "alone": ("speculating",),
    "draft": ("speculating",),
    "speculating": ("alone", "draft"),
}


@dataclass
class _Serving:
    """A running server, what it was started with and which prompts it has answered."""

    server: Server
    flags: tuple[str, ...]
    waiting: Waiting
    answered: set[tuple[int, ...]] = field(default_factory=set)


class LlamaServer(TimeLimits):
    """``extra_buffers`` False applies the remedy from the start; ``on_remedy`` is told when it had to be found."""

    def __init__(
        self,
        program: Program,
        *,
        extra_buffers: bool = True,
        on_remedy: Callable[[], None] = lambda: None,
        deadlines: Deadlines | None = None,
    ) -> None:
        super().__init__()
        self.program = program
        self._extra_buffers, self._on_remedy = extra_buffers, on_remedy
        self._deadlines = deadlines or Deadlines()
        self._used = False
        self._alone: Run | None = None  # the last answer of the target alone that shows how fast it is
        self._sleeps: bool | None = None
        self._opened: dict[Role, tuple[Model, LoadOptions]] = {}
        self._serving: dict[Duty, _Serving] = {}
        self._end_tokens: set[int] = set()
        self._peak_memory_bytes = 0

    @property
    def dialect(self) -> Dialect:
        return speech(self.program, within_s=self._deadlines.speak_s)[0]

    @property
    def build(self) -> Build:
        return speech(self.program, within_s=self._deadlines.speak_s)[1]

    @property
    def repack_off(self) -> bool:
        return not self._extra_buffers

    @property
    def rejection_sampling(self) -> bool:
        return self.dialect.rejection_sampling

    @property
    def sleeps(self) -> bool:
        if self._sleeps is None:
            asked = self._with_server("alone", self._flags_alone, lambda serving: serving.server.log_line(OPENMP))
            self._sleeps = bool(asked)
        return self._sleeps

    @property
    def used(self) -> bool:
        return self._used

    @property
    def peak_memory_bytes(self) -> int:
        """The most that one server was seen to hold, its models included."""
        return max([self._peak_memory_bytes, *(one.server.peak_memory_bytes for one in self._serving.values())])

    def open(self, role: Role, model: Model, options: LoadOptions) -> None:
        self._opened[role] = (model, options)

    def close(self, role: Role) -> None:
        if self._opened.pop(role, None) is None:
            return
        self._stop("speculating")
        self._stop(HOLDS_ALONE[role])

    def shutdown(self) -> None:
        for duty in tuple(self._serving):
            self._stop(duty)

    def tokenize(self, messages: Sequence[Message]) -> tuple[int, ...]:
        def ask(serving: _Serving) -> tuple[int, ...]:
            chat = [{"role": message.role, "content": message.content} for message in messages]
            text = self._field(serving.server, "/apply-template", {"messages": chat}, "prompt", str)
            body = {"content": text, "add_special": True, "parse_special": True}
            tokens = self._field(serving.server, "/tokenize", body, "tokens", list)
            if not all(isinstance(token, int) for token in tokens):
                raise serving.server.nonsense("/tokenize", str(tokens)[:120])
            return tuple(tokens)

        return self._with_server("alone", self._flags_alone, ask)

    def text(self, tokens: Sequence[int]) -> tuple[str, bool]:
        def ask(serving: _Serving) -> str:
            return self._field(serving.server, "/detokenize", {"tokens": list(tokens)}, "content", str)

        text = self._with_server("alone", self._flags_alone, ask)
        return text, bool(tokens) and tokens[-1] in self._end_tokens

    def answer(self, prompt: Sequence[int], sampling: Sampling, max_tokens: int) -> Run:
        """As many tokens are asked for as there is time for at the speed of the last answer. Raises EngineRefusal when
        the server speculated though nothing told it to, OutOfTime when they took longer."""
        wanted, last, within_s = max_tokens, self._alone, self._within_s
        if last is not None and within_s < NO_LIMIT:
            wanted = max(1, min(max_tokens, int((SURELY * within_s - last.prefill_s) / last.token_s)))
        try:
            run = self._run("alone", self._flags_alone, BASELINE, prompt, sampling, wanted)
        except OutOfTime:
            if last is not None:  # it has become slower than that
                self._alone = replace(last, decode_s=max(last.decode_s, within_s / wanted * (last.tokens - 1)))
            raise
        if run.tokens > 1:
            self._alone = run
        return run

    def speculate(self, prompt: Sequence[int], config: Config, sampling: Sampling, max_tokens: int) -> Run:
        """Raises EngineRefusal when nothing was drafted though something should have been."""

        def flags() -> list[str]:
            return self._speculating_flags(config)

        return self._run("speculating", flags, config, prompt, sampling, max_tokens)

    def speculate_forced(
        self, prompt: Sequence[int], config: Config, rates: Sequence[float], sampling: Sampling, max_tokens: int
    ) -> Run:
        """As ``speculate``, but place i of a draft is accepted at random, in ``rates[i]`` of all steps, whatever was
        drafted: the costs are real, the text means nothing. One rate for each of k, none above the one before it.
        """

        def flags() -> list[str]:
            return [*self._speculating_flags(config), *self.dialect.forced(config.k, rates)]

        return self._run("speculating", flags, config, prompt, sampling, max_tokens)

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
        """As an engine does, by tiny requests (see ``server_decodes.py``)."""
        roles: list[Role] = [role for role in HOLDS_ALONE if any(one[0] == role for one in operations)]

        def ask(serving: Mapping[Duty, _Serving]) -> list[list[float]]:
            servers = {role: serving[HOLDS_ALONE[role]].server for role in roles}
            request = completion([], sampling, 0)
            limits: dict[str, Any] = {"rounds": rounds, "budget_s": budget_s, "within_s": self._left_s}
            return time_decodes(servers, operations, tokens, depth, request, **limits)

        def flags(role: Role) -> Flags:
            return lambda: self._flags_alone(role)

        return self._with_servers({HOLDS_ALONE[role]: flags(role) for role in roles}, ask)

    # -- runs ----------------------------------------------------------------------------------------------------------

    def _run(
        self,
        duty: Duty,
        flags: Flags,
        config: Config,
        prompt: Sequence[int],
        sampling: Sampling,
        max_tokens: int,
    ) -> Run:
        if config.method in METHODS:
            self._forget(duty, tuple(prompt))

        def ask(serving: _Serving) -> Run:
            server, counted = serving.server, self.dialect.metrics
            before = server.metrics(self._time_left_s()) if counted else {}
            reply = server.post("/completion", completion(list(prompt), sampling, max_tokens), self._left_s)
            after = server.metrics(self._time_left_s()) if counted else {}
            server.note_memory()
            serving.answered.add(tuple(prompt))
            run = replace(read_run(server, reply, before, after, config), peak_bytes=server.peak_memory_bytes)
            if reply.get("stop_type") == "eos" or reply.get("stopped_eos"):
                self._end_tokens.add(run.answer_tokens[-1])
            check_run(server, run, config, max_tokens)
            return run

        return self._with_server(duty, flags, ask)

    def _field(self, server: Server, path: str, body: object, name: str, kind: type[T]) -> T:
        reply = server.post(path, body, self._time_left_s())
        value = reply.get(name)
        if not isinstance(value, kind):
            raise server.nonsense(path, str(reply)[:120])
        return value

    def _forget(self, duty: Duty, prompt: tuple[int, ...]) -> None:
        """A server that has answered this prompt has the answer in its n-gram tables: it would draft all of it."""
        serving = self._serving.get(duty)
        if serving is not None and prompt in serving.answered:
            self._stop(duty)

    # -- servers -------------------------------------------------------------------------------------------------------

    def _with_server(self, duty: Duty, flags: Flags, ask: Callable[[_Serving], T]) -> T:
        return self._with_servers({duty: flags}, lambda serving: ask(serving[duty]))

    def _with_servers(self, wanted: Mapping[Duty, Flags], ask: Callable[[Mapping[Duty, _Serving]], T]) -> T:
        self._used = True
        try:
            return self._asked(wanted, ask)
        except EngineCrash as crash:
            remedied = self._extra_buffers and self.dialect.no_repack and crash.signal_name in CODE_CRASHES
            if not remedied:
                raise
        self.shutdown()  # both run with the remedy from now on
        self._extra_buffers = False
        try:
            result = self._asked(wanted, ask)
        except EngineCrash:
            self._extra_buffers = True  # it was not the remedy's disease
            raise
        self._on_remedy()
        return result

    def _asked(self, wanted: Mapping[Duty, Flags], ask: Callable[[Mapping[Duty, _Serving]], T]) -> T:
        serving = {duty: self._started(duty, tuple(flags())) for duty, flags in wanted.items()}
        try:
            return ask(serving)
        except (EngineRefusal, OutOfTime):
            raise
        except BaseException:  # dead, ended, or Ctrl-C before the answer
            for duty in wanted:
                self._stop(duty)
            raise

    def _started(self, duty: Duty, flags: tuple[str, ...]) -> _Serving:
        serving, waiting = self._serving.get(duty), self._waiting
        if serving is not None and (serving.flags, serving.waiting) == (flags, waiting):
            return serving
        self._stop(duty)
        for other in RIVALS[duty] if self._model("target")[1].room_for_two else CROWDED_OUT[duty]:
            self._stop(other)
        load_s = sum(model.weights_bytes for model, _ in self._opened.values()) / LOAD_BYTES_PER_S
        server = Server.start(
            self.program.argv, flags, self._deadlines, load_s=load_s, within_s=self._time_left_s(), waiting=waiting
        )
        self._serving[duty] = _Serving(server, flags, waiting)
        return self._serving[duty]

    def _stop(self, duty: Duty) -> None:
        serving = self._serving.pop(duty, None)
        if serving is not None:
            self._peak_memory_bytes = max(self._peak_memory_bytes, serving.server.peak_memory_bytes)
            serving.server.stop()

    def _flags_alone(self, role: Role = "target") -> list[str]:
        model, options = self._model(role)
        dialect = self.dialect
        argv = ["-m", model.path, "-c", str(options.context), "-np", "1", "-t", str(options.threads)]
        argv += ["-ngl", dialect.layers(options.gpu_layers), *cache_flags(options.cache_type)]
        if dialect.metrics:
            argv += ["--metrics"]
        if dialect.cache_ram:
            argv += ["--cache-ram", "0"]  # every prompt is new: kept ones would only take memory
        if options.waiting == "asleep" and dialect.poll:
            argv += ["--poll", "0"]
        if not self._extra_buffers:
            argv += ["--no-repack"]
        return argv

    @property
    def _waiting(self) -> Waiting:
        return next((options.waiting for _, options in self._opened.values()), "as built")

    def _speculating_flags(self, config: Config) -> list[str]:
        draft: list[str] = []
        if config.method not in METHODS and (config.draft or config.method != "draft-mtp"):
            model, options = self._model("draft")
            draft = ["-md", model.path, "-ngld", self.dialect.layers(options.gpu_layers), "-td", str(options.threads)]
            draft += cache_flags(options.cache_type, of_draft=True)
        return [*self._flags_alone(), *self.dialect.speculation(config, draft)]

    def _model(self, role: Role) -> tuple[Model, LoadOptions]:
        if role not in self._opened:
            raise EngineRefusal(f"The engine was asked to run without a {role} model.")
        return self._opened[role]


def completion(prompt: object, sampling: Sampling, max_tokens: int) -> dict[str, Any]:
    """The body of a request to ``/completion``. ``prompt``: tokens or text."""
    return {
        "prompt": prompt,
        "n_predict": max_tokens,
        "cache_prompt": False,
        "return_tokens": True,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "seed": sampling.seed,
    }
