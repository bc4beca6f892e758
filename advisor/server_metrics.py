"""What a llama-server counts, under the names that its ``/metrics`` has for it, and how precisely it says it.

The names are those of tools/server/server-task.cpp; the speculative ones exist since llama.cpp's pull request 26389 of
August 2026. Counters of a request are added when it ends. Reading ``/metrics`` also restarts the two averages
``prompt_tokens_seconds`` and ``predicted_tokens_seconds``, which nothing here uses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

TOKENS = "llamacpp:tokens_predicted_total"
DECODE_S = "llamacpp:tokens_predicted_seconds_total"
DRAFTS = "llamacpp:spec_decode_num_drafts_total"
DRAFTED = "llamacpp:spec_decode_num_draft_tokens_total"
ACCEPTED = "llamacpp:spec_decode_num_accepted_tokens_total"
PER_POSITION = 'llamacpp:spec_decode_num_accepted_tokens_per_pos_total{{position="{}"}}'
DECODES = "llamacpp:n_decode_total"
BUSY_PER_DECODE = "llamacpp:n_busy_slots_per_decode"
PROCESSING = "llamacpp:requests_processing"
DEFERRED = "llamacpp:requests_deferred"

SIGNIFICANT_DIGITS = 6  # all that C++ prints of a number unless it is told otherwise; places are printed whole

Metrics = Mapping[str, float]


def samples(text: str) -> dict[str, float]:
    """The samples of an answer of ``/metrics`` by name, the label included. ValueError with the line that is none."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name and not line.startswith("#"):
            try:
                found[name] = float(value)
            except ValueError:
                raise ValueError(line) from None
    return found


def accepted_per_position(metrics: Metrics) -> tuple[float, ...]:
    """Accepted tokens by place in the draft, () where the server does not say or has not yet drafted."""
    counts: list[float] = []
    while (name := PER_POSITION.format(len(counts))) in metrics:
        counts.append(metrics[name])
    return tuple(counts)


def grain(value: float) -> float:
    """By how much a printed count of this size can be wrong: from a million on the last digits are not printed."""
    return 0.0 if value < 10**SIGNIFICANT_DIGITS else fraction_grain(value)


def fraction_grain(value: float) -> float:
    """The same of what has a fraction, such as seconds: there the last digits are missing at every size."""
    if value <= 0:
        return 0.0
    return float(10.0 ** (math.floor(math.log10(value)) + 1 - SIGNIFICANT_DIGITS))
