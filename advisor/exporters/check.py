"""The exported llama-server command, started for real: does it speculate, accept and decode as was recommended?

Two prompts are asked of it, one after the other, then of the target alone; ``two_prompts.py`` says what may be expected
of so few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from advisor.engines.find_server import Program, speech
from advisor.engines.llama_server import completion
from advisor.engines.process import LOAD_BYTES_PER_S
from advisor.engines.server_answer import check_run, read_run
from advisor.engines.server_process import Deadlines, Server
from advisor.errors import EngineRefusal, FileProblem, OptionError
from advisor.exporters.deployment import chosen
from advisor.exporters.llama_server import flags
from advisor.exporters.two_prompts import Expected, Place, expected
from advisor.types import Build, Config, Model, Prompt, Recommendation, Run, pooled_token_s

PROMPTS = 2
ALONE = Config("", 0, method="none")


@dataclass(frozen=True)
class Checked:
    """What the server did, beside what was expected of it. ``other_build`` is the one that was measured, None where it
    is this one or nothing was measured: two builds differ in speed, not in acceptance. ``alone``: the same prompts
    without speculation, right after."""

    build: Build
    prompts: tuple[Prompt, ...]
    runs: tuple[Run, ...]
    alone: tuple[Run, ...]
    expected: Expected
    other_build: Build | None

    @property
    def acceptance(self) -> float:
        return sum(run.accepted for run in self.runs) / sum(run.drafted for run in self.runs)

    @property
    def tokens_per_second(self) -> float:
        return 1 / pooled_token_s(self.runs)

    @property
    def alone_tokens_per_second(self) -> float:
        return 1 / pooled_token_s(self.alone)

    @property
    def speedup(self) -> float:
        """Over the target alone. The moments of the two differ, so that it is rougher than what was recommended."""
        return self.tokens_per_second / self.alone_tokens_per_second

    @property
    def acceptance_place(self) -> Place | None:
        """None where it is not judged."""
        return self.expected.acceptance.place(self.acceptance) if self.expected.acceptance is not None else None

    @property
    def speed_place(self) -> Place:
        return self.expected.tokens_per_second.place(self.tokens_per_second)

    @property
    def inside(self) -> bool:
        return self.speed_place == "inside" and self.acceptance_place in ("inside", None) and self.speedup >= 1


def check(
    rec: Recommendation, program: Program, prompts: Sequence[Prompt], deadlines: Deadlines | None = None
) -> Checked:
    """Start the command, ask, stop it. ``prompts`` are as ``prompts_for`` chooses them.

    Raises OptionError where there is nothing to start, EngineRefusal when it does not speculate, and what a Server
    raises.
    """
    deadlines, config, best = deadlines or Deadlines(), chosen(rec), rec.best
    if config is None or best is None:
        raise OptionError(
            "There is nothing to check: the recommendation is not to speculate.",
            fix="Leave out --check to export the target alone.",
        )
    models = [rec.target, *([rec.draft_of(config)] if config.draft else [])]
    for model in models:
        _check_here(model)
    dialect, build = speech(program, within_s=deadlines.speak_s)
    load_s = sum(model.weights_bytes for model in models) / LOAD_BYTES_PER_S

    def answers(one: Config | None) -> tuple[Run, ...]:
        server = Server.start(program.argv, flags(rec, one, dialect), deadlines, load_s=load_s)
        try:
            return tuple(_answer(server, prompt, rec, one or ALONE) for prompt in prompts)
        finally:
            server.stop()

    runs = answers(config)
    if not any(run.drafted for run in runs):
        raise EngineRefusal(
            "The server ran without speculating: no token was drafted.",
            why=f"It was started for {config.method}, and nothing in its {len(runs)} answers could be drafted.",
            fix="Check with prompts of the kind that was measured: --workload FILE.",
        )
    return Checked(build, tuple(prompts), runs, answers(None), expected(rec, best, prompts), _other_build(rec, build))


def prompts_for(rec: Recommendation, prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """Two of the prompts, of the categories that were measured, and of two of them where there are."""
    measured = [prompt for prompt in prompts if prompt.category in rec.categories] or list(prompts)
    firsts = list({prompt.category: prompt for prompt in reversed(measured)}.values())[::-1]
    return tuple([*firsts, *(prompt for prompt in measured if prompt not in firsts)][:PROMPTS])


def _check_here(model: Model) -> None:
    if not model.path:
        raise OptionError(
            f"{model.label} is not on this machine: the command cannot be started.",
            why="The recommendation is a prediction.",
            fix="Download the models, and recommend again with the files.",
        )
    if not Path(model.path).is_file():
        raise FileProblem(f"The model {model.path} does not exist.", fix="Check on the machine that was measured.")


def _other_build(rec: Recommendation, build: Build) -> Build | None:
    same = (rec.build.engine, rec.build.version) == (build.engine, build.version)
    return None if same or rec.baseline.evidence == "prior" else rec.build


def _answer(server: Server, prompt: Prompt, rec: Recommendation, config: Config) -> Run:
    chat = [{"role": message.role, "content": message.content} for message in prompt.messages]
    asked = server.post("/apply-template", {"messages": chat}).get("prompt")
    reply = server.post("/completion", completion(asked, rec.settings.sampling, rec.settings.max_tokens))
    run = read_run(server, reply, {}, {}, config)
    check_run(server, run, config, rec.settings.max_tokens)
    return run
