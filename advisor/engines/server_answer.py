"""What llama-server says about an answer, read as a Run, and whether it is what was asked for.

``timings`` hold the totals of a request; ``/metrics`` has counters of the server, so a request is the difference of
two readings. Neither says how many steps there were where some drafted nothing: every token after the first comes
from a step (one each) or was accepted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from advisor.engines.server_process import Server
from advisor.errors import EngineRefusal
from advisor.ngram import METHODS
from advisor.server_metrics import DRAFTS, PER_POSITION, Metrics
from advisor.types import Config, Run

# What llama-server logs when it drops a draft and serves on (tools/server/server-context.cpp, common/speculative.cpp).
SERVES_WITHOUT = re.compile(
    "failed to (initialize|load) (speculative|draft)|vocabs are not compatible|speculative decoding not supported"
)


def read_run(server: Server, reply: Mapping[str, Any], before: Metrics, after: Metrics, config: Config) -> Run:
    """Raises EngineRefusal when the reply is not llama-server's, or contradicts itself."""
    try:
        tokens = tuple(int(token) for token in reply["tokens"])
        timings = reply["timings"]
        decode_s, prefill_s = float(timings["predicted_ms"]) / 1e3, float(timings["prompt_ms"]) / 1e3
        predicted = int(timings["predicted_n"])
        drafted, accepted = int(timings.get("draft_n", 0)), int(timings.get("draft_n_accepted", 0))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise server.nonsense("/completion", str(reply)[:120]) from None
    if not tokens or predicted != len(tokens) or not 0 <= accepted <= drafted or decode_s < 0:
        raise server.nonsense("/completion", f"{len(tokens)} tokens with {timings}")
    if not drafted:
        return Run(len(tokens), decode_s, prefill_s, _plain_steps(tokens, config), answer_tokens=tokens)
    # an end token in the middle of a draft drops what was verified after it, so the counted steps can be one more
    steps = max(len(tokens) - 1 - accepted, round(_difference(before, after, DRAFTS)))
    per_position = tuple(round(_difference(before, after, PER_POSITION.format(i))) for i in range(config.k))
    known = PER_POSITION.format(0) in after
    return Run(
        tokens=len(tokens),
        decode_s=decode_s,
        prefill_s=prefill_s,
        steps=steps,
        drafted=drafted,
        accepted=accepted,
        accepted_per_position=per_position if known else (),
        answer_tokens=tokens,
    )


def check_run(server: Server, run: Run, config: Config, max_tokens: int) -> None:
    """Raises EngineRefusal when the baseline speculated, or when a speculative run silently did not."""
    if config.method == "none":
        if run.drafted:
            raise EngineRefusal(
                "llama-server speculated in what should be the baseline.",
                why=f"It drafted {run.drafted} tokens without being told to.",
                fix="Remove its own configuration (a preset or a configuration file), or use another build.",
            )
        return
    if run.drafted:
        return
    could_draft = min(max_tokens, run.tokens) > 2  # the last token of an answer is never drafted
    may_be_empty = config.p_min > 0 or config.n_min > 0 or config.method in METHODS
    complaint = server.log_line(SERVES_WITHOUT)
    if complaint or (could_draft and not may_be_empty):
        raise EngineRefusal(
            "llama-server ran without speculating: no token was drafted.",
            why=f"It was started for {config.method}, but serves without it. {complaint}".strip(),
            fix="Most often the vocabularies of target and draft differ: choose another draft.",
        )


def _plain_steps(tokens: tuple[int, ...], config: Config) -> int:
    return 0 if config.method == "none" else len(tokens) - 1


def _difference(before: Metrics, after: Metrics, name: str) -> float:
    return after.get(name, 0.0) - before.get(name, 0.0)
