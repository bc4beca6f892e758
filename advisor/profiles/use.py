"""Whether a profile answers a question, and what a study takes from it in place of measuring."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from advisor.acceptance.transcripts import prompt_digest
from advisor.errors import FileProblem
from advisor.plan import Question
from advisor.profiles.merge import difference, same_sampling
from advisor.profiles.record import Profile
from advisor.types import Candidate, Message, Model, Origin, Trace, Transcript

Tokenize = Callable[[Sequence[Message]], tuple[int, ...]]


@dataclass(frozen=True)
class Imported:
    """A profile that answers this question. ``messages`` are the prompts of its answers."""

    profile: Profile
    messages: tuple[tuple[Message, ...], ...]

    @property
    def has_texts(self) -> bool:
        return self.profile.origin.has_texts

    @property
    def digest(self) -> str:
        return self.profile.digest

    @property
    def size(self) -> tuple[int, int]:
        """So many answers of at most so many tokens."""
        return len(self.profile.transcripts), self.profile.origin.max_tokens

    @property
    def tokens(self) -> int:
        """How many its acceptance rests on."""
        return sum(len(one.answer_tokens) for one in self.profile.transcripts)

    @property
    def origin(self) -> Origin:
        """As a recommendation that uses it says."""
        return replace(self.profile.origin, profile=self.digest)

    def transcripts(self, tokenize: Tokenize) -> tuple[Transcript, ...]:
        """The answers; masked ones with the prompts as ``tokenize`` has them, so that they can be asked again."""
        if self.has_texts:
            return self.profile.transcripts
        pairs = zip(self.profile.transcripts, self.messages, self.profile.origin.prompts, strict=True)
        return tuple(replace(one, prompt_tokens=tokenize(messages), prompt=digest) for one, messages, digest in pairs)

    def traces(self, candidates: Iterable[Candidate]) -> dict[str, tuple[Trace, ...]]:
        """Of those candidates that the profile has."""
        wanted = {candidate.draft.content_hash for candidate in candidates}
        return {draft: traces for draft, traces in self.profile.traces.items() if draft in wanted}

    @property
    def remark(self) -> str:
        """What a reader of the recommendation must know."""
        origin = self.profile.origin
        without = (
            ""
            if self.has_texts
            else " It has no texts, so methods without a draft do not compete, and the pick is not looked at in a long "
            "context; that share of the budget goes to real runs."
        )
        return (
            f"Acceptance is imported, not measured here: profile {self.digest[:12]}, replayed on {origin.host.cpu} "
            f"with {origin.build.engine} {origin.build.version}; costs and real runs are this machine's.{without}"
        )


def take(profile: Profile, question: Question, candidates: Sequence[Candidate]) -> Imported:
    """The profile in place of own replays. Raises FileProblem saying why it does not answer the question."""
    why = _mismatch(profile, question, candidates)
    if why is not None:
        raise FileProblem(
            f"{profile.title} does not answer this question.",
            why=why,
            fix="Leave --profile out to measure acceptance here, or export a profile for these models and settings.",
        )
    prompts = {prompt_digest(prompt): prompt.messages for prompt in question.workload.prompts}
    return Imported(profile, tuple(prompts[digest] for digest in profile.origin.prompts))


def largest_that_fits(
    profiles: Iterable[Profile], question: Question, candidates: Sequence[Candidate], note: Callable[[str], None]
) -> Imported | None:
    """Of ``profiles`` that answer the question the one over most tokens, the first of equals. One that is about the
    target and its drafts, and still does not answer it, is named with its reason."""
    able = []
    for profile in profiles:
        if profile.target.content_hash != question.target.content_hash:
            continue
        try:
            able.append(take(profile, question, candidates))
        except FileProblem as error:
            note(f"{profile.title}, imported before, is not used: {error.why}")
    return max(able, key=lambda one: one.tokens, default=None)


def _mismatch(profile: Profile, question: Question, candidates: Sequence[Candidate]) -> str | None:
    origin, settings = profile.origin, question.settings
    why = difference(question.target, profile.target) or _drafts_mismatch(profile, [c.draft for c in candidates])
    if why is not None:
        return why
    if not same_sampling(origin.sampling, settings.sampling):
        return (
            f"It was sampled at temperature {origin.sampling.temperature:g} (seed {origin.sampling.seed}), asked is "
            f"{settings.sampling.temperature:g} (seed {settings.sampling.seed})."
        )
    if origin.max_tokens > settings.max_tokens:
        return f"Its answers have up to {origin.max_tokens} tokens, --max-tokens is {settings.max_tokens}."
    if origin.k_max < settings.k_max:
        return f"It was replayed for drafts of up to {origin.k_max} tokens, --k-max is {settings.k_max}."
    prompts = {prompt_digest(prompt) for prompt in question.workload.prompts}
    missing = sum(digest not in prompts for digest in origin.prompts)
    if missing:
        return (
            f"{missing} of its {len(origin.prompts)} prompts are not in the workload {question.workload.name}; it was "
            f"measured with {origin.workload}."
        )
    return None


def _drafts_mismatch(profile: Profile, drafts: Sequence[Model]) -> str | None:
    """A draft that the profile has can do without texts; any other is replayed over them, so they must be there."""
    known = {draft.content_hash for draft in profile.drafts}
    others = [draft for draft in drafts if draft.content_hash not in known]
    by_label: Mapping[str, Model] = {draft.label: draft for draft in profile.drafts}
    for draft in others:
        if draft.label in by_label:
            return difference(draft, by_label[draft.label])
    if len(others) == len(drafts):
        return "It has none of these drafts."
    if others and not profile.origin.has_texts:
        names = ", ".join(draft.label for draft in others)
        return f"It has no traces of {names}, and no texts to replay over (profile export --with-texts)."
    return None
