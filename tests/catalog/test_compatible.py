"""The pairs that llama.cpp is known to accept and to refuse, told from the catalogue alone."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from advisor.catalog.compatible import token_groups_incompatibility
from advisor.catalog.load import load

CATALOG = load()


def incompatibility(target: str, draft: str) -> str | None:
    ours, theirs = CATALOG.entries[target], CATALOG.entries[draft]
    return token_groups_incompatibility(
        CATALOG.tokenizers[ours.tokenizer],
        ours.shape.vocabulary_size,
        CATALOG.tokenizers[theirs.tokenizer],
        theirs.shape.vocabulary_size,
    )


@pytest.mark.parametrize(
    ("target", "draft"),
    [
        ("qwen2.5-72b", "qwen2.5-0.5b"),
        ("qwen2.5-coder-32b", "qwen2.5-coder-0.5b"),
        ("qwen2.5-72b", "qwen2.5-coder-1.5b"),
        ("qwen3-235b-a22b", "qwen3-0.6b"),
        ("qwen3.6-27b", "qwen3.5-0.8b"),
        ("llama-3.3-70b", "llama-3.2-1b"),
        ("llama-3.1-405b", "llama-3.2-3b"),
        ("gemma-3-27b", "gemma-3-270m"),
        ("gemma-3-27b", "gemma-3-1b-qat"),
        ("gemma-4-31b", "gemma-4-e2b"),
        ("smollm2-1.7b", "smollm2-135m"),
        ("deepseek-r1-distill-qwen-32b", "deepseek-r1-distill-qwen-1.5b"),
        ("deepseek-r1-distill-llama-70b", "deepseek-r1-distill-llama-8b"),
        ("gpt-oss-120b", "gpt-oss-20b"),
        ("granite-3.3-8b", "granite-3.0-2b"),
    ],
)
def test_pairs_that_are_accepted(target: str, draft: str) -> None:
    assert incompatibility(target, draft) is None
    assert incompatibility(draft, target) is None


@pytest.mark.parametrize(
    ("target", "draft", "why"),
    [
        ("qwen3-32b", "qwen2.5-0.5b", "the target has those of qwen3, the draft those of qwen2.5"),
        ("llama-3.1-8b", "llama-3-8b", "the target has those of llama-3.1, the draft those of llama-3.0"),
        ("llama-3.3-70b", "deepseek-r1-distill-llama-8b", "the draft those of r1-distill-llama"),
        ("qwen2.5-32b", "deepseek-r1-distill-qwen-1.5b", "the draft adds BOS to every prompt, the target does not"),
        ("qwen3.5-27b", "qwen3-0.6b", "the vocabularies differ by 96384 tokens"),
        ("gemma-4-31b", "gemma-3-1b", "of different kinds: BPE in the target, SPM in the draft"),
        ("mistral-small-24b-2501", "mistral-7b-v0.3", "of different kinds: BPE in the target, SPM in the draft"),
        ("mistral-small-3.2-24b", "mistral-nemo", "the tokens differ"),
        ("llama-3.1-8b", "smollm3-3b", "the target adds BOS to every prompt, the draft does not"),
        ("phi-4", "olmo-2-7b", "the target has those of phi-4, the draft those of olmo-2"),
        ("gpt-oss-20b", "phi-4-mini", "the vocabularies differ by 1024 tokens"),
        ("qwen3-8b", "deepseek-r1-0528-qwen3-8b", "the draft those of deepseek-r1-0528-qwen3"),
    ],
)
def test_pairs_that_are_refused(target: str, draft: str, why: str) -> None:
    assert why in str(incompatibility(target, draft))
    assert incompatibility(draft, target) is not None


def test_a_difference_of_128_tokens_is_the_most() -> None:
    group = CATALOG.tokenizers["qwen2.5-large"]
    assert token_groups_incompatibility(group, 152064, group, 151936) is None
    assert token_groups_incompatibility(group, 152064, group, 151935) is not None


def test_marker_ids_matter_only_where_they_are_added() -> None:
    group = CATALOG.tokenizers["qwen3.5"]
    assert token_groups_incompatibility(group, 248320, replace(group, bos_id=7, eos_id=8), 248320) is None
    adding = replace(group, add_bos=True, bos_id=7)
    assert "the BOS token differs" in str(token_groups_incompatibility(adding, 9, replace(adding, bos_id=8), 9))


@pytest.mark.parametrize("strict", [False, True])
def test_an_id_that_is_not_known_rejects_nothing(strict: bool) -> None:
    group = CATALOG.tokenizers["llama-3.1"]
    unknown = replace(group, id="walnut", bos_id=None, eos_id=None)
    for target, draft in ((unknown, group), (group, unknown), (unknown, unknown)):
        assert token_groups_incompatibility(target, 128256, draft, 128256, compares_unused_markers=strict) is None
    other = replace(unknown, eos_id=7)
    said = token_groups_incompatibility(other, 128256, group, 128256, compares_unused_markers=True)
    assert said == "the EOS token differs: id 7 in the target, id 128009 in the draft"


def test_both_directions_agree_for_every_pair_of_vocabularies() -> None:
    by_group = {entry.tokenizer: entry.id for entry in CATALOG.entries.values()}
    for one, other in itertools.combinations(by_group.values(), 2):
        assert (incompatibility(one, other) is None) == (incompatibility(other, one) is None)
