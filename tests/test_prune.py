"""Which drafts survive on which machine, and what the others are told."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from advisor.errors import NothingFits
from advisor.gguf import read_model
from advisor.memory import memory_use, split_use
from advisor.prune import CACHE_TYPES, MARGIN_MINIMUM_BYTES, fits_alone, margin_bytes, prune
from advisor.testing.gguf_files import llama_tensors, llama_values, tokens, write
from advisor.types import AttentionLayers, Candidate, Device, Host, Model, Placement, Rejected

MIB, GIB = 1 << 20, 1 << 30
CONTEXT = 2048
K_MAX = 8
PLENTY = 64 * GIB

Make = Callable[..., Model]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A model of this many layers, 50 MiB each. Its vocabulary is in a file, its size is only said."""

    def build(name: str, layers: int, vocabulary: int = 2000, prefix: str = "<") -> Model:
        texts = [prefix + text for text in tokens(vocabulary)]
        values = {**llama_values(vocabulary=texts, layers=layers), "general.name": name}
        small = read_model(
            write(tmp_path / f"{name}.gguf", values, llama_tensors(layers=layers, vocabulary=vocabulary))
        )
        repeating, embedding = layers * 50 * MIB, 8 * MIB
        return dataclasses.replace(
            small,
            weights_bytes=repeating + 2 * embedding,
            active_weights_bytes=repeating + embedding,
            repeating_bytes=repeating,
            token_embedding_bytes=embedding,
            output_bytes=embedding,
            tied_output_bytes=0,
            embedding_length=2048,
            feed_forward_length=2048,
            heads=16,
            attention=AttentionLayers(kv_heads=(16,) * layers, key_length=128, value_length=128),
        )

    return build


@pytest.fixture
def target(make: Make) -> Model:
    return make("target", 40)


@pytest.fixture
def draft(make: Make) -> Model:
    return make("draft", 4)


def host(ram: int = PLENTY, *devices: Device) -> Host:
    return Host("h", "Linux", "cpu", (), 4, 4, 2 * PLENTY, ram, devices)


def gpu(free: int, name: str = "CUDA0", unified: bool = False) -> Device:
    return Device(name, "a card", "igpu" if unified else "gpu", 48 * GIB, free, unified)


def only_candidate(target: Model, draft: Model, machine: Host) -> Candidate:
    candidates, rejected = prune(target, [draft], machine, CONTEXT, k_max=K_MAX)
    assert rejected == []
    return candidates[0]


def only_rejected(target: Model, draft: Model, machine: Host) -> Rejected:
    candidates, rejected = prune(target, [draft], machine, CONTEXT, k_max=K_MAX)
    assert candidates == []
    return rejected[0]


def pair_bytes(target: Model, draft: Model, on_gpu: bool) -> int:
    ours = memory_use(target, CONTEXT, outputs=K_MAX + 1, role="target", on_gpu=on_gpu)
    theirs = memory_use(draft, CONTEXT, outputs=1, role="draft", on_gpu=on_gpu)
    return ours.total_bytes + theirs.total_bytes


