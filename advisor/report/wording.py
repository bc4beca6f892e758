"""Numbers of the report in the words and units people read."""

from __future__ import annotations

import math

from advisor.types import Estimate, Sampling, Verdict

MIB = 1024**2
GIB = 1024**3


def size(n_bytes: int) -> str:
    return f"{n_bytes / GIB:.2f} GiB" if n_bytes >= GIB else f"{n_bytes / MIB:.0f} MiB"


def bandwidth(bytes_per_s: float) -> str:
    return f"{bytes_per_s / 1e9:.1f} GB/s"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %" if math.isfinite(share) else "n/a"


def interval(estimate: Estimate) -> str:
    return f"{estimate.speedup:.2f}x [{estimate.speedup_low:.2f}, {estimate.speedup_high:.2f}]"


def duration(seconds: float) -> str:
    """m:ss, or h:mm:ss from an hour on. Negative durations read as zero."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def sampling(settings: Sampling) -> str:
    if settings.temperature == 0:
        return "greedy"
    return f"temperature {settings.temperature:g}, top-p {settings.top_p:g}, seed {settings.seed}"


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def what_is_served(verdict: Verdict) -> str:
    """Of the command below a report."""
    return "as recommended" if verdict == "speculate" else "the target alone"
