"""Pieces of text from token ids: joined, they are the text."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from advisor.acceptance.answer_text import answer_texts, pieces
from advisor.gguf import read_model
from advisor.testing.builders import make_model
from advisor.types import Transcript, VocabularyHeader

BYTE_LEVEL = make_model(vocabulary=VocabularyHeader("gpt2", "default", 256, None, None, False, False))
SENTENCE_PIECE = make_model(vocabulary=VocabularyHeader("llama", "default", 256, None, None, True, False))


def spelled(byte: int) -> bytes:
    """GPT-2's spelling of one byte, from its rule: the printable ones are themselves, the rest follow from 256 on."""
    kept = set(range(ord("!"), ord("~") + 1)) | set(range(ord("¡"), ord("¬") + 1)) | set(range(ord("®"), ord("ÿ") + 1))
    if byte in kept:
        return chr(byte).encode()
    return chr(256 + sum(1 for other in range(byte) if other not in kept)).encode()


@given(st.text(max_size=40))
def test_bytes_of_a_text_as_single_tokens_join_to_the_text(text):
    joined = pieces([spelled(byte) for byte in range(256)], text.encode(), BYTE_LEVEL)
    assert "".join(joined) == text
    assert len(joined) == len(text.encode())


def test_a_character_split_over_tokens_belongs_to_the_one_that_completes_it():
    assert pieces([spelled(byte) for byte in range(256)], "é!".encode(), BYTE_LEVEL) == ("", "é", "!")


def test_sentence_pieces_have_spaces_and_bytes():
    texts = ["<unk>", "▁Hello", "▁world", "<0x0A>", "!"]
    assert pieces([text.encode() for text in texts], [1, 2, 4, 3], SENTENCE_PIECE) == (" Hello", " world", "!", "\n")


def test_a_token_outside_the_vocabulary_leaves_the_pieces_out():
    assert pieces([b"a"], [0, 1], BYTE_LEVEL) == ()


def test_a_real_vocabulary_spells_a_real_text(smollm2: Path):
    """SmolLM2's ids of "Hello world", and its end-of-turn token as it reads."""
    target = read_model(smollm2)
    (found,) = answer_texts(target, [Transcript("chat", (), (19556, 905, 2), True, "Hello world<|im_end|>")])
    assert found.pieces == ("Hello", " world", "<|im_end|>")


def test_pieces_that_do_not_join_to_the_answer_are_left_out(smollm2: Path):
    (found,) = answer_texts(read_model(smollm2), [Transcript("chat", (), (19556,), False, "something else")])
    assert found.pieces == ()


def test_without_the_file_the_answers_have_no_pieces(smollm2: Path):
    gone = dataclasses.replace(read_model(smollm2), path=str(smollm2.with_name("gone.gguf")))
    (found,) = answer_texts(gone, [Transcript("chat", (), (19556,), False, "Hello")])
    assert (found.category, found.pieces) == ("chat", ())
