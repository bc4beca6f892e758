"""What every n-gram method owes, as tests to subclass.

    class TestMine(NgramConformance):
        method = "ngram-mine"                   # as in advisor.ngram.METHODS

That a method drafts what llama-server drafts is another matter: compare it with a second writing, as the project's own
tests do, or with a real server (``python -m benchmarks ngram``).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from advisor.acceptance.ngram import NgramAcceptance
from advisor.acceptance.walk import Walk
from advisor.dialect import dialect_of
from advisor.ngram import METHODS
from advisor.ngram.proposer import NgramProposer
from advisor.types import Config, Transcript

ROOMY = 10**6
EXAMPLES = 150
VERSE = tuple(range(100, 140))


class NgramConformance:
    """``minimum``: whether the method has a least draft length, n_min."""

    method: str
    minimum: bool = False

    def config(self, size: int, k: int, n_min: int = 0) -> Config:
        return Config("", k, n_min=n_min if self.minimum else 0, method=self.method, ngram_size=size)

    def test_it_is_in_the_table_under_the_name_that_the_server_has(self) -> None:
        assert METHODS[self.method].default.method == self.method
        assert METHODS[self.method].default.ngram_size > 0
        assert self.method in dialect_of(0).methods
        assert any("--spec" in flag for flag in dialect_of(0).speculation(self.config(4, 8)))

    def test_counts_of_a_walk_add_up(self) -> None:
        for config, served in self._examples():
            for walk, asked in zip(self._walks(config, served), served, strict=True):
                assert 0 <= walk.accepted <= walk.drafted <= config.k * walk.steps
                assert walk.tokens == len(asked.answer_tokens) - 1
                assert walk.steps + walk.accepted - walk.tokens in (0, 1)
                assert walk.draft_calls == 0

    def test_a_run_that_sees_the_text_grow_drafts_what_the_replay_of_the_whole_text_says(self) -> None:
        """So nothing is drafted from what is not written yet."""
        for config, served in self._examples():
            proposer = NgramProposer(config)
            for walk, asked in zip(self._walks(config, served), served, strict=True):
                steps = list(_run_live(proposer, asked, config.k))
                assert walk.steps == len(steps)
                assert walk.drafted == sum(drafted for drafted, _ in steps)
                assert walk.accepted == sum(accepted for _, accepted in steps)

    def test_every_walk_is_a_fresh_server(self) -> None:
        for config, served in self._examples(20):
            acceptance = NgramAcceptance(served, context=ROOMY, max_tokens=ROOMY)
            assert acceptance.walks(config) == acceptance.walks(config)

    def test_a_long_copy_is_drafted(self) -> None:
        copied = Transcript("copy", (1, 2, 3, *VERSE, *VERSE, *VERSE, 4, 5), (*VERSE, *VERSE), ended=True)
        (walk,) = self._walks(self.config(4, 8), [copied])
        assert walk.accepted > len(VERSE) / 2
        assert walk.steps < len(copied.answer_tokens) - 1

    def test_new_text_is_not_drafted(self) -> None:
        fresh = Transcript("new", tuple(range(1, 60)), tuple(range(1000, 1060)), ended=True)
        (walk,) = self._walks(self.config(4, 8), [fresh])
        assert walk.drafted == 0

    def test_a_prompt_that_was_answered_is_not_served_again(self) -> None:
        config = self.config(2, 4)
        proposer = NgramProposer(config)
        assert proposer.serves(config, (1, 2, 3))
        proposer.begin((1, 2, 3))
        assert not proposer.serves(config, (1, 2, 3))
        assert not proposer.serves(replace(config, k=5), (1, 2, 4))

    def _walks(self, config: Config, served: Sequence[Transcript]) -> Sequence[Walk]:
        return NgramAcceptance(served, context=ROOMY, max_tokens=ROOMY).walks(config)

    def _examples(self, count: int = EXAMPLES) -> Iterator[tuple[Config, list[Transcript]]]:
        """Requests of few different tokens, often with a stretch repeated, one after the other; the same every time."""
        ends_with_its_draft = Transcript("copy", (1, 2), (1,) * 6, ended=True)
        yield self.config(1, 1), [Transcript("copy", (1, 1), (1, 1), ended=True), ends_with_its_draft]
        for seed in range(count):
            chance = random.Random(seed)
            config = self.config(chance.randint(1, 4), chance.randint(1, 7), chance.randint(0, 4))
            yield config, [_request(chance) for _ in range(chance.randint(1, 4))]


def _request(chance: random.Random) -> Transcript:
    def text(low: int, high: int) -> tuple[int, ...]:
        some = [chance.randint(1, 4) for _ in range(chance.randint(low, high))]
        return tuple(some + some[: chance.randint(0, len(some))])

    return Transcript("copy", text(1, 40), text(2, 40), ended=True)


def _run_live(proposer: NgramProposer, asked: Transcript, k: int) -> Iterator[tuple[int, int]]:
    """(drafted, accepted) of each step of a target that writes this answer, one token known at a time."""
    answer, emitted = asked.answer_tokens, 1
    proposer.begin(asked.prompt_tokens)
    while emitted < len(answer):
        proposals = proposer.propose(answer[:emitted], k)
        agreed = 0
        while agreed < len(proposals) and answer[emitted + agreed : emitted + agreed + 1] == (proposals[agreed],):
            agreed += 1
        if agreed < len(proposals) and emitted + agreed == len(answer):  # the answer's end token inside the draft
            agreed -= 1
        written = [*proposals[:agreed], 0]  # and one of the target's own, of which nothing depends here
        proposer.verified([answer[emitted - 1], *proposals], written, 0)
        yield len(proposals), agreed
        emitted += agreed + 1
