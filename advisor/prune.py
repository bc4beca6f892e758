"""Which drafts can run beside a target on this machine: -> Candidate | Rejected.

Cheapest questions first: is it a draft at all, could it ever help, does the pair fit in memory, do the vocabularies
agree. Memory is priced per placement, best first: both models on one GPU; the draft on the GPU and as many of the
target's layers as fit; both in RAM. A model spread over several GPUs is not considered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from advisor.errors import FileProblem, NothingFits
from advisor.memory import ALL_LAYERS, NOTHING, Role, SplitUse, offloadable_layers, split_use
from advisor.tokenizer import incompatibility
from advisor.types import PLAIN_CACHE, Candidate, Device, DeviceMemory, Host, MemoryUse, Model, Placement, Rejected

GIB = 1 << 30
CPU = "CPU"
CACHE_BLOCKS = {PLAIN_CACHE: 1, "q8_0": 32}
CACHE_TYPES = tuple(CACHE_BLOCKS)  # the next is taken only where nothing fits with the one before it

# Left free on every device: for what the estimate misses (the driver, the server's prompt cache, the compute buffer's
# error of a few per cent) and for the rest of the machine.
MARGIN_FRACTION = 0.05
HEAD_FILES = frozenset({"eagle3"})  # prediction heads in files of their own that llama-server was seen to run
MARGIN_MINIMUM_BYTES = 512 << 20
SHORTEST_CONTEXT = 512  # tokens; a model that does not fit with these is too large at any context


@dataclass(frozen=True)
class Option:
    """One placement with its price on every device it touches."""

    placement: Placement
    memory: tuple[DeviceMemory, ...]

    @property
    def fits(self) -> bool:
        return all(device.fits for device in self.memory)


def prune(
    target: Model, drafts: Sequence[Model], host: Host, context: int, *, k_max: int, served: bool = False
) -> tuple[list[Candidate], list[Rejected]]:
    """Sort drafts, in their order, into those that can run beside the target and those that cannot, with the reason.

    Where none fits in memory, all are asked again with keys and values quantized. ``served``: llama-server runs them,
    which can draft with prediction heads that are files of their own.
    """
    for cache_type in CACHE_TYPES:
        judged = [
            judge(target, draft, host, context, k_max=k_max, cache_type=cache_type, served=served) for draft in drafts
        ]
        candidates = [one for one in judged if isinstance(one, Candidate)]
        rejected = [one for one in judged if isinstance(one, Rejected)]
        if candidates or not any(one.reason == "memory" for one in rejected):
            break
    return candidates, rejected


def judge(
    target: Model,
    draft: Model,
    host: Host,
    context: int,
    *,
    k_max: int,
    difference_of: Callable[[Model, Model], str | None] | None = None,
    cache_type: str = PLAIN_CACHE,
    served: bool = False,
) -> Candidate | Rejected:
    """One draft. ``difference_of`` says why the vocabularies do not go together; by default it reads the token texts,
    and is asked only when everything else is in order."""
    unsuitable = _unsuitable(target, draft, served=served)
    if unsuitable:
        return unsuitable
    option = best_option(target, draft, host, context, k_max=k_max, cache_type=cache_type)
    if not option.fits:
        return Rejected(draft.name, draft.quant, "memory", shortage(option))
    if draft.draft_only:  # the server refuses one of another target
        return Candidate(draft, option.placement, option.memory)
    try:
        difference = (difference_of or incompatibility)(target, draft)
    except FileProblem as error:
        return Rejected(draft.name, draft.quant, "unreadable", error.line)
    if difference:
        return Rejected(draft.name, draft.quant, "tokenizer", difference)
    return Candidate(draft, option.placement, option.memory)


def _unsuitable(target: Model, draft: Model, *, served: bool) -> Rejected | None:
    """What needs neither memory nor token texts."""
    if draft.draft_only and not (served and draft.draft_only in HEAD_FILES):
        detail = f"it is a {draft.draft_only} file, a part of another model that cannot draft by itself"
        detail += "; --engine llama-server runs it" if draft.draft_only in HEAD_FILES else ""
        return Rejected(draft.name, draft.quant, "not-a-draft", detail)
    if draft.content_hash == target.content_hash:
        return Rejected(draft.name, draft.quant, "same-as-target", "it is the target itself")
    if draft.active_weights_bytes >= target.active_weights_bytes:
        detail = (
            f"it reads {_gib(draft.active_weights_bytes)} GiB for a token, the target "
            f"{_gib(target.active_weights_bytes)} GiB: drafting would cost more than it can save"
        )
        return Rejected(draft.name, draft.quant, "slower-than-target", detail)
    return None


def fits_alone(target: Model, host: Host, context: int, *, cache_types: Sequence[str] = (PLAIN_CACHE,)) -> Placement:
    """Where the target runs without a draft, with the first of these caches that fits. NothingFits, with the numbers of
    the last, when nowhere."""
    for cache_type in cache_types:
        option = best_option(target, None, host, context, k_max=0, cache_type=cache_type)
        if option.fits:
            return option.placement
    raise NothingFits(
        f"The target {target.label} does not fit into this machine at a context of {context}.",
        why=f"It {shortage(option)}.",
        fix=_ways_to_fit(target, host, cache_types),
    )


def _ways_to_fit(target: Model, host: Host, cache_types: Sequence[str]) -> str:
    """Of what makes a target fit, that which can help here."""
    shorter = any(fits_at(target, host, SHORTEST_CONTEXT, cache_type=one) for one in cache_types)
    ways = f"Take a smaller quantization or a {'shorter context' if shorter else 'smaller model'}"
    others_hold_it = target.weights_bytes < host.ram_total_bytes
    return f"{ways}, or close programs that hold memory." if others_hold_it else f"{ways}."


def fits_at(target: Model, host: Host, context: int, *, cache_type: str = PLAIN_CACHE) -> bool:
    """Whether the target runs without a draft at this context."""
    return best_option(target, None, host, context, k_max=0, cache_type=cache_type).fits


def shortage_alone(
    model: Model, host: Host, context: int, *, gpu_layers: int, cache_type: str = PLAIN_CACHE, outputs: int = 1
) -> str:
    """What this machine lacks to hold one model with so many layers on a GPU, in words and numbers; "" where it fits.
    Without a GPU it is all in RAM."""
    pricing = _Pricing(model, None, host, context, outputs, cache_type)
    gpus = graphics_devices(host) if gpu_layers else ()
    option = min([pricing.offloaded(gpu, gpu_layers) for gpu in gpus] or [pricing.in_ram()], key=_lack_bytes)
    return shortage(option)


def best_option(
    target: Model, draft: Model | None, host: Host, context: int, *, k_max: int, cache_type: str = PLAIN_CACHE
) -> Option:
    """The first placement that fits; when none does, the one that lacks least. ``draft`` None: the target alone.

    A model whose heads do not divide into the blocks of ``cache_type`` is placed with the plain cache.
    """
    if not all(_divides(model, cache_type) for model in (target, draft) if model is not None):
        cache_type = PLAIN_CACHE
    tried: list[Option] = []
    for option in _options(target, draft, host, context, k_max, cache_type):
        if option.fits:
            return option
        tried.append(option)
    return min(tried, key=_lack_bytes)


def _divides(model: Model, cache_type: str) -> bool:
    attention, block = model.attention, CACHE_BLOCKS[cache_type]
    lengths = (
        attention.key_length,
        attention.value_length,
        attention.sliding_key_length,
        attention.sliding_value_length,
    )
    return all(length % block == 0 for length in lengths)


def _options(
    target: Model, draft: Model | None, host: Host, context: int, k_max: int, cache_type: str
) -> Iterator[Option]:
    pricing = _Pricing(target, draft, host, context, k_max + 1, cache_type)
    gpus = graphics_devices(host)
    for gpu in gpus:
        yield pricing.offloaded(gpu, ALL_LAYERS)
    for gpu in gpus:
        if not gpu.unified:  # in shared memory a layer costs the same on either side
            yield from pricing.partly_offloaded(gpu)
    if not any(gpu.unified and gpu.memory_free_bytes >= host.ram_available_bytes for gpu in gpus):
        yield pricing.in_ram()


def draft_in_ram(target: Model, candidate: Candidate, host: Host, context: int, *, k_max: int) -> Candidate | None:
    """The pair with its draft in RAM and the target as it is. None where the draft is there, or does not fit."""
    place = candidate.placement
    gpu = next((one for one in graphics_devices(host) if one.name == place.device), None)
    if gpu is None or gpu.unified or place.draft_gpu_layers == 0:
        return None
    pricing = _Pricing(target, candidate.draft, host, context, k_max + 1, place.cache_type)
    option = pricing.offloaded(gpu, place.target_gpu_layers, draft_layers=0)
    return replace(candidate, placement=option.placement, memory=option.memory) if option.fits else None


def graphics_devices(host: Host) -> tuple[Device, ...]:
    """GPUs by free memory, most first. Integrated ones count only where there is no other, as in llama.cpp."""
    usable = [device for device in host.devices if device.memory_total_bytes > 0]
    discrete = [device for device in usable if device.kind == "gpu"]
    chosen = discrete or [device for device in usable if device.kind == "igpu"]
    return tuple(sorted(chosen, key=lambda device: -device.memory_free_bytes))


@dataclass(frozen=True)
class _Pricing:
    target: Model
    draft: Model | None
    host: Host
    context: int
    outputs: int
    cache_type: str

    def in_ram(self) -> Option:
        return Option(Placement(0, 0, CPU, self.cache_type), (self._ram(self._target(0).host, self._draft(0).host),))

    def offloaded(self, gpu: Device, target_layers: int, draft_layers: int = ALL_LAYERS) -> Option:
        """The target with this many layers on the GPU, the draft wholly there unless said."""
        target, draft = self._target(target_layers), self._draft(draft_layers)
        placement = Placement(target_layers, draft_layers if self.draft else 0, gpu.name, self.cache_type)
        if gpu.unified:
            free = min(gpu.memory_free_bytes, self.host.ram_available_bytes)
            return Option(placement, (_priced(gpu.name, target.together, draft.together, free),))
        on_device = _priced(gpu.name, target.device, draft.device, gpu.memory_free_bytes)
        return Option(placement, (on_device, self._ram(target.host, draft.host)))

    def partly_offloaded(self, gpu: Device) -> Iterator[Option]:
        """The most layers that fit the GPU, none when not even one does. More layers never take less there."""
        fewest, most = 0, offloadable_layers(self.target) - 1
        while fewest < most:
            middle = (fewest + most + 1) // 2
            if self.offloaded(gpu, middle).memory[0].fits:
                fewest = middle
            else:
                most = middle - 1
        if fewest:
            yield self.offloaded(gpu, fewest)

    def _target(self, layers: int) -> SplitUse:
        return self._use(self.target, layers, "target", self.outputs)

    def _draft(self, layers: int) -> SplitUse:
        if self.draft is None:
            return SplitUse(NOTHING, NOTHING)
        return self._use(self.draft, layers, "draft", 1)

    def _use(self, model: Model, layers: int, role: Role, outputs: int) -> SplitUse:
        cache = self.cache_type
        return split_use(model, self.context, gpu_layers=layers, type_k=cache, type_v=cache, outputs=outputs, role=role)

    def _ram(self, target: MemoryUse, draft: MemoryUse) -> DeviceMemory:
        return _priced(CPU, target, draft, self.host.ram_available_bytes)


def _priced(device: str, target: MemoryUse, draft: MemoryUse, free_bytes: int) -> DeviceMemory:
    return DeviceMemory(device, target, draft, free_bytes, margin_bytes(free_bytes))


def margin_bytes(free_bytes: int) -> int:
    return max(MARGIN_MINIMUM_BYTES, round(MARGIN_FRACTION * free_bytes))


def _lack_bytes(option: Option) -> int:
    return sum(max(0, one.needed_bytes + one.margin_bytes - one.available_bytes) for one in option.memory)


def shortage(option: Option) -> str:
    """In words and numbers, what the devices that are too small lack."""
    return "; ".join(_shortage_on(device) for device in option.memory if not device.fits)


def _shortage_on(device: DeviceMemory) -> str:
    weights = device.target.weights_bytes + device.draft.weights_bytes
    cache = device.target.kv_bytes + device.draft.kv_bytes
    buffers = device.needed_bytes - weights - cache
    return (
        f"needs {_gib(device.needed_bytes)} GiB (weights {_gib(weights)}, KV {_gib(cache)}, buffers {_gib(buffers)}) "
        f"+ margin {_gib(device.margin_bytes)} GiB; {_gib(device.available_bytes)} GiB are free on {device.device}"
    )


def _gib(size_bytes: int) -> str:
    """Gibibytes with one decimal, two below 1 so that small models do not read as nothing."""
    size = size_bytes / GIB
    return f"{size:.1f}" if size >= 1 else f"{size:.2f}"
