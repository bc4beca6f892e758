"""kill -9 of the advisor itself at random moments, and two advisors at once."""

from __future__ import annotations

import itertools
import random
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from advisor.store import Store
from chaos import ledger
from chaos.outcome import Outcome
from chaos.processes import PACE_S, Advisor, Ended, left_over, recommend_command
from chaos.world import Ground

Rows = dict[tuple[str, str], tuple[str, float, str]]
"""(kind, key as text) -> (value, seconds that measuring took, when): what is measured again has other seconds."""

TIMED = {"answer", "time_decodes", "speculate"}


def resume(ground: Ground, *, kills: int, seed: int, thorough: bool = True) -> Iterator[Outcome]:
    """``thorough``: also what a kill at the worst moment leaves, and two stores on one machine."""
    undisturbed, first_s, whole_s, rows = _undisturbed(ground)
    rng = random.Random(seed)
    lost: list[str] = []
    landed: Counter[int] = Counter()
    for index in range(kills):
        moment_s = first_s + (whole_s - first_s) * (index + rng.random()) / kills
        found, stored = _killed_and_resumed(ground, f"killed-{index}", moment_s, undisturbed, rows)
        lost += [f"after {moment_s:.2f} s: {loss}" for loss in found]
        landed[stored] += 1
    moments = f"{landed.total() - landed[0]} of them with measurements stored, up to {max(landed)} of {len(rows)}"
    if landed.total() == landed[0]:
        lost.append("no kill came after anything was stored, so nothing was put to the test")
    yield Outcome("kill -9 of the advisor, then the same command again", kills, tuple(lost), moments)
    yield _two_at_once(ground, undisturbed, same_store=True)
    if thorough:
        yield _two_at_once(ground, undisturbed, same_store=False)
        yield _stale_locks(ground, undisturbed)


def _undisturbed(ground: Ground) -> tuple[Ended, float, float, Rows]:
    """How it ended, after how many seconds the first worker was asked and it ended, and what it stored."""
    data = ground.data_dir("undisturbed")
    started = time.monotonic()
    ended = _advisor(ground, data).wait()
    if ended.code:
        raise RuntimeError(f"the undisturbed search failed: {ended.errors}")
    whole_s = time.monotonic() - started
    first_s = min(entry.begin_s for entry in ledger.read(data.parent / "ledger")) - started
    return ended, first_s, whole_s, stored_rows(data)


def _advisor(ground: Ground, data: Path, *, pace_s: float = PACE_S) -> Advisor:
    command = recommend_command(ground.models, data.parent / "prompts.txt")
    return Advisor(command, data, ledger=data.parent / "ledger", pace_s=pace_s)


def _killed_and_resumed(
    ground: Ground, name: str, moment_s: float, undisturbed: Ended, whole: Rows
) -> tuple[list[str], int]:
    """What was lost, and how many measurements the killed one had stored."""
    data = ground.data_dir(name)
    ended, family = _advisor(ground, data).kill_after(moment_s)
    lost = list(left_over(family))
    reported = ledger.reported(data.parent / "ledger")
    before = stored_rows(data)
    lost += missing(reported, before)
    lost += _opens_clean(data)
    again = _advisor(ground, data).wait()
    lost += different(again, undisturbed)
    after = stored_rows(data)
    changed = [kind for (kind, key), row in before.items() if after.get((kind, key)) != row]
    if changed:
        lost.append(f"measured again or lost: {dict(Counter(changed))}")
    if {key for key in after if key[0] != "plan"} != {key for key in whole if key[0] != "plan"}:
        lost.append(f"{len(after)} measurements in the end, {len(whole)} without a kill")
    if not ended.killed and ended.code:
        lost.append(f"it ended with {ended.code} before the kill: {ended.errors[-300:]}")
    shutil.rmtree(data.parent)
    return lost, len(before)


def _opens_clean(data: Path) -> Iterator[str]:
    if (path := data / "measurements.sqlite3").exists():
        with Store(path) as store:
            if store.kept_aside is not None:
                yield "the store was damaged"


def stored_rows(data: Path) -> Rows:
    """Empty where there is no store."""
    path = data / "measurements.sqlite3"
    if not path.exists():
        return {}
    connection = sqlite3.connect(path)
    try:
        query = "SELECT kind, key_json, value_json, wall_s, created_at FROM measurement"
        return {(kind, key): (value, wall_s, when) for kind, key, value, wall_s, when in connection.execute(query)}
    except sqlite3.OperationalError:  # killed before the tables were made
        return {}
    finally:
        connection.close()


def missing(reported: Collection[tuple[str, str]], stored: Rows) -> Iterator[str]:
    """What the killed advisor had said that it stored, and what is not there."""
    kinds = Counter(kind for kind, key in reported if (kind, key) not in stored)
    if kinds:
        yield f"reported as stored, and lost: {dict(kinds)}"


def different(ended: Ended, undisturbed: Ended) -> Iterator[str]:
    """Why this is not the answer of the undisturbed search."""
    if ended.code:
        yield f"exit code {ended.code}: {ended.errors[-300:]}"
    elif ended.answer != undisturbed.answer:
        yield f"another answer: {ended.answer} instead of {undisturbed.answer}"


def _stale_locks(ground: Ground, undisturbed: Ended) -> Outcome:
    """What an advisor that was killed at the worst moment leaves: lock files, and half a line in the journal."""
    data = ground.data_dir("stale")
    _advisor(ground, data, pace_s=0).wait()
    (data / "studies.journal.lock").touch()
    (data.parent / "draft-advisor-timing.lock").write_text("1")
    with (data / "studies.journal").open("ab") as journal:
        journal.write(b'{"op_code":4,"worker_id":"half a l')
    lost = []
    for attempt in ("first", "second"):
        ended = _advisor(ground, data, pace_s=0).wait()
        lost += [f"{attempt} search after it: {why}" for why in different(ended, undisturbed)]
    return Outcome("stale locks and half a line in the journal", 2, tuple(lost))


def _two_at_once(ground: Ground, undisturbed: Ended, *, same_store: bool) -> Outcome:
    name = "one store" if same_store else "two stores"
    first = ground.data_dir(name)
    second = first if same_store else first.parent / "other"
    ground.furnish(second)
    running = [_advisor(ground, data) for data in (first, second)]
    lost = [why for one in running for why in different(one.wait(), undisturbed)]
    entries = [entry for entry in ledger.read(first.parent / "ledger") if entry.call in TIMED]
    lost += overlaps(entries)
    advisors = len({entry.advisor for entry in entries})
    note = f"{len(entries)} timings by {advisors} of them"
    return Outcome(f"two advisors at once on {name}", 2, tuple(lost), note)


def overlaps(entries: list[ledger.Entry]) -> Iterator[str]:
    """Timings of two advisors at the same moment."""
    by_time = sorted(entries, key=lambda entry: entry.begin_s)
    for one, next_one in itertools.pairwise(by_time):
        if one.advisor != next_one.advisor and next_one.begin_s < one.end_s:
            yield f"{one.call} of {one.advisor} and {next_one.call} of {next_one.advisor} were timed together"
