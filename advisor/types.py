"""The records that travel from stage to stage. Frozen, JSON in and out, units in the field names.

    Host                      the machine
    Model                     a model file as its header describes it
    Candidate | Rejected      a (target, draft) pair that can run, or why it cannot
    Prompt, Workload          what is asked of the target
    Transcript                what the target answered, as tokens
    Trace                     what the draft would have proposed at every position of a transcript
    CostCurve                 seconds of one decode of b tokens
    Config                    one thing that can be deployed: method, draft, k, p_min, n_min
    Trial                     a measured speculative run of a Config beside its own baseline
    Estimate                  what is expected of a Config, its interval and its evidence
    WhatIf                    an Estimate under other settings
    Recommendation            the answer, whole: everything explain and export need

This module knows nothing about files, engines or statistics. It is one, though long: records hold each other, and
whoever reads a saved recommendation finds all that can be in it in one place.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast

from advisor.errors import FileProblem

Evidence = Literal["prior", "replay", "measured"]
Verdict = Literal["speculate", "do-not-speculate"]
Reason = Literal[
    "memory",
    "tokenizer",
    "not-a-draft",
    "unreadable",
    "same-as-target",
    "duplicate",
    "budget",
    "engine",
    "slower-than-target",
]
DraftSampling = Literal["greedy", "probabilistic"]
DeviceKind = Literal["cpu", "gpu", "igpu", "accelerator"]

USUAL_TEMPERATURE = 0.8
PLAIN_CACHE = "f16"
RECOMMENDATION_SCHEMA = "draft-advisor/recommendation/1"


@dataclass(frozen=True)
class Device:
    """One compute device as ggml lists it. ``unified`` devices share the host's RAM."""

    name: str
    description: str
    kind: DeviceKind
    memory_total_bytes: int
    memory_free_bytes: int
    unified: bool = False


@dataclass(frozen=True)
class Host:
    """A machine. Bandwidths are lower bounds: what a read, or a real decode, reached at least.

    ``notes`` are sentences for people on what could not be found out.
    """

    fingerprint: str
    os: str
    cpu: str
    isa: tuple[str, ...]
    cores_physical: int
    cores_usable: int
    ram_total_bytes: int
    ram_available_bytes: int
    devices: tuple[Device, ...] = ()
    read_bandwidth_bytes_per_s: float | None = None
    decode_bandwidth_bytes_per_s: float | None = None
    measured_at: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Build:
    """The engine that runs models: its version decides the step law and the flag dialect.

    ``llama_cpp_build`` is 0 where it is not known, which is taken for a current one; ``libraries`` changes when the
    native libraries do (another backend, another compiler) though the version stays.
    """

    engine: str
    version: str
    llama_cpp_build: int = 0
    libraries: str = ""

    @property
    def key(self) -> str:
        return f"{self.engine}-{self.version}-{self.libraries}"


@dataclass(frozen=True)
class AttentionLayers:
    """What the KV cache of a model needs, per layer (tuples have one entry a layer, 0 = no KV in that layer).

    ``recurrent_state_bytes`` is the fixed F32 state of recurrent layers, for one sequence.
    ``mla`` layers store no V. ``sliding_window`` layers cap their cells; ``sliding_key_length`` and
    ``sliding_value_length`` are their head sizes where they differ (0: as in the other layers).
    ``indexer_key_length`` is the extra key of sparse attention, one a cell and layer (0: none).
    """

    kv_heads: tuple[int, ...]
    key_length: int
    value_length: int
    sliding_window: int = 0
    is_sliding: tuple[bool, ...] = ()
    mla: bool = False
    recurrent_state_bytes: int = 0
    sliding_key_length: int = 0
    sliding_value_length: int = 0
    indexer_key_length: int = 0


@dataclass(frozen=True)
class VocabularyHeader:
    """The cheap part of a vocabulary; the token texts stay in the file until the tokenizer check asks."""

    model: str
    pre: str
    size: int
    bos_id: int | None
    eos_id: int | None
    add_bos: bool
    add_eos: bool


