"""The target's own answers, each token by who would have written it under a config."""

from __future__ import annotations

from collections.abc import Sequence

from advisor.acceptance.walk import Walker, usual_chain
from advisor.reasons.ground import Ground
from advisor.reasons.records import ColouredAnswer, ColouredToken, DraftReasons, TokenRole
from advisor.types import Config, Recommendation, Trace


class _RecordedWalk(Walker):
    """A walk that keeps where each step began and how much it drafted."""

    def __init__(self, trace: Trace, p_min: float, usual: float) -> None:
        super().__init__(trace, p_min, usual)
        self.began: list[tuple[int, int]] = []

    def _draft(self, start: int, room: int) -> tuple[int, int]:
        drafted, calls = super()._draft(start, room)
        self.began.append((start, drafted))
        return drafted, calls


def coloured_answers(rec: Recommendation, ground: Ground, subject: DraftReasons | None) -> tuple[ColouredAnswer, ...]:
    if subject is None:
        return ()
    traces = rec.traces.get(subject.draft.content_hash, ())
    if len(rec.answers) != len(traces):
        return ()
    config = subject.best.config
    usual = usual_chain(traces, config.p_min)
    return tuple(
        ColouredAnswer(trace.category, _coloured_tokens(trace, text.pieces, config, usual, ground.max_tokens))
        for trace, text in zip(traces, rec.answers, strict=True)
        if len(text.pieces) == len(trace.answer_tokens)
    )


def _coloured_tokens(
    trace: Trace, pieces: Sequence[str], config: Config, usual: float, max_tokens: int
) -> tuple[ColouredToken, ...]:
    recorded = _RecordedWalk(trace, config.p_min, usual)
    accepted_in_all = recorded.walk(config.k, config.n_min, max_tokens=max_tokens).accepted
    roles: list[tuple[TokenRole, int, int]] = [("alone", 0, 0)] * len(pieces)
    for number, (start, drafted) in enumerate(recorded.began, start=1):
        is_last = number == len(recorded.began)
        accepted = accepted_in_all if is_last else recorded.began[number][0] - start - 1
        accepted_in_all -= accepted
        for position in range(accepted):
            roles[start + position] = ("accepted", number, position + 1)
        if start + accepted < len(roles):
            at = start + accepted
            roles[at] = (
                _own_token(trace, at, drafted - accepted, number, accepted + 1) if drafted else ("alone", number, 0)
            )
    return tuple(
        ColouredToken(text, role, step, position, probability)
        for text, (role, step, position), probability in zip(pieces, roles, trace.probability, strict=True)
    )


def _own_token(trace: Trace, at: int, left: int, step: int, position: int) -> tuple[TokenRole, int, int]:
    """The target's token that ends a step, with ``left`` drafted tokens not accepted, itself
    at ``position`` of the draft.

    An answer's last token ends its step even where the draft had it right; then it is shown as the draft's.
    """
    if left == 0:
        return "bonus", step, 0
    if trace.proposal[at] == trace.answer_tokens[at]:
        return "accepted", step, position
    return "corrected", step, 0
