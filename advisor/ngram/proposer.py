"""An n-gram method at work: it sees the text grow, and keeps from one request to the next what a server keeps."""

from __future__ import annotations

from collections.abc import Sequence

from advisor.ngram import METHODS
from advisor.ngram.text import Text
from advisor.types import Config


class NgramProposer:
    """``native_s``: its look-ups are none of llama.cpp's time."""

    native_s = 0.0

    def __init__(self, config: Config) -> None:
        self.config = config
        self._method = METHODS[config.method](config)
        self._answered: set[tuple[int, ...]] = set()

    def serves(self, config: Config, prompt: Sequence[int]) -> bool:
        """Whether it can go on with this request: a prompt that it has answered it would draft from memory."""
        return self.config == config and tuple(prompt) not in self._answered

    def begin(self, prompt: Sequence[int]) -> None:
        """A new request; the target has its prompt in memory."""
        self._answered.add(tuple(prompt))
        self._text = Text(prompt)
        self._method.begin(self._text)

    def propose(self, tokens: Sequence[int], n_max: int) -> list[int]:
        """At most ``n_max`` tokens to follow ``tokens``, the answer so far."""
        text = self._text
        text.extend(tokens[len(text.tokens) - text.prompt_size :])
        return list(self._method.draft(len(text.tokens) - 1)[:n_max])

    def verified(self, batch: Sequence[int], emitted: Sequence[int], n_past: int) -> None:
        """The target has decoded ``batch``, its newest token and the proposals, and wrote ``emitted``."""
        if len(batch) > 1:
            self._method.accept(len(emitted) - 1)
