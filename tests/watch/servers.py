"""What a llama-server would say on /metrics, from how it answered.

Counting()              a server that has answered nothing yet
server.answered(...)    the same after a request more
server.metrics()        its samples; server.text() as it prints them, six digits a number
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from advisor.errors import ServerProblem
from advisor.server_metrics import PER_POSITION, samples

TOKEN_S = 0.05


@dataclass(frozen=True)
class Counting:
    tokens: int = 0
    decode_s: float = 0.0
    drafts: int = 0
    drafted: int = 0
    per_position: tuple[int, ...] = ()
    decodes: int = 0
    busy_per_decode: float = 1.0
    counts_drafts: bool = True

    def answered(self, steps: int, accepted: tuple[int, ...], *, token_s: float = TOKEN_S) -> Counting:
        """A request of so many steps; ``accepted[i]`` of them accepted place i, each step drafts all places."""
        tokens = steps + sum(accepted)
        return replace(
            self,
            tokens=self.tokens + tokens,
            decode_s=self.decode_s + tokens * token_s,
            drafts=self.drafts + (steps if accepted else 0),
            drafted=self.drafted + steps * len(accepted),
            per_position=tuple(a + b for a, b in zip(self.per_position or (0,) * len(accepted), accepted, strict=True))
            if accepted
            else self.per_position,
            decodes=self.decodes + steps,
        )

    def text(self) -> str:
        values = {
            "tokens_predicted_total": self.tokens,
            "tokens_predicted_seconds_total": self.decode_s,
            "n_decode_total": self.decodes,
            "n_busy_slots_per_decode": self.busy_per_decode,
            "requests_processing": 0,
            "requests_deferred": 0,
        }
        if self.counts_drafts:
            values |= {
                "spec_decode_num_draft_tokens_total": self.drafted,
                "spec_decode_num_accepted_tokens_total": sum(self.per_position),
                "spec_decode_num_drafts_total": self.drafts,
            }
        lines = [f"# TYPE llamacpp:{name} counter\nllamacpp:{name} {value:.6g}" for name, value in values.items()]
        if self.counts_drafts:
            lines += [f"{PER_POSITION.format(i)} {count}" for i, count in enumerate(self.per_position)]
        return "\n".join(lines) + "\n"

    def metrics(self) -> dict[str, float]:
        return samples(self.text())


class Script:
    """A source that says one thing after the other, then the last one again and again. An exception is raised."""

    def __init__(self, *said: Counting | Exception, slots: Any = None, model: str = "", parameters: int = 0) -> None:
        self.said, self._slots, self._model, self._parameters = list(said), slots, model, parameters

    def metrics(self) -> Mapping[str, float]:
        said = self.said.pop(0) if len(self.said) > 1 else self.said[0]
        if isinstance(said, Exception):
            raise said
        return said.metrics()

    def slots(self) -> Any:
        return self._slots

    def model_path(self) -> str:
        return self._model

    def model_parameters(self) -> int:
        return self._parameters

    def nonsense(self, said: str) -> ServerProblem:
        return ServerProblem("nonsense", why=said)
