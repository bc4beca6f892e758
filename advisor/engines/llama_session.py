"""llama.cpp by its low-level API, inside the worker process: contexts, decodes, sampling.

Everything here may crash with the process; the parent (``worker.py``) turns that into typed errors.
This module knows nothing about acceptance, cost curves or predictions. It is one, though long: everything that holds a
native pointer is in it, so that what is freed, and when, can be read in one place.
"""

from __future__ import annotations

import ctypes
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from advisor.engines.base import CHAIN, Operation
from advisor.engines.llama_log import listen
from advisor.engines.own_memory import at_most_more
from advisor.engines.rounds import timed_rounds
from advisor.engines.sampling import draft_distribution, target_distribution, top_probability
from advisor.types import PLAIN_CACHE

listen()

Rows = npt.NDArray[np.float32]

TEMPLATE_BYTES, TEMPLATE_TEXT = 256 << 20, 4 << 20


class Refusal(Exception):
    """The engine cannot do what was asked; the message is for people."""


class Late(Exception):
    """The time for the question is over; raised between decodes."""


@dataclass(frozen=True)
class ContextOptions:
    """How a model is loaded. ``gpu_layers`` -1 means all; ``sequences`` > 1 is needed by rollouts only."""

    context: int
    threads: int
    gpu_layers: int = 0
    extra_buffers: bool = True
    sequences: int = 1
    outputs: int = 1
    batch: int = 512
    cache_type: str = PLAIN_CACHE


