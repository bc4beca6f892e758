"""The advisor with the real llama-server: acceptance, a recommendation, and the command line it ends with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from advisor.engines.base import LoadOptions, Operation, Role, RolloutOptions
from advisor.engines.find_server import find_server
from advisor.engines.llama_cpp_python import LlamaCppPython
from advisor.engines.llama_server import LlamaServer
from advisor.engines.server_process import Deadlines, Server
from advisor.predict.steady import steadied
from advisor.search import speedup_of
from advisor.types import (
    Build,
    Config,
    Estimate,
    Message,
    Model,
    Recommendation,
    Run,
    Sampling,
    Trace,
    Transcript,
    Trial,
)
from benchmarks.measure import Bench, Pair


class ServedEngine:
    """A server that answers and runs, and an engine of this process that replays drafts: as `recommend` uses them."""

    def __init__(self) -> None:
        self.server, self.replayer = LlamaServer(find_server()), LlamaCppPython()

    @property
    def build(self) -> Build:
        return self.server.build

    @property
    def repack_off(self) -> bool:
        return self.server.repack_off

    @property
    def used(self) -> bool:
        return self.server.used

    def open(self, role: Role, model: Model, options: LoadOptions) -> None:
        self.server.open(role, model, options)
        if role == "draft":
            self.replayer.open(role, model, options)

    def limit(self, time_left_s: Callable[[], float]) -> None:
        self.server.limit(time_left_s)
        self.replayer.limit(time_left_s)

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        with self.server.within(seconds), self.replayer.within(seconds):
            yield

    def close(self, role: Role) -> None:
        self.server.close(role)
        if role == "draft":
            self.replayer.close(role)

    def tokenize(self, messages: Sequence[Message]) -> tuple[int, ...]:
        return self.server.tokenize(messages)

    def answer(self, prompt: Sequence[int], sampling: Sampling, max_tokens: int) -> Run:
        return self.server.answer(prompt, sampling, max_tokens)

    def text(self, tokens: Sequence[int]) -> tuple[str, bool]:
        return self.server.text(tokens)

    def speculate(self, prompt: Sequence[int], config: Config, sampling: Sampling, max_tokens: int) -> Run:
        return self.server.speculate(prompt, config, sampling, max_tokens)

    @property
    def sleeps(self) -> bool:
        return self.server.sleeps

    @property
    def rejection_sampling(self) -> bool:
        return self.server.rejection_sampling

    def score(
        self,
        transcript: Transcript,
        rollout: RolloutOptions,
        role: Role = "draft",
        temperature: float = 0.0,
    ) -> Trace:
        return self.replayer.score(transcript, rollout, role, temperature)

    def weigh(self, transcript: Transcript, sampling: Sampling) -> tuple[float, ...]:
        raise NotImplementedError("a server does not say how likely its tokens were")

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
        return self.server.time_decodes(operations, tokens, depth, sampling, rounds=rounds, budget_s=budget_s)

    def shutdown(self) -> None:
        self.server.shutdown()
        self.replayer.shutdown()


@dataclass(frozen=True)
class Checked:
    """An estimate of a recommendation and what the server then gave."""

    label: str
    estimate: Estimate
    measured: float

    @property
    def inside(self) -> bool:
        return self.estimate.speedup_low <= self.measured <= self.estimate.speedup_high


def check(
    bench: Bench, rec: Recommendation, drafts: Mapping[str, Model], transcripts: Sequence[Transcript], max_tokens: int
) -> Iterator[Checked]:
    """The best setting of every draft and method, run in the server beside its own baseline (steadied), prompt by
    prompt."""
    best: dict[str, Estimate] = {}
    for estimate in rec.estimates:
        best.setdefault(estimate.config.proposer, estimate)
    pairs: dict[Config, list[Pair]] = {estimate.config: [] for estimate in best.values()}
    for one in transcripts:
        for config, found in pairs.items():
            baseline = bench.answer(one, max_tokens)
            found.append((baseline, bench.speculate(one, drafts.get(config.draft), config, max_tokens)))
    trials = [Trial.of(config, found) for config, found in pairs.items()]
    for estimate, trial in zip(best.values(), steadied(trials), strict=True):
        yield Checked(rec.label_of(trial.config), estimate, speedup_of(trial.pairs))


def drafted_by(command: Sequence[str], prompt: Sequence[int], max_tokens: int) -> int:
    """How many tokens are drafted for one answer by the server that this command line starts.

    The program of the command line is replaced by the llama-server that is here. Raises EngineCrash when it refuses.
    """
    server = Server.start(find_server().argv, command[1:], Deadlines(), load_s=60)
    try:
        body = {"prompt": list(prompt), "n_predict": max_tokens, "temperature": 0, "cache_prompt": False}
        return int(server.post("/completion", body)["timings"].get("draft_n", 0))
    finally:
        server.stop()
