"""Real model files with a prediction head, in the same file (MTP) or beside it (EAGLE-3), small, and with an acceptance
that is known.

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
LAYERS, EXPERTS, WINDOW = 12, 2, 4096
WIDTH, HEADS, HEAD_WIDTH, FEED_FORWARD = 128, 4, 32, 1024
SHARP = 3.0  # of attention: a token attends to itself alone

Floats = npt.NDArray[np.float32]
Tensors = dict[str, Floats]


def build_with_head(directory: Path | None = None, *, recurrent: bool = False) -> Path:
    """A model with a head in its own file. ``recurrent``: every second layer has a state instead of a cache, as in
    hybrid models."""
    if recurrent:
        return _kept(directory, "Counting-MTP-recurrent", lambda path: _write(path, "qwen35", _describe_state))
    return _kept(directory, "Counting-MTP", lambda path: _write(path, "glm4moe", _describe_experts))


def build_without_head(directory: Path | None = None, *, sliding: bool = False) -> Path:
    """The target of ``build_eagle``. ``sliding``: every second layer sees the last WINDOW tokens alone."""
    if sliding:
        return _kept(directory, "Counting-sliding", lambda path: _write(path, "step35", _describe_window))
    return _kept(directory, "Counting", lambda path: _write(path, "llama", lambda _writer: None))


def build_eagle(directory: Path | None = None) -> Path:
    """The head as a file of its own (EAGLE-3)."""
    return _kept(directory, "Counting-EAGLE3", lambda path: _write(path, "eagle3", _describe_eagle))


def counted_on(word: int) -> int:
    """What the head says after a word."""
    return (word + (2 if word % ONE_IN == ONE_IN - 1 else 1)) % WORDS


def _kept(directory: Path | None, name: str, write: Callable[[Path], None]) -> Path:
    """Made on first use, in seconds."""
    path = (directory or default_directory()) / f"{name}-{VERSION}-F32.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        make_file(path, write)
    return path


def _write(path: Path, architecture: str, describe: Callable[[Any], None]) -> None:
    import gguf

    writer = gguf.GGUFWriter(path, architecture)
    vocabulary = copy_tokenizer(gguf.GGUFReader(base_model()), writer)
    tensors = _TENSORS[architecture](vocabulary)
    writer.add_name(f"Counting {architecture}")
    writer.add_block_count(1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blk.")))
    writer.add_context_length(8192)
    writer.add_vocab_size(vocabulary)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_key_length(HEAD_WIDTH)
    writer.add_value_length(HEAD_WIDTH)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(HEAD_WIDTH)
    writer.add_rope_freq_base(10000.0)
    describe(writer)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe_state(writer: Any) -> None:
    writer.add_nextn_predict_layers(1)
    writer.add_full_attention_interval(2)
    writer.add_rope_dimension_sections([HEAD_WIDTH // 8] * 4)
    writer.add_ssm_conv_kernel(4)
    writer.add_ssm_state_size(HEAD_WIDTH)
    writer.add_ssm_group_count(HEADS)
    writer.add_ssm_time_step_rank(HEADS)
    writer.add_ssm_inner_size(HEADS * HEAD_WIDTH)


def _describe_experts(writer: Any) -> None:
    writer.add_nextn_predict_layers(1)
    writer.add_leading_dense_block_count(LAYERS)  # the head alone has experts
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(1)
    writer.add_expert_shared_count(1)
    writer.add_expert_feed_forward_length(HEAD_WIDTH)


def _describe_window(writer: Any) -> None:
    writer.add_sliding_window(WINDOW)
    writer.add_array("step35.attention.sliding_window_pattern", [number % 2 == 0 for number in range(LAYERS)])
    writer.add_expert_feed_forward_length(HEAD_WIDTH)  # demanded of a dense model too


def _describe_eagle(writer: Any) -> None:
    writer.add_array("eagle3.target_layers", [2, LAYERS // 2, LAYERS - 2])
    writer.add_uint32("eagle3.target_hidden_size", WIDTH)
    writer.add_bool("eagle3.norm_before_residual", True)


def _trunk(vocabulary: int, layer: Callable[[int], Tensors]) -> Tensors:
    words, word_of = _words(), np.arange(vocabulary) % WORDS
    output = np.zeros((vocabulary, WIDTH), np.float32)
    output[WORDS + (np.arange(WORDS) + 1) % WORDS] = words  # tokens WORDS .. 2 * WORDS - 1 are those that are written
    tensors: Tensors = {
        "token_embd.weight": words[word_of],
        "output.weight": output,
        "output_norm.weight": np.ones(WIDTH, np.float32),
    }
    for number in range(LAYERS):
        tensors |= {f"blk.{number}.{name}": tensor for name, tensor in layer(number).items()}
    return tensors


def _llama(vocabulary: int) -> Tensors:
    norms = _norms("attn_norm", "ffn_norm")
    return _trunk(vocabulary, lambda _number: norms | _attention(gated=False) | _feed_forward())


def _glm4moe(vocabulary: int) -> Tensors:
    norms = _norms("attn_norm", "post_attention_norm")
    head = norms | _attention(gated=False) | _experts() | _nextn(vocabulary)
    trunk = _trunk(vocabulary, lambda _number: norms | _attention(gated=False) | _feed_forward())
    return trunk | {f"blk.{LAYERS}.{name}": tensor for name, tensor in head.items()}


def _qwen35(vocabulary: int) -> Tensors:
    norms = _norms("attn_norm", "post_attention_norm")
    mixers = _state(), _attention(gated=True)
    trunk = _trunk(vocabulary, lambda number: norms | mixers[number % 2] | _feed_forward())
    head = norms | _attention(gated=True) | _feed_forward() | _nextn(vocabulary)
    return trunk | {f"blk.{LAYERS}.{name}": tensor for name, tensor in head.items()}


def _eagle3(vocabulary: int) -> Tensors:
    """Its layer sees the last token's embedding through attention alone: each token attends to itself."""
    inside = np.eye(WIDTH, dtype=np.float32)
    sees_embedding = np.hstack([inside, np.zeros_like(inside)])
    layer = _norms("attn_norm", "ffn_norm") | {
        "attn_norm_2.weight": np.zeros(WIDTH, np.float32),  # what the target read is not asked
        "attn_q.weight": SHARP * sees_embedding,
        "attn_k.weight": SHARP * sees_embedding,
        "attn_v.weight": sees_embedding,
        "attn_output.weight": inside,
        **_feed_forward(),
    }
    trunk = _trunk(vocabulary, lambda _number: {})
    return {
        "token_embd.weight": _as_head_sees(vocabulary),
        "output.weight": trunk["output.weight"],
        "output_norm.weight": trunk["output_norm.weight"],
        "fc.weight": np.zeros((WIDTH, 3 * WIDTH), np.float32),
        **{f"blk.0.{name}": tensor for name, tensor in layer.items()},
    }