def free_for(needed: int) -> int:
    """The least free memory in which this much fits beside the margin."""
    return max(needed + MARGIN_MINIMUM_BYTES, needed * 20 // 19 + 20)


# -- where a pair goes -----------------------------------------------------------------------------------------------


def test_without_a_gpu_both_live_in_ram(target: Model, draft: Model) -> None:
    candidate = only_candidate(target, draft, host())
    assert candidate.placement == Placement(0, 0, "CPU")
    assert [device.device for device in candidate.memory] == ["CPU"]
    assert candidate.memory_bytes == pair_bytes(target, draft, on_gpu=False)


def test_a_large_gpu_takes_both_wholly(target: Model, draft: Model) -> None:
    candidate = only_candidate(target, draft, host(PLENTY, gpu(24 * GIB)))
    assert candidate.placement == Placement(-1, -1, "CUDA0")
    assert [device.device for device in candidate.memory] == ["CUDA0", "CPU"]
    assert candidate.memory[0].needed_bytes == pair_bytes(target, draft, on_gpu=True)


def test_the_gpu_with_the_most_free_memory_is_taken(target: Model, draft: Model) -> None:
    machine = host(PLENTY, gpu(8 * GIB, "CUDA0"), gpu(16 * GIB, "CUDA1"))
    assert only_candidate(target, draft, machine).placement.device == "CUDA1"


def test_a_small_gpu_takes_the_draft_and_as_many_target_layers_as_fit(target: Model, draft: Model) -> None:
    free = 2 * GIB
    candidate = only_candidate(target, draft, host(PLENTY, gpu(free)))
    layers = candidate.placement.target_gpu_layers
    assert candidate.placement == Placement(layers, -1, "CUDA0")
    assert 0 < layers < 41

    def needed(count: int) -> int:
        ours = split_use(target, CONTEXT, gpu_layers=count, outputs=K_MAX + 1, role="target").device
        return ours.total_bytes + memory_use(draft, CONTEXT, outputs=1, role="draft", on_gpu=True).total_bytes

    assert needed(layers) + margin_bytes(free) <= free < needed(layers + 1) + margin_bytes(free)


def test_a_gpu_too_small_for_the_draft_is_left_alone(target: Model, draft: Model) -> None:
    assert only_candidate(target, draft, host(PLENTY, gpu(700 << 20))).placement == Placement(0, 0, "CPU")


def test_shared_memory_is_counted_once(target: Model, draft: Model) -> None:
    needed = pair_bytes(target, draft, on_gpu=False)
    enough = int(1.25 * free_for(needed))
    candidate = only_candidate(target, draft, host(enough, gpu(enough, "Metal", unified=True)))
    assert candidate.placement == Placement(-1, -1, "Metal")
    assert [device.device for device in candidate.memory] == ["Metal"]
    assert candidate.memory_bytes >= needed
    small = int(0.9 * needed)
    assert only_rejected(target, draft, host(small, gpu(small, "Metal", unified=True))).reason == "memory"


def test_a_unified_device_cannot_have_more_than_the_ram_that_is_free(target: Model, draft: Model) -> None:
    machine = host(1 * GIB, gpu(48 * GIB, "Metal", unified=True))
    assert only_rejected(target, draft, machine).reason == "memory"


def test_an_integrated_gpu_counts_only_where_there_is_no_other(target: Model, draft: Model) -> None:
    machine = host(PLENTY, gpu(40 * GIB, "Vulkan0", unified=True), gpu(24 * GIB, "CUDA0"))
    assert only_candidate(target, draft, machine).placement.device == "CUDA0"


def test_devices_that_are_no_gpus_do_not_count(target: Model, draft: Model) -> None:
    others = (Device("CPU", "cpu", "cpu", PLENTY, PLENTY), Device("BLAS", "blas", "accelerator", 0, 0))
    assert only_candidate(target, draft, host(PLENTY, *others)).placement.device == "CPU"


# -- memory ----------------------------------------------------------------------------------------------------------


def test_the_margin_decides_at_the_edge(target: Model, draft: Model) -> None:
    edge = free_for(pair_bytes(target, draft, on_gpu=False))
    assert only_candidate(target, draft, host(edge)).placement.cache_type == "f16"
    assert only_candidate(target, draft, host(edge - (1 << 20))).placement.cache_type == "q8_0"


def test_at_least_a_twentieth_and_half_a_gibibyte_stay_free() -> None:
    assert margin_bytes(1 * GIB) == 512 << 20
    assert margin_bytes(100 * GIB) == 5 * GIB


def test_what_is_lacking_is_told_in_numbers(target: Model, draft: Model) -> None:
    rejected = only_rejected(target, draft, host(2 * GIB))
    number = r"(\d+\.\d+)"
    match = re.fullmatch(
        rf"needs {number} GiB \(weights {number}, KV {number}, buffers {number}\) "
        rf"\+ margin {number} GiB; 2\.0 GiB are free on CPU",
        rejected.detail,
    )
    assert rejected.reason == "memory"
    assert match
    needed, weights, cache, buffers, margin = map(float, match.groups())
    assert needed == pytest.approx(weights + cache + buffers, abs=0.2)
    assert weights == pytest.approx((target.weights_bytes + draft.weights_bytes) / GIB, abs=0.06)
    assert margin == 0.5


def test_a_longer_context_can_be_too_long(target: Model, draft: Model) -> None:
    machine = host(free_for(pair_bytes(target, draft, on_gpu=False)) + GIB // 4)
    assert prune(target, [draft], machine, CONTEXT, k_max=K_MAX)[0]
    assert prune(target, [draft], machine, 32 * CONTEXT, k_max=K_MAX)[1][0].reason == "memory"


def test_a_quantized_cache_is_the_last_resort(target: Model, draft: Model) -> None:
    """Where no pair fits with a plain cache, all are priced with a quantized one; never where one fits."""
    long = 16 * CONTEXT
    plain, quantized = (
        memory_use(target, long, outputs=K_MAX + 1, role="target", on_gpu=False, type_k=kind, type_v=kind).total_bytes
        + memory_use(draft, long, outputs=1, role="draft", on_gpu=False, type_k=kind, type_v=kind).total_bytes
        for kind in ("f16", "q8_0")
    )
    candidates, _ = prune(target, [draft], host(free_for(plain)), long, k_max=K_MAX)
    assert candidates[0].placement.cache_type == "f16"
    candidates, rejected = prune(target, [draft], host(free_for(quantized)), long, k_max=K_MAX)
    assert not rejected
    assert candidates[0].placement == Placement(0, 0, "CPU", "q8_0")
    assert candidates[0].memory_bytes == quantized < plain
    candidates, rejected = prune(target, [draft], host(quantized), long, k_max=K_MAX)
    assert [one.reason for one in rejected] == ["memory"]
    odd = dataclasses.replace(target, attention=dataclasses.replace(target.attention, value_length=112))
    candidates, rejected = prune(odd, [draft], host(free_for(quantized)), long, k_max=K_MAX)
    assert [one.reason for one in rejected] == ["memory"], "heads of 112 do not divide into blocks of 32"


def test_a_target_that_fits_alone_only_with_a_quantized_cache(target: Model) -> None:
    long = 16 * CONTEXT
    use = memory_use(target, long, outputs=1, role="target", on_gpu=False, type_k="q8_0", type_v="q8_0")
    machine = host(free_for(use.total_bytes))
    assert fits_alone(target, machine, long, cache_types=CACHE_TYPES).cache_type == "q8_0"
    with pytest.raises(NothingFits):
        fits_alone(target, machine, long)


def test_a_target_alone(target: Model) -> None:
    assert fits_alone(target, host(), CONTEXT) == Placement(0, 0, "CPU")
    assert fits_alone(target, host(PLENTY, gpu(24 * GIB)), CONTEXT) == Placement(-1, 0, "CUDA0")
    partly = fits_alone(target, host(PLENTY, gpu(2 * GIB)), CONTEXT)
    assert 0 < partly.target_gpu_layers < 41
    with pytest.raises(NothingFits, match=r"needs .* GiB \(weights .*\) \+ margin .* are free on CPU") as caught:
        fits_alone(target, host(1 * GIB), CONTEXT)
    assert "target" in caught.value.what


def test_only_what_can_make_a_target_fit_is_advised(target: Model) -> None:
    def advised(free_bytes: int, total_bytes: int, context: int) -> str:
        machine = dataclasses.replace(host(free_bytes), ram_total_bytes=total_bytes)
        with pytest.raises(NothingFits) as caught:
            fits_alone(target, machine, context)
        return caught.value.fix

    large, small = target.weights_bytes + 2 * GIB, target.weights_bytes // 2
    closing = ", or close programs that hold memory."
    assert advised(large, large, 1 << 20) == f"Take a smaller quantization or a shorter context{closing}"
    assert advised(small, large, CONTEXT) == f"Take a smaller quantization or a smaller model{closing}"
    assert advised(small, small, CONTEXT) == "Take a smaller quantization or a smaller model."


# -- the other reasons -----------------------------------------------------------------------------------------------


def test_each_reason_has_its_word(target: Model, draft: Model, make: Make) -> None:
    other_file = dataclasses.replace(target, name="renamed", path="/elsewhere.gguf")
    head = dataclasses.replace(draft, draft_only="eagle3", content_hash="x")
    larger, strange = make("larger", 44), make("strange", 4, prefix="#")
    drafts = [other_file, draft, head, larger, strange]
    candidates, rejected = prune(target, drafts, host(), CONTEXT, k_max=K_MAX)
    assert [candidate.draft.name for candidate in candidates] == ["draft"]
    assert [(one.draft, one.reason) for one in rejected] == [
        ("renamed", "same-as-target"),
        ("draft", "not-a-draft"),
        ("larger", "slower-than-target"),
        ("strange", "tokenizer"),
    ]
    assert "eagle3" in rejected[1].detail
    assert "token 5 is" in rejected[3].detail


def test_the_order_of_the_drafts_is_kept(target: Model, make: Make) -> None:
    drafts = [make(name, layers) for name, layers in (("c", 3), ("a", 5), ("b", 2))]
    candidates, _ = prune(target, drafts, host(), CONTEXT, k_max=K_MAX)
    assert [candidate.draft for candidate in candidates] == drafts


def test_a_draft_as_slow_as_the_target_is_told_the_sizes(target: Model, make: Make) -> None:
    rejected = only_rejected(target, make("twin", 40, vocabulary=2001), host())
    assert rejected.reason == "slower-than-target"
    assert re.search(r"reads \d\.\d GiB for a token, the target \d\.\d GiB", rejected.detail)


def test_memory_is_judged_before_token_texts_are_read(target: Model, draft: Model) -> None:
    Path(draft.path).unlink()
    assert only_rejected(target, draft, host(1 * GIB)).reason == "memory"
    assert only_rejected(target, draft, host()).reason == "unreadable"


def test_no_drafts_no_verdicts(target: Model) -> None:
    assert prune(target, [], host(), CONTEXT, k_max=K_MAX) == ([], [])
