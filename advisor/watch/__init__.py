"""A running llama-server beside its recommendation: readings of its counters, what is expected of them, a judgement.

    Reading.of(metrics, slots, at_s)      one look at the server
    History().add(reading)                readings since it was first seen, or started again; Live: the facts of a span
    expected(recommendation)              what the counters should say, and where speculation stops to pay
    judge(live, expected)                 how the two compare, and what to do
    Watcher(source, recommendation, ...)  all of this, again and again; View: what there is to show

It knows nothing about HTTP and rendering, and takes the time from its caller.
"""

from __future__ import annotations

from advisor.watch.expectation import Expected, expected
from advisor.watch.judgement import Judgement, judge
from advisor.watch.readings import History, Live, Reading, Slots
from advisor.watch.watcher import View, Watcher, follow

__all__ = [
    "Expected",
    "History",
    "Judgement",
    "Live",
    "Reading",
    "Slots",
    "View",
    "Watcher",
    "expected",
    "follow",
    "judge",
]