@dataclass(frozen=True)
class Model:
    """A model file as its header describes it (all parts of a split file together).

    ``weights_bytes`` is the exact sum of tensor bytes; ``weights_bytes_by_type`` splits it by ggml type name.
    ``quant`` is what the bytes say (e.g. "Q8_0", "Q4_K_M"), not what the file name says.
    ``experts`` is (total, used per token), (0, 0) for a dense model; ``active_weights_bytes`` is what one token reads.
    ``token_embedding_bytes`` + ``output_bytes`` + ``repeating_bytes`` = ``weights_bytes``: input tables, what is
    outside the layers, the layers. ``tied_output_bytes``: the token embedding where it is also the output matrix,
    else 0.
    ``expert_feed_forward_length`` is the width of one expert, 0 for a dense model.
    ``content_hash`` covers the header and sampled blocks, so a renamed file keeps its measurements.
    ``hub`` is where a model without a file can be had, "owner/repository:quant".
    """

    name: str
    path: str
    paths: tuple[str, ...]
    architecture: str
    quant: str
    parameters: int
    weights_bytes: int
    active_weights_bytes: int
    weights_bytes_by_type: dict[str, int]
    token_embedding_bytes: int
    output_bytes: int
    repeating_bytes: int
    layers: int
    embedding_length: int
    feed_forward_length: int
    context_length: int
    heads: int
    attention: AttentionLayers
    vocabulary: VocabularyHeader
    experts: tuple[int, int]
    has_chat_template: bool
    content_hash: str
    draft_only: str = ""
    nextn_layers: int = 0
    tied_output_bytes: int = 0
    expert_feed_forward_length: int = 0
    hub: str = ""

    @property
    def label(self) -> str:
        return f"{self.name} {self.quant}"

    @property
    def is_recurrent(self) -> bool:
        """Wholly or in some layers: its memory cannot be rolled back, so only its own prediction heads draft for it."""
        return self.attention.recurrent_state_bytes > 0


@dataclass(frozen=True)
class Placement:
    """Where the two models live. ``gpu_layers`` counts offloaded layers, -1 = all; 0 = CPU. ``cache_type``: how keys
    and values of both are kept, in llama.cpp's words. ``draft_threads``: 0 = as many as the target."""

    target_gpu_layers: int = 0
    draft_gpu_layers: int = 0
    device: str = "CPU"
    cache_type: str = PLAIN_CACHE
    draft_threads: int = 0


@dataclass(frozen=True)
class MemoryUse:
    """Bytes of one model at one context on one device class."""

    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    output_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_bytes + self.compute_bytes + self.output_bytes


@dataclass(frozen=True)
class DeviceMemory:
    """The price of a pair on one device: what each model needs, what is there, what stays free as margin."""

    device: str
    target: MemoryUse
    draft: MemoryUse
    available_bytes: int
    margin_bytes: int

    @property
    def needed_bytes(self) -> int:
        return self.target.total_bytes + self.draft.total_bytes

    @property
    def fits(self) -> bool:
        return self.needed_bytes + self.margin_bytes <= self.available_bytes


@dataclass(frozen=True)
class Candidate:
    """A draft that can run beside the target."""

    draft: Model
    placement: Placement
    memory: tuple[DeviceMemory, ...]

    @property
    def memory_bytes(self) -> int:
        return sum(d.needed_bytes for d in self.memory)


@dataclass(frozen=True)
class Rejected:
    """A draft that cannot run, and why. ``reason`` is a stable word, ``detail`` is for people."""

    draft: str
    quant: str
    reason: Reason
    detail: str


