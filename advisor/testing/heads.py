"""Real model files with a prediction head (MTP) of their own, small, and with an acceptance that is known.

They count: every token stands for one of WORDS words, and the next word follows. All layers compute the identity, as
those that the zoo adds. The head reads the last token and knows its successor as the model does, but for one word in
ONE_IN: there it skips one. So after a word it drafts right, up to the next of those words.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from advisor.testing.zoo import base_model, copy_tokenizer, default_directory, make_file

VERSION = 1
WORDS, ONE_IN = 4096, 4
LAYERS, EXPERTS = 12, 2
WIDTH, HEADS, KV_HEADS, HEAD_WIDTH, FEED_FORWARD = 128, 4, 2, 32, 1024

Floats = npt.NDArray[np.float32]
Tensors = dict[str, Floats]
Matrix = Callable[..., Floats]


def build_with_head(directory: Path | None = None, *, recurrent: bool = False) -> Path:
    """Made on first use (seconds) and kept in ``directory``. ``recurrent``: every second layer has a state instead of
    a cache, as in hybrid models."""
    directory = directory or default_directory()
    path = directory / f"Counting-MTP{VERSION}{'-recurrent' if recurrent else ''}-F32.gguf"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        make_file(path, lambda part: _write(part, recurrent))
    return path


def counted_on(word: int) -> int:
    """What the head says after a word."""
    return (word + (2 if word % ONE_IN == ONE_IN - 1 else 1)) % WORDS


def _write(path: Path, recurrent: bool) -> None:
    import gguf

    writer = gguf.GGUFWriter(path, "qwen35" if recurrent else "glm4moe")
    vocabulary = copy_tokenizer(gguf.GGUFReader(base_model()), writer)
    writer.add_name(f"Counting {'recurrent ' if recurrent else ''}MTP")
    writer.add_block_count(LAYERS + 1)
    writer.add_nextn_predict_layers(1)
    writer.add_context_length(8192)
    writer.add_vocab_size(vocabulary)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_WIDTH)
    writer.add_value_length(HEAD_WIDTH)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(HEAD_WIDTH)
    writer.add_rope_freq_base(10000.0)
    _describe_state(writer) if recurrent else _describe_experts(writer)
    for name, tensor in _tensors(vocabulary, recurrent).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe_state(writer: Any) -> None:
    writer.add_full_attention_interval(2)
    writer.add_rope_dimension_sections([HEAD_WIDTH // 8] * 4)
    writer.add_ssm_conv_kernel(4)
    writer.add_ssm_state_size(HEAD_WIDTH)
    writer.add_ssm_group_count(HEADS)
    writer.add_ssm_time_step_rank(HEADS)
    writer.add_ssm_inner_size(HEADS * HEAD_WIDTH)


def _describe_experts(writer: Any) -> None:
    writer.add_leading_dense_block_count(LAYERS)  # the head alone has experts
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(1)
    writer.add_expert_shared_count(1)
    writer.add_expert_feed_forward_length(HEAD_WIDTH)


def _tensors(vocabulary: int, recurrent: bool) -> Tensors:
    rng = np.random.default_rng(0)
    words = rng.standard_normal((WORDS, WIDTH))
    words = (words / np.linalg.norm(words, axis=1, keepdims=True)).astype(np.float32)
    word_of = np.arange(vocabulary) % WORDS
    output = np.zeros((vocabulary, WIDTH), np.float32)
    output[WORDS + (np.arange(WORDS) + 1) % WORDS] = words  # tokens WORDS .. 2 * WORDS - 1 are those that are written
    as_head_sees = np.array([counted_on(word) - 1 for word in range(WORDS)]) % WORDS
    some = (rng.standard_normal(FEED_FORWARD * WIDTH) / 16).astype(np.float32)

    def matrix(*shape: int) -> Floats:
        return some[: int(np.prod(shape))].reshape(shape)

    tensors: Tensors = {
        "token_embd.weight": words[word_of],
        "output.weight": output,
        "output_norm.weight": np.ones(WIDTH, np.float32),
    }
    for layer in range(LAYERS + 1):
        is_head, found = layer == LAYERS, _norms()
        found |= _state(matrix) if recurrent and layer % 2 == 0 and not is_head else _attention(matrix, recurrent)
        found |= _experts(matrix) if is_head and not recurrent else _feed_forward(matrix)
        found |= _head(words[as_head_sees][word_of]) if is_head else {}
        tensors |= {f"blk.{layer}.{name}": tensor for name, tensor in found.items()}
    return tensors


def _norms() -> Tensors:
    ones = np.ones(WIDTH, np.float32)
    return {"attn_norm.weight": ones, "post_attention_norm.weight": ones}


def _attention(matrix: Matrix, gated: bool) -> Tensors:
    inside = HEADS * HEAD_WIDTH
    found = {
        "attn_q.weight": matrix(inside * (2 if gated else 1), WIDTH),
        "attn_k.weight": matrix(KV_HEADS * HEAD_WIDTH, WIDTH),
        "attn_v.weight": matrix(KV_HEADS * HEAD_WIDTH, WIDTH),
        "attn_output.weight": np.zeros((WIDTH, inside), np.float32),
    }
    ones = np.ones(HEAD_WIDTH, np.float32)
    return found | ({"attn_q_norm.weight": ones, "attn_k_norm.weight": ones} if gated else {})


def _state(matrix: Matrix) -> Tensors:
    """A gated delta net whose output is nothing."""
    inside = HEADS * HEAD_WIDTH
    return {
        "attn_qkv.weight": matrix(3 * inside, WIDTH),
        "attn_gate.weight": matrix(inside, WIDTH),
        "ssm_conv1d.weight": matrix(3 * inside, 4),
        "ssm_dt.bias": np.zeros(HEADS, np.float32),
        "ssm_a": -np.ones(HEADS, np.float32),
        "ssm_beta.weight": matrix(HEADS, WIDTH),
        "ssm_alpha.weight": matrix(HEADS, WIDTH),
        "ssm_norm.weight": np.ones(HEAD_WIDTH, np.float32),
        "ssm_out.weight": np.zeros((WIDTH, inside), np.float32),
    }


def _feed_forward(matrix: Matrix) -> Tensors:
    return {
        "ffn_gate.weight": matrix(FEED_FORWARD, WIDTH),
        "ffn_up.weight": matrix(FEED_FORWARD, WIDTH),
        "ffn_down.weight": np.zeros((WIDTH, FEED_FORWARD), np.float32),
    }


def _experts(matrix: Matrix) -> Tensors:
    found = {"ffn_gate_inp.weight": matrix(EXPERTS, WIDTH), "exp_probs_b.bias": np.zeros(EXPERTS, np.float32)}
    for suffix, count in (("exps", (EXPERTS,)), ("shexp", ())):
        found |= {
            f"ffn_gate_{suffix}.weight": matrix(*count, HEAD_WIDTH, WIDTH),
            f"ffn_up_{suffix}.weight": matrix(*count, HEAD_WIDTH, WIDTH),
            f"ffn_down_{suffix}.weight": np.zeros((*count, WIDTH, HEAD_WIDTH), np.float32),
        }
    return found


def _head(embeddings: Floats) -> Tensors:
    ones = np.ones(WIDTH, np.float32)
    return {
        "nextn.eh_proj.weight": np.hstack([np.eye(WIDTH), np.zeros((WIDTH, WIDTH))]).astype(np.float32),
        "nextn.enorm.weight": ones,
        "nextn.hnorm.weight": ones,
        "nextn.embed_tokens.weight": embeddings,
        "nextn.shared_head_norm.weight": ones,
    }
