"""The child process that runs native code: reads requests on stdin, answers on the original stdout.

Run as ``python -m advisor.engines.worker``. Native libraries that print to file descriptor 1 reach the log instead,
because stdout is re-pointed at stderr before they load. The end of stdin is the order to leave, at once, also in the
midst of a long decode: it comes when the parent is done, and when the parent was killed.
"""

from __future__ import annotations

import math
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from advisor.engines.frames import read_frame, write_frame

if TYPE_CHECKING:
    from advisor.engines import llama_session, speculation
    from advisor.engines.base import Operation
    from advisor.ngram.proposer import NgramProposer
    from advisor.types import Config

Handler = Callable[..., dict[str, Any]]
CALLS = ("open", "close", "render_chat", "answer", "text_of", "speculate", "score", "weigh", "time_decodes", "sleeps")


class Session:
    """The models a worker holds, by role ("target", "draft"), and what can be asked of them."""

    def __init__(self) -> None:
        self.contexts: dict[str, llama_session.Context] = {}
        self._ngram: NgramProposer | None = None

    def allow(self, within_s: float) -> None:
        """How long the next question may take."""
        for context in self.contexts.values():
            context.until = time.perf_counter() + within_s

    def open(self, role: str, path: str, options: dict[str, Any]) -> dict[str, Any]:
        from advisor.engines import llama_session

        self.close(role)
        context = llama_session.Context(path, llama_session.ContextOptions(**options))
        self.contexts[role] = context
        for tokens in ([0], [0, 0]):  # a build that crashes on this host crashes here, before anything is measured
            context.decode(tokens, outputs=1)
        context.clear()
        return {}

    def close(self, role: str) -> dict[str, Any]:
        context = self.contexts.pop(role, None)
        if context is not None:
            context.close()
        return {}

    def render_chat(self, messages: list[dict[str, str]]) -> dict[str, Any]:
        from advisor.engines import llama_session

        return {"tokens": llama_session.render_chat(self.contexts["target"], messages)}

    def answer(self, prompt: list[int], sampling: dict[str, Any], max_tokens: int) -> dict[str, Any]:
        from advisor.engines import llama_session
        from advisor.engines.own_memory import with_peak

        return with_peak(lambda: llama_session.answer(self.contexts["target"], prompt, sampling, max_tokens))

    def text_of(self, tokens: list[int]) -> dict[str, Any]:
        target = self.contexts["target"]
        return {"text": target.text_of(tokens), "ended": bool(tokens) and target.is_end(tokens[-1])}

    def speculate(
        self, prompt: list[int], config: dict[str, Any], sampling: dict[str, Any], max_tokens: int
    ) -> dict[str, Any]:
        from advisor.engines import speculation
        from advisor.engines.own_memory import with_peak
        from advisor.ngram import METHODS
        from advisor.types import Config

        wanted = Config(**config)
        proposer: speculation.Proposer
        if wanted.method in METHODS:
            proposer = self._ngram_that_has_not_seen(prompt, wanted)
        else:
            draft: Any = self.contexts["draft"]
            limits: dict[str, Any] = {"p_min": wanted.p_min, "n_min": wanted.n_min}
            is_sampled = wanted.draft_sampling == "probabilistic" and sampling["temperature"] > 0
            proposer = (
                speculation.SampledDraft(draft, sampling, **limits)
                if is_sampled
                else speculation.DraftModel(draft, **limits)
            )
        target = self.contexts["target"]
        return with_peak(lambda: speculation.speculate(target, proposer, prompt, wanted.k, sampling, max_tokens))

    def _ngram_that_has_not_seen(self, prompt: list[int], config: Config) -> NgramProposer:
        """The method with the tables it has filled so far, as in a server that runs on; empty ones for a prompt that
        they hold the answer to."""
        from advisor.ngram.proposer import NgramProposer

        if self._ngram is None or not self._ngram.serves(config, prompt):
            self._ngram = NgramProposer(config)
        return self._ngram

    def score(self, role: str, **arguments: Any) -> dict[str, Any]:
        from advisor.engines import llama_session

        return llama_session.score(self.contexts[role], **arguments)

    def weigh(self, **arguments: Any) -> dict[str, Any]:
        from advisor.engines import llama_session

        return {"chosen": llama_session.weigh(self.contexts["target"], **arguments)}

    def time_decodes(self, operations: list[list[Any]], **arguments: Any) -> dict[str, Any]:
        from advisor.engines import llama_session

        pairs: list[Operation] = [(role, int(b)) for role, b in operations]
        return {"rounds": llama_session.time_decodes(self.contexts, pairs, **arguments)}

    def sleeps(self) -> dict[str, Any]:
        from advisor.engines import llama_session

        return {"sleeps": llama_session.has_openmp()}


def serve(session: object, calls: Sequence[str] = CALLS) -> None:
    """``session`` has a method for each call, and ``allow`` where it can keep to a time."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    handlers: dict[str, Handler] = {name: getattr(session, name) for name in calls}
    allow = getattr(session, "allow", None)
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(inbox,), daemon=True).start()
    while True:
        request = inbox.get()
        try:
            if allow is not None:
                allow(request.get("within_s") or math.inf)
            reply: dict[str, Any] = {"ok": handlers[request["call"]](**request["arguments"])}
        except Exception as error:  # the worker stays; the parent decides what a failure means
            reply = _failure(type(error).__name__, str(error))
        write_frame(answers, reply)


def _failure(kind: str, text: str) -> dict[str, Any]:
    """By the names of exceptions: their module loads native code."""
    if kind == "Late":
        return {"late": True}
    return {"error": text if kind == "Refusal" else f"{kind}: {text}"}


def _receive(inbox: queue.SimpleQueue[dict[str, Any]]) -> None:
    """In a thread of its own: native calls do not hold it up."""
    try:
        while (request := read_frame(sys.stdin.buffer)) is not None:
            inbox.put(request)
    finally:
        os._exit(0)


if __name__ == "__main__":
    serve(Session())