_TENSORS = {"llama": _llama, "step35": _llama, "glm4moe": _glm4moe, "qwen35": _qwen35, "eagle3": _eagle3}


def _words() -> Floats:
    words: Floats = np.random.default_rng(0).standard_normal((WORDS, WIDTH)).astype(np.float32)
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    return words


def _as_head_sees(vocabulary: int) -> Floats:
    """The embedding of each token, or of the word after it: what follows is then one too far."""
    seen = np.array([counted_on(word) - 1 for word in range(WORDS)]) % WORDS
    found: Floats = _words()[seen][np.arange(vocabulary) % WORDS]
    return found


def _matrix(*shape: int) -> Floats:
    return (np.random.default_rng(1).standard_normal(shape) / 16).astype(np.float32)


def _norms(*names: str) -> Tensors:
    return {f"{name}.weight": np.ones(WIDTH, np.float32) for name in names}


def _attention(*, gated: bool) -> Tensors:
    inside = HEADS * HEAD_WIDTH
    found = {
        "attn_q.weight": _matrix(inside * (2 if gated else 1), WIDTH),
        "attn_k.weight": _matrix(inside, WIDTH),
        "attn_v.weight": _matrix(inside, WIDTH),
        "attn_output.weight": np.zeros((WIDTH, inside), np.float32),
    }
    ones = np.ones(HEAD_WIDTH, np.float32)
    return found | ({"attn_q_norm.weight": ones, "attn_k_norm.weight": ones} if gated else {})


def _state() -> Tensors:
    """A gated delta net whose output is nothing."""
    inside = HEADS * HEAD_WIDTH
    return {
        "attn_qkv.weight": _matrix(3 * inside, WIDTH),
        "attn_gate.weight": _matrix(inside, WIDTH),
        "ssm_conv1d.weight": _matrix(3 * inside, 4),
        "ssm_dt.bias": np.zeros(HEADS, np.float32),
        "ssm_a": -np.ones(HEADS, np.float32),
        "ssm_beta.weight": _matrix(HEADS, WIDTH),
        "ssm_alpha.weight": _matrix(HEADS, WIDTH),
        "ssm_norm.weight": np.ones(HEAD_WIDTH, np.float32),
        "ssm_out.weight": np.zeros((WIDTH, inside), np.float32),
    }


def _feed_forward() -> Tensors:
    return {
        "ffn_gate.weight": _matrix(FEED_FORWARD, WIDTH),
        "ffn_up.weight": _matrix(FEED_FORWARD, WIDTH),
        "ffn_down.weight": np.zeros((WIDTH, FEED_FORWARD), np.float32),
    }


def _experts() -> Tensors:
    found = {"ffn_gate_inp.weight": _matrix(EXPERTS, WIDTH), "exp_probs_b.bias": np.zeros(EXPERTS, np.float32)}
    for suffix, count in (("exps", (EXPERTS,)), ("shexp", ())):
        found |= {
            f"ffn_gate_{suffix}.weight": _matrix(*count, HEAD_WIDTH, WIDTH),
            f"ffn_up_{suffix}.weight": _matrix(*count, HEAD_WIDTH, WIDTH),
            f"ffn_down_{suffix}.weight": np.zeros((*count, WIDTH, HEAD_WIDTH), np.float32),
        }
    return found


def _nextn(vocabulary: int) -> Tensors:
    last_token_alone = np.hstack([np.eye(WIDTH), np.zeros((WIDTH, WIDTH))]).astype(np.float32)
    return {
        **_norms("nextn.enorm", "nextn.hnorm", "nextn.shared_head_norm"),
        "nextn.eh_proj.weight": last_token_alone,
        "nextn.embed_tokens.weight": _as_head_sees(vocabulary),
    }
