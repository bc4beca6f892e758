"""Several profiles of one target as one. The order in which they are given does not matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from advisor.errors import FileProblem
from advisor.profiles.record import MeasuredCost, Profile, content_digest
from advisor.types import Model, Sampling, to_json


def merge(profiles: Sequence[Profile]) -> tuple[Profile, tuple[Profile, ...]]:
    """The profile with the traces of all drafts and the costs of all machines, and those whose acceptance is left out
    because their answers are other answers: traces over different texts are not comparable.

    The acceptance kept is that over the most tokens. Texts are kept where a profile of the kept answers has them for
    all drafts. Raises FileProblem naming what differs where they are not of one target, prompts and sampling.
    """
    ordered = sorted(profiles, key=lambda one: one.digest)
    for other in ordered[1:]:
        _check_alike(ordered[0], other)
    groups: dict[tuple[str, ...], list[Profile]] = {}
    for one in ordered:
        groups.setdefault(one.origin.answers, []).append(one)
    chosen = max(groups.values(), key=_tokens)
    left_out = tuple(one for one in ordered if one not in chosen)
    if not all(one.origin.has_texts for one in chosen):
        chosen = [one.masked() for one in chosen]
    first = chosen[0]
    drafts = {draft.content_hash: draft for one in (*left_out, *chosen) for draft in one.drafts}
    traces = {draft: traces for one in chosen for draft, traces in one.traces.items()}
    costs = _costs(ordered, frozenset(traces))
    merged = Profile(
        target=first.target,
        drafts=tuple(drafts[draft] for draft in sorted(traces)),
        origin=replace(first.origin, k_max=min(one.origin.k_max for one in chosen)),
        transcripts=first.transcripts,
        traces=dict(sorted(traces.items())),
        costs=costs,
        advisor=max(one.advisor for one in ordered),
        created_at=max(one.created_at for one in ordered),
        merged=tuple(sorted({digest for one in ordered for digest in (one.merged or (one.digest,))})),
    )
    return (ordered[0] if len({one.digest for one in ordered}) == 1 else merged), left_out


def difference(ours: Model, theirs: Model) -> str | None:
    """Why a profile of one model says nothing about the other, None where it does."""
    if ours.vocabulary != theirs.vocabulary:
        return (
            f"They have different tokenizers: {_tokenizer(ours)} of {ours.label}, {_tokenizer(theirs)} of "
            f"{theirs.label}."
        )
    if ours.content_hash != theirs.content_hash:
        return (
            f"They are different files: {ours.label} has the hash {ours.content_hash[:12]}, {theirs.label} has "
            f"{theirs.content_hash[:12]}."
        )
    return None


def same_sampling(ours: Sampling, theirs: Sampling) -> bool:
    """Whether the target chooses alike. Greedy decoding asks none of the other settings."""
    return ours == theirs or ours.temperature == theirs.temperature == 0


def _check_alike(one: Profile, other: Profile) -> None:
    why = difference(one.target, other.target)
    if why is None and one.origin.workload_hash != other.origin.workload_hash:
        why = f"They were measured with other prompts: {one.origin.workload} and {other.origin.workload}."
    if why is None and not same_sampling(one.origin.sampling, other.origin.sampling):
        temperatures = one.origin.sampling.temperature, other.origin.sampling.temperature
        why = f"They were sampled otherwise: temperature {temperatures[0]:g} and {temperatures[1]:g}, or another seed."
    if why is None and one.origin.max_tokens != other.origin.max_tokens:
        why = f"Their answers have up to {one.origin.max_tokens} and {other.origin.max_tokens} tokens."
    if why is not None:
        raise FileProblem(
            f"{one.title} and {other.title} cannot be merged.",
            why=why,
            fix="Merge profiles of one target, one workload and one sampling; import others side by side.",
        )


def _tokens(group: Sequence[Profile]) -> tuple[int, str]:
    """How much a group's acceptance rests on; its digests decide between equals."""
    drafts = {draft for one in group for draft in one.traces}
    answers = sum(len(one.answer_tokens) for one in group[0].transcripts)
    return len(drafts) * answers, group[0].digest


def _costs(profiles: Sequence[Profile], drafts: frozenset[str]) -> tuple[MeasuredCost, ...]:
    """Each measurement once, with the curves of the kept drafts only."""
    found: dict[str, MeasuredCost] = {}
    for cost in (cost for one in profiles for cost in one.costs):
        curves = {draft: curve for draft, curve in sorted(cost.draft_curves.items()) if draft in drafts}
        kept = replace(cost, draft_curves=curves)
        found[content_digest(to_json(kept).decode())] = kept
    return tuple(found[digest] for digest in sorted(found))


def _tokenizer(model: Model) -> str:
    return f"{model.vocabulary.model}/{model.vocabulary.pre} with {model.vocabulary.size} tokens"
