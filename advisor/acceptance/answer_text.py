"""The target's answers as one piece of text a token, from the vocabulary in its file. No model is run.

Pieces join to the text that the engine wrote; an answer for which they do not is left out rather than shown wrong.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from advisor.errors import FileProblem
from advisor.gguf import read_token_table
from advisor.types import AnswerText, Model, Transcript

_BYTE_LEVEL = frozenset({"gpt2", "hybriddna", "whitespace"})  # token texts spell bytes as GPT-2 does
_WORD_BOUNDARY = "\u2581"  # SentencePiece's space
_BYTE_TOKEN = re.compile("<0x([0-9A-Fa-f]{2})>")


def answer_texts(target: Model, transcripts: Sequence[Transcript]) -> tuple[AnswerText, ...]:
    """One text an answer, in order; without pieces where the file is gone or its vocabulary is not understood."""
    try:
        texts = read_token_table(Path(target.path)).texts()
    except (FileProblem, OSError):
        texts = []
    return tuple(AnswerText(t.category, _checked(t, pieces(texts, t.answer_tokens, target))) for t in transcripts)


def pieces(texts: Sequence[bytes], tokens: Iterable[int], target: Model) -> tuple[str, ...]:
    """The text each token adds. A character split over tokens belongs to the one that completes it; () where a token is
    not in the vocabulary."""
    spell = _byte_level if target.vocabulary.model in _BYTE_LEVEL else _sentence_piece
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    found = []
    for token in tokens:
        if not 0 <= token < len(texts):
            return ()
        found.append(decoder.decode(spell(texts[token])))
    if found:
        found[-1] += decoder.decode(b"", final=True)
    return tuple(found)


def _checked(transcript: Transcript, found: tuple[str, ...]) -> tuple[str, ...]:
    return found if "".join(found).strip() == transcript.text.strip() else ()


def _byte_level(text: bytes) -> bytes:
    """Control tokens are stored as they read: what is not in the alphabet stays itself."""
    return b"".join(bytes([_BYTE_OF[c]]) if c in _BYTE_OF else c.encode() for c in _decoded(text))


def _sentence_piece(text: bytes) -> bytes:
    word = _decoded(text)
    byte = _BYTE_TOKEN.fullmatch(word)
    if byte is not None:
        return bytes.fromhex(byte[1])
    return word.replace(_WORD_BOUNDARY, " ").encode()


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def _alphabet() -> dict[str, int]:
    """GPT-2's spelling of bytes: printable Latin-1 stands for itself, the other bytes for characters from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


_BYTE_OF = _alphabet()