class Batch:
    """A llama_batch over numpy memory that is filled in place, so that a decode allocates nothing."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.tokens = np.zeros(capacity, np.int32)
        self.positions = np.zeros(capacity, np.int32)
        self.sequences = np.zeros(capacity, np.int32)
        self.outputs = np.zeros(capacity, np.int8)
        self._counts = np.ones(capacity, np.int32)
        first, stride = self.sequences.ctypes.data, self.sequences.itemsize
        self._pointers = np.arange(first, first + capacity * stride, stride, dtype=np.uintp)
        self.struct = llama_cpp.llama_batch()
        fields: dict[str, Any] = {field[0]: field[1] for field in type(self.struct)._fields_}
        for name, memory in (
            ("token", self.tokens),
            ("pos", self.positions),
            ("n_seq_id", self._counts),
            ("seq_id", self._pointers),
            ("logits", self.outputs),
        ):
            setattr(self.struct, name, ctypes.cast(memory.ctypes.data, fields[name]))


class Context:
    """One loaded model with its KV cache. ``n_past`` counts the cells of sequence 0; no decode begins after ``until``,
    a reading of ``time.perf_counter``."""

    def __init__(self, path: str, options: ContextOptions) -> None:
        self.options = options
        self.until = math.inf
        self.n_past = 0
        self._held: tuple[int, ...] = ()
        model_params = llama_cpp.llama_model_default_params()
        model_params.n_gpu_layers = options.gpu_layers
        model_params.use_extra_bufts = options.extra_buffers
        self.model = llama_cpp.llama_model_load_from_file(os.fsencode(path), model_params)
        if not self.model:
            raise Refusal(f"llama.cpp could not load {Path(path).name}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = options.context
        params.n_batch = params.n_ubatch = options.batch
        params.n_seq_max = options.sequences
        params.kv_unified = options.sequences > 1
        params.n_outputs_max = params.n_outputs_max_per_seq = max(options.outputs, options.sequences)
        if options.cache_type != PLAIN_CACHE:
            params.type_k = params.type_v = getattr(llama_cpp, f"GGML_TYPE_{options.cache_type.upper()}")
            params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED  # quantized values need it
        params.n_threads = params.n_threads_batch = options.threads
        params.swa_full = False  # as llama-server runs
        self.handle = llama_cpp.llama_init_from_model(self.model, params)
        if not self.handle:
            llama_cpp.llama_model_free(self.model)
            raise Refusal(f"llama.cpp could not make a context of {options.context} tokens")
        self.memory = llama_cpp.llama_get_memory(self.handle)
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(self.vocab)
        self.batch = Batch(options.batch)
        self.native_s = 0.0

    def close(self) -> None:
        llama_cpp.llama_free(self.handle)
        llama_cpp.llama_model_free(self.model)

    def clear(self) -> None:
        llama_cpp.llama_memory_clear(self.memory, False)
        self.n_past = 0
        self._held = ()

    def hold(self, tokens: Sequence[int]) -> None:
        """Make these tokens the whole context and keep them for what comes: what is held already costs nothing."""
        if self._held == tuple(tokens):
            self.truncate(len(tokens))
        else:
            self.begin(tokens)
            self._held = tuple(tokens)

    def begin(self, tokens: Sequence[int]) -> None:
        """Make these tokens the whole context, logits for the last of them. Where they go on from what ``hold`` was
        given, only the rest is decoded."""
        kept = len(self._held)
        if 0 < kept < len(tokens) and tuple(tokens[:kept]) == self._held:
            self.truncate(kept)
        else:
            self.clear()
        self.prefill(tokens[self.n_past :])

    def truncate(self, n_past: int) -> None:
        """Forget every cell from position ``n_past`` on."""
        if not llama_cpp.llama_memory_seq_rm(self.memory, 0, n_past, -1):
            raise Refusal("this model's memory cannot be rolled back (a recurrent or hybrid architecture)")
        self.n_past = n_past
        if n_past < len(self._held):
            self._held = ()

    def decode(self, tokens: Sequence[int], outputs: int) -> int:
        """Decode tokens after the present ones; the last ``outputs`` of them yield logits. Returns how many rows."""
        n = len(tokens)
        batch = self.batch
        batch.tokens[:n] = tokens
        batch.positions[:n] = range(self.n_past, self.n_past + n)
        batch.sequences[:n] = 0
        batch.outputs[: n - outputs] = 0
        batch.outputs[n - outputs : n] = 1
        self._run(n)
        self.n_past += n
        return outputs

    def prefill(self, tokens: Sequence[int]) -> None:
        """Decode any number of tokens, logits for the last one only."""
        for start in range(0, len(tokens), self.options.batch):
            chunk = tokens[start : start + self.options.batch]
            self.decode(chunk, outputs=1 if start + len(chunk) == len(tokens) else 0)

    def _run(self, n: int) -> None:
        self.batch.struct.n_tokens = n
        started = time.perf_counter()
        if started >= self.until:
            raise Late
        failed = llama_cpp.llama_decode(self.handle, self.batch.struct)
        llama_cpp.llama_synchronize(self.handle)
        self.native_s += time.perf_counter() - started
        if failed:
            raise Refusal(f"llama_decode returned {failed} for {n} tokens at position {self.n_past}")

    def rows(self, count: int) -> Rows:
        """The logits of the last decode, shape (count, vocabulary). A view: valid until the next decode."""
        logits = llama_cpp.llama_get_logits(self.handle)
        return np.ctypeslib.as_array(logits, shape=(count, self.vocab_size))

    def is_end(self, token: int) -> bool:
        return bool(llama_cpp.llama_vocab_is_eog(self.vocab, token))

    def text_of(self, tokens: Sequence[int]) -> str:
        pieces = (ctypes.c_int32 * len(tokens))(*tokens)
        size = 16 * len(tokens) + 64
        while True:
            text = ctypes.create_string_buffer(size)
            used = llama_cpp.llama_detokenize(self.vocab, pieces, len(tokens), text, size, False, True)
            if used >= 0:
                return text.raw[:used].decode("utf-8", "replace")
            size = -used


class TargetSampler:
    """llama-server's default chain: top-k, top-p, min-p, temperature, one random draw a token; greedy at T = 0."""

    def __init__(self, context: Context, sampling: dict[str, Any]) -> None:
        self.context = context
        self.chain: Any = None
        if sampling["temperature"] > 0:
            self.chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
            for link in (
                llama_cpp.llama_sampler_init_top_k(sampling["top_k"]),
                llama_cpp.llama_sampler_init_top_p(sampling["top_p"], 1),
                llama_cpp.llama_sampler_init_min_p(sampling["min_p"], 1),
                llama_cpp.llama_sampler_init_temp(sampling["temperature"]),
                llama_cpp.llama_sampler_init_dist(sampling["seed"]),
            ):
                llama_cpp.llama_sampler_chain_add(self.chain, link)

    def sample(self, rows: Rows, index: int) -> int:
        """The target's choice at row ``index`` of ``rows``, the view of its last decode."""
        if self.chain is None:
            return int(rows[index].argmax())
        started = time.perf_counter()
        from_the_end = index - len(rows)  # llama.cpp counts outputs from the front only by their place in the batch
        token = llama_cpp.llama_sampler_sample(self.chain, self.context.handle, from_the_end)
        self.context.native_s += time.perf_counter() - started
        return int(token)

    def close(self) -> None:
        if self.chain is not None:
            llama_cpp.llama_sampler_free(self.chain)


