"""The vocabulary rule: what llama.cpp would accept, and the first difference in words."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from advisor.errors import FileProblem
from advisor.gguf import read_model
from advisor.testing.gguf_files import Value, llama_tensors, llama_values, tokens, write
from advisor.tokenizer import incompatibility
from advisor.types import Model

Make = Callable[..., Model]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A model with this vocabulary; keyword "bos_token_id" becomes the key tokenizer.ggml.bos_token_id."""
    made = 0

    def build(vocabulary: Sequence[str] | Sequence[bytes] = tokens(32), **keys: Value) -> Model:
        nonlocal made
        made += 1
        values = llama_values(vocabulary=vocabulary)
        values.update({f"tokenizer.ggml.{key}": value for key, value in keys.items()})
        tensors = llama_tensors(vocabulary=len(vocabulary))
        return read_model(write(tmp_path / f"{made}.gguf", values, tensors))

    return build


def changed(token: int, text: str, count: int = 32) -> list[str]:
    vocabulary = tokens(count)
    vocabulary[token] = text
    return vocabulary


def test_a_model_drafts_for_itself(make: Make, smollm2: Path) -> None:
    assert incompatibility(make(), make()) is None
    assert incompatibility(read_model(smollm2), read_model(smollm2)) is None


def test_the_first_differing_token_is_named_with_both_texts(make: Make) -> None:
    words = incompatibility(make(), make(changed(7, "seven")))
    assert words == "token 7 is '<7>' in the target and 'seven' in the draft"


def test_the_first_five_tokens_may_differ(make: Make) -> None:
    assert incompatibility(make(), make(changed(4, "four"))) is None
    assert "token 5" in str(incompatibility(make(), make(changed(5, "five"))))


def test_different_leading_tokens_do_not_hide_a_later_difference(make: Make) -> None:
    both = changed(4, "a longer text")
    both[31] = "last"
    assert "token 31 is '<31>'" in str(incompatibility(make(), make(both)))


def test_texts_are_escaped(make: Make) -> None:
    words = str(incompatibility(make(), make([*tokens(31), "a\n\x1b[31mb"])))
    assert r"'a\n\x1b[31mb'" in words
    assert words.isprintable()
    raw = [text.encode() for text in tokens(31)]
    assert r"\\xff" in str(incompatibility(make(), make([*raw, b"\xff\xfe"])))


def test_very_long_texts_are_shortened(make: Make) -> None:
    assert len(str(incompatibility(make(), make(changed(9, "x" * 100_000))))) < 200


@pytest.mark.parametrize("larger_is_target", [True, False])
def test_sizes_may_differ_by_128_and_no_more(make: Make, larger_is_target: bool) -> None:
    def judge(larger: int) -> str | None:
        pair = make(tokens(larger)), make(tokens(200))
        return incompatibility(*(pair if larger_is_target else pair[::-1]))

    assert judge(328) is None  # as Qwen2.5: 151936 and 152064
    assert "differ by 129 tokens" in str(judge(329))


def test_only_the_common_tokens_are_compared(make: Make) -> None:
    assert incompatibility(make(tokens(40)), make(tokens(32))) is None
    assert "token 20" in str(incompatibility(make(tokens(40)), make(changed(20, "twenty"))))


@pytest.mark.parametrize("marker", ["bos", "eos"])
def test_the_id_of_a_marker_matters_only_where_it_is_added(make: Make, marker: str) -> None:
    ids: tuple[dict[str, Value], ...] = ({f"{marker}_token_id": 1}, {f"{marker}_token_id": 2})
    assert incompatibility(make(**ids[0]), make(**ids[1])) is None
    added: dict[str, Value] = {f"add_{marker}_token": True}
    words = str(incompatibility(make(**ids[0], **added), make(**ids[1], **added)))
    assert f"the {marker.upper()} token differs: id 1 in the target, id 2 in the draft" in words
    words = str(incompatibility(make(**ids[0], **added), make(**ids[0])))
    assert f"the target adds {marker.upper()} to every prompt, the draft does not" in words
    words = str(incompatibility(make(**ids[0]), make(**ids[0], **added)))
    assert f"the draft adds {marker.upper()}" in words


def test_a_file_without_the_marker_that_it_adds_is_told_in_words(make: Make) -> None:
    few, added = tokens(8), {"add_bos_token": True}
    words = incompatibility(make(few, **added, bos_token_id=9), make(few, **added, bos_token_id=2))
    assert words == "the BOS token differs: none in the target, id 2 in the draft"


def test_an_unwritten_flag_counts_as_llama_cpp_fills_it_in(make: Make) -> None:
    unwritten = make(pre="llama-bpe", bos_token_id=1)
    assert incompatibility(unwritten, make(pre="llama-bpe", bos_token_id=1, add_bos_token=True)) is None
    assert "adds BOS" in str(incompatibility(unwritten, make(pre="llama-bpe", bos_token_id=1, add_bos_token=False)))


def test_kinds_of_tokenizers_must_agree_but_pre_tokenizers_need_not(make: Make) -> None:
    assert incompatibility(make(pre="qwen2"), make(pre="smollm")) is None
    words = str(incompatibility(make(), make(model="llama")))
    assert words == "the tokenizers are of different kinds: BPE in the target, SPM in the draft"


def test_texts_are_compared_as_c_strings(make: Make) -> None:
    assert incompatibility(make(changed(9, "same\0one")), make(changed(9, "same\0other"))) is None
    assert incompatibility(make(changed(9, "")), make(changed(9, "[EMPTY_9]"))) is None
    assert incompatibility(make(changed(9, "")), make(changed(9, "\0"))) is not None


def test_token_texts_are_read_only_when_the_headers_agree(make: Make) -> None:
    target, other = make(), make(model="llama")
    same = make()
    for model in (target, other, same):
        Path(model.path).unlink()
    assert "different kinds" in str(incompatibility(target, other))
    with pytest.raises(FileProblem):
        incompatibility(target, same)


@pytest.mark.alone
def test_large_vocabularies_are_compared_quickly(make: Make) -> None:
    target, same, last = make(tokens(152_000)), make(tokens(151_936)), make(changed(151_999, "z", 152_000))
    start = time.perf_counter()
    assert incompatibility(target, same) is None
    assert time.perf_counter() - start < 0.3
    start = time.perf_counter()
    assert "token 151999" in str(incompatibility(target, last))
    assert time.perf_counter() - start < 1.5
