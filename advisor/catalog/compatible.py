"""Whether two vocabularies of the catalogue may speculate together, before any file is there.

The header facts go through the same rule as those of files (``advisor/tokenizer.py``); in place of the token texts the
catalogue knows which groups have the same. An id of BOS or EOS that a group does not tell is taken to be the other's:
what is not known is no reason to refuse.
"""

from __future__ import annotations

from dataclasses import replace

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
    difference = known_header_incompatibility(
        _header(target_group, target_size),
        _header(draft_group, draft_size),
        compares_unused_markers=compares_unused_markers,
    )
    if difference or target_group.tokens == draft_group.tokens:
        return difference
    return f"the tokens differ: the target has those of {target_group.tokens}, the draft those of {draft_group.tokens}"


def known_header_incompatibility(
    target: VocabularyHeader, draft: VocabularyHeader, *, compares_unused_markers: bool = False
) -> str | None:
    """As ``header_incompatibility``, where one of the two headers or both are the catalogue's."""
    return header_incompatibility(
        _with_ids_of(target, draft), _with_ids_of(draft, target), compares_unused_markers=compares_unused_markers
    )


def _with_ids_of(header: VocabularyHeader, other: VocabularyHeader) -> VocabularyHeader:
    """The header with ids that are not known in it taken from the other."""
    bos_id = other.bos_id if header.bos_id is None else header.bos_id
    eos_id = other.eos_id if header.eos_id is None else header.eos_id
    return replace(header, bos_id=bos_id, eos_id=eos_id)


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
