"""What one decode costs in a llama-server, which times whole requests only.

A request whose prompt goes on for b tokens from what the server already holds is one decode of b tokens, and its time
is in the reply (``prompt_ms``); tokens generated after another are decodes of one. So t(b) and d(b) are those of the
build, flags and device that are deployed, wherever the server computes. Beside a speculative step's own decodes it
leaves out the output rows but for the last, and their sampling.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from advisor.engines.base import BARE, CHAIN, NO_LIMIT, Operation, Role
from advisor.engines.rounds import timed_rounds
from advisor.engines.server_process import Server
from advisor.errors import EngineRefusal, OutOfTime


def time_decodes(
    servers: Mapping[Role, Server],
    operations: Sequence[Operation],
    tokens: Sequence[int],
    depth: int,
    request: Mapping[str, Any],
    *,
    rounds: int,
    budget_s: float,
    within_s: float = NO_LIMIT,
) -> list[list[float]]:
    """Seconds of each operation at context ``depth``, one list a round, as an engine times them (``engines/base.py``).

    ``servers`` hold the target and the draft alone; ``request`` is what every request has beside prompt and length.
    Raises EngineRefusal when a server decodes something else than it is asked to, OutOfTime when ``within_s`` are too
    few for a round.
    """
    started = time.perf_counter()
    asked = _Asked(servers, tuple(tokens), depth, request, started + within_s)
    for operation in dict.fromkeys(operations):  # warm-up: the context is read once
        if operation[1] == 1 and operation != BARE:
            asked.seconds(operation)
    return timed_rounds(
        lambda: [asked.seconds(operation) for operation in operations],
        rounds=rounds,
        started=started,
        budget_s=budget_s,
        late=OutOfTime,
    )


class _Asked:
    """The requests of one series: a text, the depth at which it is cut, and servers."""

    def __init__(
        self,
        servers: Mapping[Role, Server],
        tokens: tuple[int, ...],
        depth: int,
        request: Mapping[str, Any],
        until: float,
    ) -> None:
        self._servers, self._tokens, self._depth, self._until = servers, tokens, depth, until
        self._request = {**request, "cache_prompt": True, "ignore_eos": True}

    def seconds(self, operation: Operation) -> float:
        role, b = operation
        if role == "bare":
            return self._bare_s()
        if b == 1:
            said = self._timings(role, self._depth, 1 + CHAIN[role])
            return self._read(role, said, "predicted", 1 + CHAIN[role]) / CHAIN[role]
        self._timings(role, self._depth, 1)  # forgets what came after it the last time
        return self._read(role, self._timings(role, self._depth + b, 1), "prompt", b)

    def _bare_s(self) -> float:
        """The same request as any other decode, of one token; the draft decodes one between."""
        self._timings("target", self._depth, 1)
        self._timings("draft", self._depth, 1)
        return self._read("target", self._timings("target", self._depth + 1, 1), "prompt", 1)

    def _timings(self, role: Role, prompt: int, generated: int) -> Mapping[str, Any]:
        body = {**self._request, "prompt": list(self._tokens[:prompt]), "n_predict": generated}
        reply = self._servers[role].post("/completion", body, self._until - time.perf_counter())
        timings = reply.get("timings")
        if not isinstance(timings, dict):
            raise self._servers[role].nonsense("/completion", str(reply)[:120])
        return timings

    def _read(self, role: Role, timings: Mapping[str, Any], name: str, count: int) -> float:
        counted, milliseconds = timings.get(f"{name}_n"), timings.get(f"{name}_ms")
        if not isinstance(milliseconds, int | float) or milliseconds <= 0:
            raise self._servers[role].nonsense("/completion", str(timings)[:120])
        if counted != count:
            raise EngineRefusal(
                f"llama-server does not time a decode of {count} tokens of the {role}: it decoded {counted}.",
                why="It cannot go on from the context it holds: a recurrent memory, or a sliding window.",
                fix="Leave out --engine llama-server: decodes are then timed in this process.",
            )
        return milliseconds / 1e3
