"""llama.cpp's rule for which vocabularies may speculate together, with the first difference in words.

``common_speculative_are_compatible`` (common/speculative.cpp, b11434): the same kind of tokenizer, the same use of
BOS and EOS, sizes at most 128 apart, and the same text (as C strings) for every common id from 5 on. Pre-tokenizer,
merges and other special ids are not compared. On a difference llama-server drops the draft and serves without it.
"""

from __future__ import annotations

from pathlib import Path

from advisor.gguf import TokenTable, read_token_table
from advisor.types import Model, VocabularyHeader

FIRST_COMPARED_ID = 5
MAX_SIZE_DIFFERENCE = 128
SHOWN_CHARACTERS = 60

# tokenizer.ggml.model -> llama.cpp's vocabulary type; several file names share one.
_KIND = {
    "llama": "SPM",
    "bert": "WPM",
    "gpt2": "BPE",
    "hybriddna": "BPE",
    "whitespace": "BPE",
    "gemma4": "BPE",
    "t5": "UGM",
    "rwkv": "RWKV",
    "plamo2": "PLaMo2",
    "no_vocab": "none",
    "none": "none",
}


def incompatibility(target: Model, draft: Model) -> str | None:
    """Why llama.cpp would refuse this draft for its vocabulary, None when it would not.

    Reads token texts from the two files only when everything in the headers agrees. GGUFError when that fails.
    """
    return header_incompatibility(target.vocabulary, draft.vocabulary) or _text_incompatibility(target, draft)


def header_incompatibility(
    target: VocabularyHeader, draft: VocabularyHeader, *, compares_unused_markers: bool = False
) -> str | None:
    """The part of the rule that needs no token texts.

    ``compares_unused_markers``: as builds before about b8925 did, BOS and EOS ids must be equal even where they are not
    added (changed in ggml-org/llama.cpp pull request 22358).
    """
    kinds = _KIND.get(target.model, target.model), _KIND.get(draft.model, draft.model)
    if kinds[0] != kinds[1]:
        return f"the tokenizers are of different kinds: {kinds[0]} in the target, {kinds[1]} in the draft"
    return (
        _marker_difference(
            "BOS", (target.add_bos, target.bos_id), (draft.add_bos, draft.bos_id), compares_unused_markers
        )
        or _marker_difference(
            "EOS", (target.add_eos, target.eos_id), (draft.add_eos, draft.eos_id), compares_unused_markers
        )
        or _size_difference(target.size, draft.size)
    )


def _marker_difference(
    name: str, target: tuple[bool, int | None], draft: tuple[bool, int | None], always: bool
) -> str | None:
    """The id matters only where the marker is added, or ``always``."""
    if target[0] != draft[0]:
        adds, does_not = ("target", "draft") if target[0] else ("draft", "target")
        return f"the {adds} adds {name} to every prompt, the {does_not} does not"
    if (target[0] or always) and target[1] != draft[1]:
        return f"the {name} token differs: {_id(target[1])} in the target, {_id(draft[1])} in the draft"
    return None


def _id(token: int | None) -> str:
    return "none" if token is None else f"id {token}"


def _size_difference(target: int, draft: int) -> str | None:
    difference = abs(target - draft)
    if difference <= MAX_SIZE_DIFFERENCE:
        return None
    return (
        f"the vocabularies differ by {difference} tokens ({target} in the target, {draft} in the draft), "
        f"at most {MAX_SIZE_DIFFERENCE} are allowed"
    )


def _text_incompatibility(target: Model, draft: Model) -> str | None:
    if not target.vocabulary.size or not draft.vocabulary.size:
        return None
    ours, theirs = read_token_table(Path(target.path)), read_token_table(Path(draft.path))
    if _same_bytes(ours, theirs):
        return None
    return _first_difference(ours.texts(), theirs.texts())


def _same_bytes(ours: TokenTable, theirs: TokenTable) -> bool:
    """Whether one list begins with the whole other: then every common token is the same, without decoding any."""
    shorter, longer = sorted((ours.raw, theirs.raw), key=len)
    return longer.startswith(shorter)


def _first_difference(target: list[bytes], draft: list[bytes]) -> str | None:
    for token in range(FIRST_COMPARED_ID, min(len(target), len(draft))):
        if target[token] == draft[token]:
            continue
        ours, theirs = _as_loaded(target[token], token), _as_loaded(draft[token], token)
        if ours != theirs:
            return f"token {token} is {_shown(ours)} in the target and {_shown(theirs)} in the draft"
    return None


def _as_loaded(text: bytes, token: int) -> bytes:
    """The text as llama.cpp compares it: an empty one gets a name, and strcmp stops at the first zero byte."""
    return text.split(b"\0", 1)[0] if text else f"[EMPTY_{token}]".encode()


def _shown(text: bytes) -> str:
    characters = text.decode("utf-8", "backslashreplace")
    if len(characters) > SHOWN_CHARACTERS:
        characters = characters[:SHOWN_CHARACTERS] + "…"
    return ascii(characters) if not characters.isprintable() else repr(characters)
