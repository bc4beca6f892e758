"""Whether two vocabularies of the catalogue may speculate together, before any file is there.

The header facts go through the same rule as those of files (``advisor/tokenizer.py``); in place of the token texts the
catalogue knows which groups have the same.
"""

from __future__ import annotations

from advisor.catalog.records import TokenizerGroup
from advisor.tokenizer import header_incompatibility
from advisor.types import VocabularyHeader


def token_groups_incompatibility(
    target_group: TokenizerGroup,
    target_size: int,
    draft_group: TokenizerGroup,
    draft_size: int,
    *,
    compares_unused_markers: bool = False,
) -> str | None:
    """Why llama.cpp would refuse the draft, None when it would not. Sizes are tokens in the GGUF vocabularies."""
    difference = header_incompatibility(
        _header(target_group, target_size),
        _header(draft_group, draft_size),
        compares_unused_markers=compares_unused_markers,
    )
    if difference or target_group.tokens == draft_group.tokens:
        return difference
    return f"the tokens differ: the target has those of {target_group.tokens}, the draft those of {draft_group.tokens}"


def _header(group: TokenizerGroup, size: int) -> VocabularyHeader:
    return VocabularyHeader(
        model=group.model,
        pre=group.pre,
        size=size,
        bos_id=group.bos_id,
        eos_id=group.eos_id,
        add_bos=group.add_bos,
        add_eos=group.add_eos,
    )
