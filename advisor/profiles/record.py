"""A profile as a record and as a file.

    {"schema": "draft-advisor/profile/1", "sha256": digest of "profile", "profile": {...}}

The digest is that of the profile's canonical JSON (sorted names, no spaces), so that a reformatted file is the same
profile and a changed one is noticed. It is no signature: whoever changes a profile on purpose can compute it anew.

Versions of the file:
    draft-advisor/profile/1   the first
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from advisor.errors import FileProblem
from advisor.types import Build, CostCurve, Host, Model, Origin, Trace, Transcript, from_json, to_json

FAMILY, VERSION = "draft-advisor/profile", 1
SCHEMA = f"{FAMILY}/{VERSION}"
SHOWN_DIGITS = 12  # of a digest, in names of files and in sentences
AGREED, OTHER = 1, 0  # what stands for tokens where there are no texts
MAX_BYTES = 1 << 30
WRITTEN_BY = "Use a file written by `advisor profile export`."


@dataclass(frozen=True)
class MeasuredCost:
    """What decodes cost on one machine. ``draft_curves`` by content hash; ``token_s``: the target alone, a token."""

    host: Host
    build: Build
    threads: int
    repack_off: bool
    token_s: float
    target_curve: CostCurve
    draft_curves: dict[str, CostCurve]


@dataclass(frozen=True)
class Profile:
    """Acceptance of ``drafts`` under ``target``, and the costs that were measured beside it.

    ``transcripts`` are in the order of the traces of every draft. Without ``origin.has_texts`` they are masked: no
    token of a prompt, and of answers and traces only whether a proposal agreed. Models have no paths. ``merged`` are
    the digests of the profiles that this one was made from.
    """

    target: Model
    drafts: tuple[Model, ...]
    origin: Origin
    transcripts: tuple[Transcript, ...]
    traces: dict[str, tuple[Trace, ...]]
    costs: tuple[MeasuredCost, ...]
    advisor: str
    created_at: str
    merged: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The address of its content: 64 hex digits."""
        return content_digest(json.loads(to_json(self)))

    @property
    def title(self) -> str:
        """What people know it by."""
        return f"{self.target.label}, profile {self.digest[:SHOWN_DIGITS]}"

    def masked(self) -> Profile:
        """The same profile without any text."""
        return replace(
            self,
            origin=replace(self.origin, has_texts=False),
            transcripts=tuple(
                Transcript(t.category, (), (AGREED,) * len(t.answer_tokens), t.ended) for t in self.transcripts
            ),
            traces={draft: tuple(_masked(trace) for trace in traces) for draft, traces in self.traces.items()},
        )


def content_digest(parsed: Any) -> str:
    """SHA-256 of JSON content, whatever its layout."""
    return hashlib.sha256(json.dumps(parsed, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def dumps(profile: Profile) -> bytes:
    """The file's content. Equal profiles have equal bytes."""
    parsed = json.loads(to_json(profile))
    document = {"schema": SCHEMA, "sha256": content_digest(parsed), "profile": parsed}
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def loads(content: bytes, name: str) -> Profile:
    """The inverse of dumps; ``name`` is what messages call it. Raises FileProblem: no profile, one of a newer version,
    one that was changed."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise _no_profile(name, "It is not JSON.") from None
    schema = document.get("schema") if isinstance(document, dict) else None
    version = re.fullmatch(rf"{FAMILY}/(\d{{1,9}})", schema) if isinstance(schema, str) else None
    if version is None:
        raise _no_profile(name, f"Its schema is {schema!r}." if schema else "It does not name its schema.")
    if int(version[1]) > VERSION:
        raise FileProblem(
            f"The profile {name} was written by a newer version of advisor.",
            why=f"Its schema is {schema}; this version knows schemas up to {SCHEMA}.",
            fix="Update advisor.",
        )
    if document.get("sha256") != (found := content_digest(document.get("profile"))):
        raise FileProblem(
            f"The profile {name} was changed after it was written, or damaged.",
            why=f"Its content has the hash {found[:SHOWN_DIGITS]}..., it says {str(document.get('sha256'))[:12]}...",
            fix="Get it again from where it was made.",
        )
    return checked(from_json(Profile, json.dumps(document["profile"])), name)


def read(path: Path) -> Profile:
    """A profile's file. Raises FileProblem as loads, and where it cannot be read."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _no_profile(str(path), "It is too large to be one.")
        return loads(path.read_bytes(), str(path))
    except OSError as error:
        raise FileProblem(
            f"The profile {path} cannot be read.", why=f"{error.strerror or error}.", fix=WRITTEN_BY
        ) from None


def checked(profile: Profile, name: str) -> Profile:
    """The profile; FileProblem where its parts do not belong together, or a cost is no time."""
    lengths = [len(t.answer_tokens) for t in profile.transcripts]
    drafts = {draft.content_hash for draft in profile.drafts}
    whole = (
        drafts == set(profile.traces)
        and len(profile.origin.prompts) == len(profile.origin.answers) == len(lengths) > 0
        and all([len(trace.answer_tokens) for trace in traces] == lengths for traces in profile.traces.values())
        and all(
            len(trace.proposal) == len(trace.probability) == len(trace.answer_tokens)
            and len(trace.chance) in (0, len(trace.answer_tokens))
            for traces in profile.traces.values()
            for trace in traces
        )
        and all(set(cost.draft_curves) <= drafts for cost in profile.costs)
    )
    if not whole:
        raise _no_profile(name, "Its traces, its answers and its drafts do not belong together.")
    timeless = next((cost for cost in profile.costs if not 0 < cost.token_s < math.inf), None)
    if timeless is not None:
        raise _no_profile(name, f"Its costs of {timeless.host.cpu} have a token_s of {timeless.token_s:g} seconds.")
    return profile


def _masked(trace: Trace) -> Trace:
    """A walk over it gives what a walk over the trace gives: it asks only whether a proposal agreed."""
    agreed = zip(trace.proposal, trace.answer_tokens, strict=True)
    return replace(
        trace,
        answer_tokens=(AGREED,) * len(trace.answer_tokens),
        proposal=tuple(AGREED if proposed == token else OTHER for proposed, token in agreed),
    )


def _no_profile(name: str, why: str) -> FileProblem:
    return FileProblem(f"{name} is not a profile.", why=why, fix=WRITTEN_BY)