@dataclass(frozen=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Prompt:
    messages: tuple[Message, ...]
    category: str = "general"


@dataclass(frozen=True)
class Workload:
    name: str
    prompts: tuple[Prompt, ...]
    content_hash: str


@dataclass(frozen=True)
class Sampling:
    """How the target chooses. temperature 0 is greedy; top_k and min_p are llama-server's own defaults."""

    temperature: float = 0.0
    top_p: float = 0.95
    top_k: int = 40
    min_p: float = 0.05
    seed: int = 1

    @property
    def other_temperature(self) -> float:
        """What reports compare with: usual sampling, and greedy decoding where that is what was asked."""
        return 0.0 if self.temperature == USUAL_TEMPERATURE else USUAL_TEMPERATURE


@dataclass(frozen=True)
class Settings:
    """What the user asked for, beside the files. ``max_tokens`` caps every answer; ``k_max`` caps the draft length."""

    context: int = 4096
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int = 256
    k_max: int = 16
    threads: int = 0
    budget_s: float = 300.0


@dataclass(frozen=True)
class Transcript:
    """One prompt and the target's own answer, as tokens. ``ended``: the answer's last token is an end token;
    ``probability[i]``: with which the target's sampling chose token i; () where nobody asked; ``prompt``: the digest
    of the prompt's messages."""

    category: str
    prompt_tokens: tuple[int, ...]
    answer_tokens: tuple[int, ...]
    ended: bool
    text: str = ""
    prompt: str = ""
    probability: tuple[float, ...] = ()


@dataclass(frozen=True)
class Trace:
    """One draft replayed over one transcript. All tuples have the length of the answer.

    ``proposal[i]``: the draft's arg-max after prompt + answer[:i]. ``probability[i]``: its probability, softmax
    over its top 10 at T = 1, as llama.cpp compares with p_min. ``rollout[i]``: for a confident mismatch at i, the
    probabilities of the tokens the draft would go on to propose after its own wrong token; empty elsewhere.
    ``chance[i]``: that token i is drafted and accepted under rejection sampling (see acceptance/rejection.py); () where
    that rule was not asked about.
    """

    category: str
    answer_tokens: tuple[int, ...]
    proposal: tuple[int, ...]
    probability: tuple[float, ...]
    rollout: dict[int, tuple[float, ...]] = field(default_factory=dict)
    chance: tuple[float, ...] = ()


@dataclass(frozen=True)
class Origin:
    """Where answers and traces come from. ``prompts`` and ``answers``: a digest of each, in the order of the traces.

    ``max_tokens`` capped an answer, ``k_max`` is the longest draft that the traces can tell about. Without
    ``has_texts`` they are masked: they tell whether a proposal agreed, not which token it was. ``profile`` is the
    digest of the profile that they were imported with, "" where this machine measured them.
    """

    host: Host
    build: Build
    workload: str
    workload_hash: str
    sampling: Sampling
    prompts: tuple[str, ...]
    answers: tuple[str, ...]
    max_tokens: int
    k_max: int
    has_texts: bool = True
    profile: str = ""


@dataclass(frozen=True)
class CostCurve:
    """Measured seconds of one decode of b tokens, b = 1 .. at a context depth.

    ``rounds_s[b]`` holds one value per interleaved round; ``anchor_s`` the target's t(1) of the same rounds, so that
    ``rounds_s[b][r] / anchor_s[r]`` is free of drift. ``bare_s``, of a draft's curve: the target's pass over one token
    right after the draft's decodes, as in a step that drafts nothing; () where it was not timed. ``guessed``: nothing
    was timed, the rounds are what the model's bytes allow.
    """

    depth: int
    anchor_s: tuple[float, ...]
    rounds_s: dict[int, tuple[float, ...]]
    bare_s: tuple[float, ...] = ()
    guessed: bool = False


@dataclass(frozen=True)
class Config:
    """One deployable thing. ``draft`` is the draft's content hash, "" for the baseline and for methods without one.

    ``ngram_size`` (tokens looked up) and ``ngram_min_hits`` (matches before the first draft) belong to n-gram methods.
    ``draft_sampling`` in llama-server's words: a "greedy" draft is accepted where the target samples the same token, a
    "probabilistic" one by rejection sampling. At temperature 0 they are the same.
    """

    draft: str
    k: int
    p_min: float = 0.0
    n_min: int = 0
    method: str = "draft-simple"
    ngram_size: int = 0
    ngram_min_hits: int = 1
    draft_sampling: DraftSampling = "greedy"

    @property
    def needs_no_draft(self) -> bool:
        """Whether it speculates without a second model, from the text (n-gram) or with the target's own heads (MTP)."""
        return not self.draft and self.method not in ("none", "draft-simple")

    @property
    def proposer(self) -> str:
        """What proposes tokens: the content hash of a draft, or the name of a method that needs none."""
        return self.draft or self.method


@dataclass(frozen=True)
class Run:
    """One prompt answered by the real engine. ``decode_s`` is the time after the first token, for tokens - 1 tokens.

    ``accepted_per_position[i]`` counts steps whose drafted token i was accepted. ``peak_bytes``: the most memory that
    the engine's process held meanwhile, models and caches included; 0 where it was not seen.
    """

    tokens: int
    decode_s: float
    prefill_s: float
    steps: int = 0
    drafted: int = 0
    accepted: int = 0
    accepted_per_position: tuple[int, ...] = ()
    native_s: float = 0.0
    answer_tokens: tuple[int, ...] = ()
    peak_bytes: int = 0

    @property
    def token_s(self) -> float:
        return self.decode_s / max(1, self.tokens - 1)


def pooled_token_s(runs: Sequence[Run]) -> float:
    """Seconds a token over several runs: all their time over all their tokens after the first."""
    return sum(run.decode_s for run in runs) / sum(run.tokens - 1 for run in runs)


@dataclass(frozen=True)
class Trial:
    """A Config measured on some prompts, each beside its own baseline run. Both tuples are in prompt order."""

    config: Config
    prompts: tuple[int, ...]
    runs: tuple[Run, ...]
    baselines: tuple[Run, ...]
    pruned: bool = False

    @classmethod
    def of(cls, config: Config, pairs: Sequence[tuple[Run, Run]], *, pruned: bool = False) -> Trial:
        """From (baseline, run) of the first prompts, in order."""
        baselines, runs = (tuple(pair[i] for pair in pairs) for i in range(2))
        return cls(config, tuple(range(len(pairs))), runs, baselines, pruned)

    @property
    def pairs(self) -> list[tuple[Run, Run]]:
        """(baseline, run) of each prompt."""
        return list(zip(self.baselines, self.runs, strict=True))


@dataclass(frozen=True)
class Estimate:
    """What is expected of a Config. ``speedup_low`` .. ``speedup_high`` is the 80 % interval."""

    config: Config
    acceptance_rate: float
    tokens_per_step: float
    speedup: float
    speedup_low: float
    speedup_high: float
    tokens_per_second: float
    evidence: Evidence
    analytic_speedup: float
    acceptance_by_category: dict[str, float] = field(default_factory=dict)
    speedup_by_category: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Baseline:
    tokens_per_second: float
    token_s: float
    evidence: Evidence


@dataclass(frozen=True)
class Contention:
    """What else the machine did while decodes were timed: a machine that is in use.

    ``others_cores``, ``stolen_cores``: of ``cores`` usable ones, taken on average by other programs and by the
    hypervisor; ``throttled_share``: of the time in which a CPU quota stopped this process. ``programs``: the busiest
    others by name; ``own_cores``: taken by this process and its engines on average. ``waited_s``: how long it was
    waited for quiet. ``asleep``: threads waited for each other asleep, which a deployed server does only where it is
    told to; ``threads``: on how many was timed where others were wanted. ``sentence`` says all that, and what to do;
    ``power`` are remarks on battery, power saving and heat.
    """

    cores: int
    others_cores: float
    stolen_cores: float
    throttled_share: float
    programs: tuple[str, ...]
    waited_s: float
    asleep: bool
    threads: int
    sentence: str
    power: tuple[str, ...] = ()
    own_cores: float = 0.0

    @property
    def in_use(self) -> bool:
        return bool(self.sentence)


@dataclass(frozen=True)
class FirstAnswer:
    """What was answered first, ``elapsed_s`` into the command, before it was refined. ``config`` is None for "do not
    speculate"."""

    elapsed_s: float
    sentence: str
    config: Config | None


@dataclass(frozen=True)
class MeasurementNotes:
    """What a reader needs to trust the numbers. ``contention`` is None where nothing was timed."""

    prompts: int
    answer_tokens: int
    trials: int
    anchor_drift: float
    stop_reason: str
    elapsed_s: float
    from_store: bool
    repack_off: bool
    notes: tuple[str, ...] = ()
    contention: Contention | None = None
    first_answer: FirstAnswer | None = None


@dataclass(frozen=True)
class AnswerText:
    """One answer of the target as text: one piece a token, () where the pieces are not known."""

    category: str
    pieces: tuple[str, ...] = ()


@dataclass(frozen=True)
class AtDepth:
    """What the pick gives with ``depth`` tokens in the context. ``speedup_low`` .. ``speedup_high``: as in Estimate.

    Decodes were timed at ``timed_depth``; from there to ``depth`` their times go on in a straight line. ``answers``:
    how many answers of the target at ``timed_depth`` acceptance rests on, 0: it is taken to be that of short contexts.
    """

    depth: int
    timed_depth: int
    answers: int
    acceptance_rate: float
    speedup: float
    speedup_low: float
    speedup_high: float
    tokens_per_second: float


@dataclass(frozen=True)
class WhatIf:
    """What a prediction says when it is asked again: its best draft under other settings, or its best drafts at other
    draft lengths under the same settings."""

    settings: Settings
    estimate: Estimate


@dataclass(frozen=True)
class Recommendation:
    """The answer. ``estimates`` are ranked best first. ``best`` is None when the verdict is no; ``runner_up`` is the
    best estimate of another draft. Traces and curves are keyed by the draft's content hash. ``answers`` are in the
    order of the traces of every draft; ``what_if`` answers beside the ranking, where it was as cheap to ask;
    ``at_depth`` is what becomes of ``best`` in a long context, where one was asked for and could be measured;
    ``origin`` is of the traces, None where there are none."""

    host: Host
    build: Build
    target: Model
    settings: Settings
    workload: str
    categories: tuple[str, ...]
    baseline: Baseline
    candidates: tuple[Candidate, ...]
    estimates: tuple[Estimate, ...]
    rejected: tuple[Rejected, ...]
    verdict: Verdict
    sentence: str
    best: Estimate | None
    runner_up: Estimate | None
    traces: dict[str, tuple[Trace, ...]]
    target_curve: CostCurve
    draft_curves: dict[str, CostCurve]
    trials: tuple[Trial, ...]
    measurement: MeasurementNotes
    created_at: str
    schema: str = RECOMMENDATION_SCHEMA
    answers: tuple[AnswerText, ...] = ()
    what_if: tuple[WhatIf, ...] = ()
    at_depth: AtDepth | None = None
    origin: Origin | None = None

    def draft_of(self, config: Config) -> Model:
        """The draft model of a config. KeyError when the config belongs to another recommendation."""
        for candidate in self.candidates:
            if candidate.draft.content_hash == config.draft:
                return candidate.draft
        raise KeyError(config.draft)

    def label_of(self, config: Config) -> str:
        """The draft's label, or the name of a method without one."""
        return self.draft_of(config).label if config.draft else config.method


R = TypeVar("R")


@functools.cache
def _adapter(record_type: Any) -> Any:
    from pydantic import TypeAdapter  # lazily: `advisor --help` does not need it

    return TypeAdapter(record_type)


def to_json(record: Any) -> bytes:
    """Any record as JSON bytes."""
    kind: Any = type(record)
    return bytes(_adapter(kind).dump_json(record))


def from_json(record_type: type[R], text: bytes | str) -> R:
    """The inverse of to_json. Raises FileProblem naming the first field that does not fit."""
    from pydantic import ValidationError

    try:
        record: R = _adapter(cast(Any, record_type)).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise FileProblem(
            f"This is not a {record_type.__name__} record: {where}: {first['msg']}.",
            fix="Use a file written by this version of advisor.",
        ) from None
    return record
