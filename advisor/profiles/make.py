"""A profile from a recommendation: what was measured for it, and by whom."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from advisor.acceptance.transcripts import answer_digest, transcript_key
from advisor.errors import FileProblem
from advisor.profiles.record import MeasuredCost, Profile, checked
from advisor.store import Store
from advisor.types import Model, Origin, Recommendation, Trace, Transcript

FindProfile = Callable[[str], Profile | None]
"""digest -> the imported profile with it, None where it is no longer kept."""


def profile_of(rec: Recommendation, advisor: str, *, with_texts: bool, store: Store, imported: FindProfile) -> Profile:
    """``advisor`` is this version. With ``with_texts`` answers and prompts are taken from ``store``, or from the
    profile that acceptance was ``imported`` with. Raises FileProblem where there is nothing to export."""
    whole = _lengths(_most(rec))
    if rec.origin is not None:  # of answers that some draft was replayed over
        seen = replace(rec.origin, prompts=rec.origin.prompts[: len(whole)], answers=rec.origin.answers[: len(whole)])
        rec = replace(rec, origin=seen)
    drafts = [one.draft for one in rec.candidates if _lengths(rec.traces.get(one.draft.content_hash, ())) == whole]
    if rec.origin is None or not (whole and drafts):
        raise FileProblem(
            "This recommendation has no acceptance traces to export.",
            why="It is a prediction, a sweep, of an earlier version, or every draft failed.",
            fix="Run `advisor recommend` with model files, then export.",
        )
    profile = Profile(
        target=_anywhere(rec.target),
        drafts=tuple(sorted((_anywhere(draft) for draft in drafts), key=lambda draft: draft.content_hash)),
        origin=replace(rec.origin, profile=""),
        transcripts=_transcripts(rec, rec.origin),
        traces={draft.content_hash: rec.traces[draft.content_hash] for draft in drafts},
        costs=(_cost(rec, {draft.content_hash for draft in drafts}),),
        advisor=advisor,
        created_at=rec.created_at,
        merged=(rec.origin.profile,) if rec.origin.profile else (),
    )
    checked(profile, "What would be exported")
    if not with_texts:
        return profile.masked()
    return replace(profile, transcripts=_texts(rec, rec.origin, store, imported))


def _most(rec: Recommendation) -> Sequence[Trace]:
    """Of a draft that was replayed over all answers: one that loses at once is over their beginnings alone."""
    return max(rec.traces.values(), key=_lengths, default=())


def _lengths(traces: Sequence[Trace]) -> tuple[int, ...]:
    return tuple(len(trace.answer_tokens) for trace in traces)


def _cost(rec: Recommendation, drafts: Collection[str]) -> MeasuredCost:
    return MeasuredCost(
        host=replace(rec.host, measured_at="", notes=()),
        build=rec.build,
        threads=rec.settings.threads,
        repack_off=rec.measurement.repack_off,
        token_s=rec.baseline.token_s,
        target_curve=rec.target_curve,
        draft_curves={
            draft: curve for draft, curve in rec.draft_curves.items() if draft in drafts and not curve.guessed
        },
    )


def _transcripts(rec: Recommendation, origin: Origin) -> tuple[Transcript, ...]:
    """Without prompts: what the traces know of the answers."""
    return tuple(
        Transcript(trace.category, (), trace.answer_tokens, ended=False, prompt=prompt)
        for trace, prompt in zip(_most(rec), origin.prompts, strict=True)
    )


def _texts(rec: Recommendation, origin: Origin, store: Store, imported: FindProfile) -> tuple[Transcript, ...]:
    if origin.profile:
        profile = imported(origin.profile)
        found: Sequence[Transcript | None] = profile.transcripts if profile and profile.origin.has_texts else ()
    else:
        found = [_stored(rec, origin, at, store) for at in range(len(origin.prompts))]
    whole = tuple(one for one in found if one is not None)
    if [answer_digest(one) for one in whole] != list(origin.answers):
        raise FileProblem(
            "The texts of this recommendation are not on this machine.",
            why="They are no longer among the measurements, or came without texts.",
            fix="Export without --with-texts, or where it was measured.",
        )
    return whole


def _stored(rec: Recommendation, origin: Origin, at: int, store: Store) -> Transcript | None:
    category = _most(rec)[at].category
    prompt, context = origin.prompts[at], rec.settings.context
    key = transcript_key(rec.target, prompt, category, origin.sampling, origin.max_tokens, context, rec.build.key)
    found = store.get("transcript", key, Transcript)
    return None if found is None else replace(found, prompt=prompt)


def _anywhere(model: Model) -> Model:
    """A model without the places where this machine keeps it."""
    return replace(model, path="", paths=())