def answer(target: Context, prompt: list[int], sampling: dict[str, Any], max_tokens: int) -> dict[str, Any]:
    """Plain decoding: the baseline, and how transcripts are written. What there is when time is over is the answer."""
    sampler = TargetSampler(target, sampling)
    started = time.perf_counter()
    target.clear()
    target.prefill(prompt)
    tokens = [sampler.sample(target.rows(1), 0)]
    first = time.perf_counter()
    target.native_s = 0.0
    with suppress(Late):
        while len(tokens) < max_tokens and not target.is_end(tokens[-1]):
            target.decode(tokens[-1:], outputs=1)
            tokens.append(sampler.sample(target.rows(1), 0))
    done = time.perf_counter()
    sampler.close()
    return {
        "tokens": len(tokens),
        "decode_s": done - first,
        "prefill_s": first - started,
        "native_s": target.native_s,
        "answer_tokens": tokens,
    }


def score(
    draft: Context, prompt: list[int], answer_tokens: list[int], rollout: dict[str, Any], temperature: float
) -> dict[str, Any]:
    """Replay: what the draft (or the target itself) would propose at every position of an answer, in one pass.

    ``rollout`` {"p_min": float, "length": int, "chains": int}: a mismatch at least this confident would have been
    drafted, so the draft's own continuation of it decides how many more tokens a p_min rule drafts. Such chains are
    followed from at most ``chains`` mismatches, spread evenly over the answer. ``temperature`` above 0: also the
    probability with which the draft, sampling, would have drafted each token of the answer.
    """
    proposal: list[int] = []
    probability: list[float] = []
    chosen: list[float] = []
    for start, rows in _read(draft, prompt, answer_tokens):
        proposal.extend(rows.argmax(axis=1).tolist())
        probability.extend(map(top_probability, rows))
        if temperature > 0:
            pairs = zip(rows, answer_tokens[start : start + len(rows)], strict=True)
            chosen.extend(draft_distribution(row, temperature).get(token, 0.0) for row, token in pairs)
    confident = [
        i for i, token in enumerate(proposal) if token != answer_tokens[i] and probability[i] >= rollout["p_min"]
    ]
    points = confident[:: max(1, -(-len(confident) // max(1, rollout["chains"])))] if rollout["chains"] else []
    chains = _follow(draft, points, len(prompt), proposal, rollout) if points else {}
    return {"proposal": proposal, "probability": probability, "rollout": chains, "chosen": chosen}


def weigh(target: Context, prompt: list[int], answer_tokens: list[int], sampling: dict[str, Any]) -> list[float]:
    """The probability with which the target's sampling chooses each token of its answer, in one pass."""
    return [
        target_distribution(row, sampling).get(token, 0.0)
        for start, rows in _read(target, prompt, answer_tokens)
        for row, token in zip(rows, answer_tokens[start : start + len(rows)], strict=True)
    ]


def _read(context: Context, prompt: list[int], answer_tokens: list[int]) -> Iterator[tuple[int, Rows]]:
    """(position, logits) along an answer, some rows at a time: row i is the view after prompt + answer[:i]."""
    context.begin(prompt[:-1])
    fed = [prompt[-1], *answer_tokens[:-1]]
    for start in range(0, len(fed), context.options.outputs):
        chunk = fed[start : start + context.options.outputs]
        yield start, context.rows(context.decode(chunk, outputs=len(chunk)))


def _follow(
    draft: Context, points: list[int], prompt_length: int, proposal: list[int], rollout: dict[str, Any]
) -> dict[int, list[float]]:
    """Probabilities along the draft's own chain after its wrong token at each of ``points``, all chains abreast."""
    chains: dict[int, list[float]] = {point: [] for point in points}
    alive = dict(enumerate(points, start=1))
    tokens = {lane: proposal[point] for lane, point in alive.items()}
    for lane, point in alive.items():
        llama_cpp.llama_memory_seq_cp(draft.memory, 0, lane, 0, prompt_length + point)
    for depth in range(rollout["length"]):
        if not alive:
            break
        lanes = list(alive)
        n = len(lanes)
        draft.batch.tokens[:n] = [tokens[lane] for lane in lanes]
        draft.batch.positions[:n] = [prompt_length + alive[lane] + depth for lane in lanes]
        draft.batch.sequences[:n] = lanes
        draft.batch.outputs[:n] = 1
        draft._run(n)
        rows = draft.rows(n)
        best, confidence = rows.argmax(axis=1), [top_probability(row) for row in rows]
        for index, lane in enumerate(lanes):
            chains[alive[lane]].append(confidence[index])
            tokens[lane] = int(best[index])
            if confidence[index] < rollout["p_min"]:
                del alive[lane]
    for lane in range(1, len(points) + 1):
        llama_cpp.llama_memory_seq_rm(draft.memory, lane, -1, -1)
    return chains


def time_decodes(
    contexts: dict[str, Context],
    operations: list[Operation],
    tokens: list[int],
    depth: int,
    sampling: dict[str, Any],
    rounds: int,
    budget_s: float,
) -> list[list[float]]:
    """Seconds of each operation, one list a round; rounds are interleaved and stop early when ``budget_s`` is spent.

    Operations are the ones a run is made of, at context ``depth``. ("target", b) decodes b tokens and samples each;
    ("target", 1) follows another like it, as in plain decoding, BARE whatever came before it: that is several percent
    slower. ("draft", 1) proposes one token, averaged over a chain of 4 as drafting runs; ("draft", b) re-evaluates b.
    Decoding starts from a prefill of ``tokens[:depth]`` and goes on with the text itself.
    """
    for role in {role for role, _ in operations} & contexts.keys():
        contexts[role].hold(tokens[:depth])
    sampler = TargetSampler(contexts["target"], sampling) if "target" in contexts else None
    text = tokens[depth:]
    started = time.perf_counter()
    singles = sorted({operation for operation in operations if operation[1] == 1}, reverse=True)
    _time_round(contexts, singles, text, depth, sampler)  # warm-up: threads, caches
    measured = timed_rounds(
        lambda: _time_round(contexts, operations, text, depth, sampler),
        rounds=rounds,
        started=started,
        budget_s=budget_s,
        late=Late,
    )
    if sampler:
        sampler.close()
    return measured


def _time_round(
    contexts: dict[str, Context],
    operations: list[Operation],
    text: list[int],
    depth: int,
    sampler: TargetSampler | None,
) -> list[float]:
    seconds = []
    for role, b in operations:
        context = contexts["draft" if role == "draft" else "target"]
        singles = CHAIN[role] if b == 1 and role != "bare" else 0
        if (role, b) == ("target", 1):
            _target_pass(context, sampler, text[:1])
        started = time.perf_counter()
        for index in range(singles):
            if role == "target":
                _target_pass(context, sampler, text[index : index + 1])
            else:
                context.decode(text[index : index + 1], outputs=1)
                context.rows(1)[0].argmax()
        if not singles and role != "draft":
            _target_pass(context, sampler, text[:b])
        elif not singles:
            context.decode(text[:b], outputs=1)
        seconds.append((time.perf_counter() - started) / max(1, singles))
        context.truncate(depth)
    return seconds


def _target_pass(context: Context, sampler: TargetSampler | None, tokens: list[int]) -> None:
    rows = context.rows(context.decode(tokens, outputs=len(tokens)))
    if sampler is not None:
        for index in range(len(tokens)):
            sampler.sample(rows, index)


def has_openmp() -> bool:
    """Whose threads wait as OMP_WAIT_POLICY says; llama.cpp's own spin."""
    return b"OPENMP = 1" in llama_cpp.llama_print_system_info()


def render_chat(context: Context, messages: list[Any]) -> list[int]:
    """Messages to tokens with the model's own chat template; plain text joined by blank lines where it has none."""
    raw = llama_cpp.llama_model_chat_template(context.model, None)
    if raw is None:
        return _tokenize(context, "\n\n".join(message["content"] for message in messages), add_special=True)
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    piece: Callable[[int], str] = lambda token: (  # noqa: E731
        llama_cpp.llama_vocab_get_text(context.vocab, token).decode("utf-8", "replace") if token >= 0 else ""
    )
    formatter = Jinja2ChatFormatter(
        template=raw.decode("utf-8", "replace"),
        bos_token=piece(llama_cpp.llama_vocab_bos(context.vocab)),
        eos_token=piece(llama_cpp.llama_vocab_eos(context.vocab)),
    )
    try:
        with at_most_more(TEMPLATE_BYTES):  # it is a program that came with the file; the parent limits its time
            text = formatter(messages=messages).prompt
    except MemoryError:
        raise Refusal(f"the chat template takes more than {TEMPLATE_BYTES >> 20} MiB of memory") from None
    if len(text) > TEMPLATE_TEXT:
        raise Refusal(f"the chat template wrote {len(text)} characters, more than any prompt needs")
    starts_with_bos = text.startswith(formatter.bos_token) and bool(formatter.bos_token)
    return _tokenize(context, text, add_special=not starts_with_bos)


def _tokenize(context: Context, text: str, *, add_special: bool) -> list[int]:
    data = text.encode("utf-8")
    size = len(data) + 16
    tokens = (ctypes.c_int32 * size)()
    count = llama_cpp.llama_tokenize(context.vocab, data, len(data), tokens, size, add_special, True)
    if count < 0:
        raise Refusal("the prompt could not be tokenized")
    return list(tokens[:count])
