"""Crash isolation: every fault at every stage, in a worker that really dies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import psutil

from advisor.errors import AdvisorError, TargetFailure
from advisor.exporters import llama_server
from advisor.types import Recommendation
from chaos.faults import KINDS, STAGES, Fault, happened, variables
from chaos.outcome import Outcome
from chaos.world import TRUTHS, Ground, environment, search_in, summary

VICTIM = "birch"
EXPECTED_WORD = {"hang": "did not finish", "memory": "MemoryError"}
TARGET_STAGES = ("load", "generate", "time")  # where the first worker to get there holds the target alone


def crash_isolation(
    ground: Ground, kinds: Sequence[str] = KINDS, stages: Sequence[str] = tuple(STAGES)
) -> Iterator[Outcome]:
    calm = search_in(ground.data_dir("calm"), ground.models)
    for stage in stages:
        yield _every_kind_at(ground, stage, kinds, calm)
    for stage in (stage for stage in TARGET_STAGES if stage in stages):
        yield _one_death_of_the_target(ground, stage, kinds, calm)
    yield _target_that_always_dies(ground)
    yield _remedy(ground)


def _every_kind_at(ground: Ground, stage: str, kinds: Sequence[str], calm: Recommendation) -> Outcome:
    """A draft whose worker always fails at this stage."""
    lost: list[str] = []
    for kind in kinds:
        # Answers are the target's: one that fails while the victim is loaded is counted against the pair.
        fault = Fault(STAGES[stage], kind, VICTIM)
        name = f"draft-{STAGES[stage]}-{kind}"
        lost += [f"{kind}: {loss}" for loss in _search_with(ground, name, fault, calm)]
    return Outcome(f"a draft's worker fails at: {stage} ({', '.join(kinds)})", len(kinds), tuple(lost))


def _search_with(ground: Ground, name: str, fault: Fault, calm: Recommendation) -> Iterator[str]:
    data = ground.data_dir(name)
    with environment(**variables(data.parent, fault)):
        try:
            found = search_in(data, ground.models)
        except AdvisorError as error:
            yield f"the search ended: {error.what}"
            return
    yield from orphans()
    struck = happened(data.parent)
    if not struck and fault.call != "answer":
        yield "the fault never struck"
    if not struck:
        return
    reasons = {one.draft: one.detail for one in found.rejected}
    word = EXPECTED_WORD.get(fault.kind, fault.kind)
    if fault.call != "answer" and word not in reasons.get(VICTIM, ""):
        yield f"{VICTIM} is not marked with {word}: {reasons.get(VICTIM, 'no reason')}"
    others = {candidate.draft.name for candidate in found.candidates}
    if missing := set(TRUTHS) - {VICTIM} - others:
        yield f"{', '.join(sorted(missing))} was lost with it"
    if found.verdict != calm.verdict or found.best is None or found.best.evidence != "measured":
        yield f"there is no measured answer: {found.sentence}"


def _one_death_of_the_target(ground: Ground, stage: str, kinds: Sequence[str], calm: Recommendation) -> Outcome:
    """The worker that holds the target dies once: nothing at all may change."""
    lost: list[str] = []
    for kind in (kind for kind in kinds if kind != "memory"):  # a refusal is an answer, not a death
        data = ground.data_dir(f"target-{STAGES[stage]}-{kind}")
        with environment(**variables(data.parent, Fault(STAGES[stage], kind, "", times=1))):
            try:
                found = search_in(data, ground.models)
            except AdvisorError as error:
                lost.append(f"{kind}: the search ended: {error.what}")
                continue
        lost += [f"{kind}: {orphan}" for orphan in orphans()]
        if not happened(data.parent):
            lost.append(f"{kind}: the fault never struck")
        if summary(found)[:2] != summary(calm)[:2]:
            lost.append(f"{kind}: the answer changed: {found.sentence}")
    return Outcome(f"the first worker to {stage} dies once", len(kinds) - ("memory" in kinds), tuple(lost))


def _target_that_always_dies(ground: Ground) -> Outcome:
    """No answer is possible: a typed error, and what was measured is kept."""
    data = ground.data_dir("target-always")
    lost = []
    with environment(**variables(data.parent, Fault("answer", "SIGSEGV", "target"))):
        try:
            found = search_in(data, ground.models)
            lost.append(f"there was an answer: {found.sentence}")
        except TargetFailure as error:
            if "SIGSEGV" not in str(error) or "stored" not in error.fix:
                lost.append(f"the error does not say what to do: {error}")
        except AdvisorError as error:
            lost.append(f"{type(error).__name__} instead of TargetFailure: {error.what}")
    return Outcome("the target dies at every answer", 1, (*lost, *orphans()))


def _remedy(ground: Ground) -> Outcome:
    """A build that dies with extra buffers, as on hosts with AMX: found, applied, remembered, exported."""
    data = ground.data_dir("remedy")
    lost = []
    with environment(**variables(data.parent, Fault("open", "SIGSEGV", with_extra_buffers_only=True))):
        for search in ("first", "second"):
            found = search_in(data, ground.models)
            if not found.measurement.repack_off:
                lost.append(f"{search} search: not applied")
            if "--no-repack" not in llama_server.command(found):
                lost.append(f"{search} search: not exported")
    if happened(data.parent) != 1:
        lost.append(f"not remembered: {happened(data.parent)} crashes")
    return Outcome("a build that needs the AMX remedy", 2, tuple(lost))


def orphans(root: psutil.Process | None = None) -> Iterator[str]:
    """Workers that are still there, after a moment to leave."""
    _, alive = psutil.wait_procs((root or psutil.Process()).children(recursive=True), timeout=3)
    for process in alive:
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            yield f"process {process.pid} was left"
