"""Realistic records for tests of the later stages, made without a model, a measurement or a clock.

    make_recommendation()                          two drafts, "speculate", a runner-up, one rejected file
    make_recommendation(verdict="do-not-speculate") the same pair of drafts, both slower than the target alone
    make_model(...), make_candidate(...), make_estimate(...), make_host(...), make_measurement(...)

Every builder takes the fields of its record as keyword arguments, so that a test names only what it is about.
The numbers of an estimate belong together: tokens per second is the baseline's times the speedup.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

from advisor.types import (
    AttentionLayers,
    Baseline,
    Build,
    Candidate,
    Config,
    CostCurve,
    Device,
    DeviceMemory,
    Estimate,
    Host,
    MeasurementNotes,
    MemoryUse,
    Model,
    Placement,
    Recommendation,
    Rejected,
    Run,
    Settings,
    Trace,
    Trial,
    Verdict,
    VocabularyHeader,
)

MIB = 1024 * 1024
GIB = 1024 * MIB
BASELINE_TPS = 20.0
CATEGORIES = ("code", "chat")
# t(b) of a simulated target of 10 tokens a second: memory-bound up to 8 tokens, a kernel step after.
TARGET_S = tuple(0.1 * (1 + 0.03 * (b - 1) + (0.8 if b > 8 else 0.0)) for b in range(1, 30))


def make_host(**changes: Any) -> Host:
    host = Host(
        fingerprint="a1b2c3d4e5f60718",
        os="Linux 6.1 x86_64",
        cpu="Example CPU 9000 @ 3.20GHz",
        isa=("AVX2", "FMA", "F16C"),
        cores_physical=8,
        cores_usable=8,
        ram_total_bytes=32 * GIB,
        ram_available_bytes=24 * GIB,
        devices=(Device("CPU", "Example CPU 9000", "cpu", 32 * GIB, 24 * GIB, unified=True),),
        read_bandwidth_bytes_per_s=41.5e9,
        decode_bandwidth_bytes_per_s=36.0e9,
        measured_at="2025-01-15T09:30:00Z",
    )
    return dataclasses.replace(host, **changes)


def make_gpu_host(**changes: Any) -> Host:
    """The same machine with a graphics card of 24 GiB."""
    gpu = Device("CUDA0", "Example GPU 24GB", "gpu", 24 * GIB, 23 * GIB)
    return make_host(**{"devices": (*make_host().devices, gpu), **changes})


def make_model(name: str = "Example-14B-Instruct", quant: str = "Q8_0", **changes: Any) -> Model:
    """A dense llama-like model. Its content hash follows from name, quant and path, so equal files are equal."""
    path = str(changes.get("path", f"/models/{name}-{quant}.gguf"))
    weights_bytes = int(changes.get("weights_bytes", 14 * GIB))
    layers = int(changes.get("layers", 48))
    embedding_bytes = weights_bytes // 20
    fields: dict[str, Any] = {
        "name": name,
        "path": path,
        "paths": (path,),
        "architecture": "llama",
        "quant": quant,
        "parameters": weights_bytes,
        "weights_bytes": weights_bytes,
        "active_weights_bytes": weights_bytes,
        "weights_bytes_by_type": {quant: weights_bytes},
        "token_embedding_bytes": embedding_bytes,
        "output_bytes": embedding_bytes,
        "repeating_bytes": weights_bytes - 2 * embedding_bytes,
        "layers": layers,
        "embedding_length": 5120,
        "feed_forward_length": 13824,
        "context_length": 32768,
        "heads": 40,
        "attention": AttentionLayers(kv_heads=(8,) * layers, key_length=128, value_length=128),
        "vocabulary": VocabularyHeader("gpt2", "qwen2", 152064, 151643, 151645, False, False),
        "experts": (0, 0),
        "has_chat_template": True,
        "content_hash": hashlib.sha256(f"{name}|{quant}|{path}".encode()).hexdigest(),
    }
    return Model(**{**fields, **changes})


def make_candidate(draft: Model, target: Model | None = None, **changes: Any) -> Candidate:
    """The draft beside the target on the CPU of make_host, with room to spare."""
    memory = DeviceMemory(
        device="CPU",
        target=_memory_use(target or make_model()),
        draft=_memory_use(draft),
        available_bytes=24 * GIB,
        margin_bytes=512 * MIB,
    )
    return dataclasses.replace(Candidate(draft=draft, placement=Placement(), memory=(memory,)), **changes)


def make_estimate(draft: Model | str, speedup: float = 1.42, k: int = 4, **changes: Any) -> Estimate:
    """An estimate whose interval is 4 % to either side, unless the interval is given."""
    config_fields = {name: changes.pop(name) for name in ("p_min", "n_min", "method") if name in changes}
    digest = draft if isinstance(draft, str) else draft.content_hash
    acceptance_rate = float(changes.get("acceptance_rate", 0.7))
    fields: dict[str, Any] = {
        "config": Config(digest, k, **config_fields),
        "acceptance_rate": acceptance_rate,
        "tokens_per_step": 1.0 + k * acceptance_rate,
        "speedup": speedup,
        "speedup_low": speedup * 0.96,
        "speedup_high": speedup * 1.04,
        "tokens_per_second": BASELINE_TPS * speedup,
        "evidence": "replay",
        "analytic_speedup": speedup * 1.02,
        "acceptance_by_category": {"code": min(1.0, acceptance_rate * 1.1), "chat": acceptance_rate * 0.9},
        "speedup_by_category": {"code": speedup * 1.1, "chat": speedup * 0.9},
    }
    return Estimate(**{**fields, **changes})


def make_measurement(**changes: Any) -> MeasurementNotes:
    notes = MeasurementNotes(
        prompts=12,
        answer_tokens=2304,
        trials=3,
        anchor_drift=0.031,
        stop_reason="more runs cannot change the answer",
        elapsed_s=187.0,
        from_store=False,
        repack_off=False,
    )
    return dataclasses.replace(notes, **changes)


def make_trace(category: str = "code", accepted: tuple[bool, ...] = (True, True, False, True)) -> Trace:
    """A replay over an answer of tokens 100, 101 ...; where not accepted the draft proposes token 7."""
    answer = tuple(range(100, 100 + len(accepted)))
    return Trace(
        category=category,
        answer_tokens=answer,
        proposal=tuple(token if hit else 7 for token, hit in zip(answer, accepted, strict=True)),
        probability=tuple(0.9 if hit else 0.4 for hit in accepted),
        rollout={index: (0.4, 0.8) for index, hit in enumerate(accepted) if not hit},
    )


def make_curve(token_s: float, growth: float = 0.05, b_max: int = 17) -> CostCurve:
    """Three rounds of t(b) = token_s * (1 + growth * (b - 1)), each one percent slower than the one before."""
    drift = (1.0, 1.01, 1.02)
    return CostCurve(
        depth=512,
        anchor_s=tuple(1 / BASELINE_TPS * d for d in drift),
        rounds_s={b: tuple(token_s * (1 + growth * (b - 1)) * d for d in drift) for b in range(1, b_max + 1)},
    )


def make_trial(estimate: Estimate, prompts: int = 3, tokens: int = 120) -> Trial:
    """Real runs that agree exactly with the estimate."""
    steps = round(tokens / estimate.tokens_per_step)
    run = Run(
        tokens=tokens,
        decode_s=(tokens - 1) / estimate.tokens_per_second,
        prefill_s=0.4,
        steps=steps,
        drafted=steps * estimate.config.k,
        accepted=tokens - steps,
        accepted_per_position=(tokens - steps,) + (0,) * (estimate.config.k - 1),
    )
    baseline = Run(tokens=tokens, decode_s=(tokens - 1) / BASELINE_TPS, prefill_s=0.3)
    return Trial(estimate.config, tuple(range(prompts)), (run,) * prompts, (baseline,) * prompts)


def make_recommendation(verdict: Verdict = "speculate", **changes: Any) -> Recommendation:
    """A whole answer over two drafts (a 0.5B in Q8_0 and a 1.5B in Q4_K_M), each at k = 2, 4 and 8."""
    target = changes.get("target") or make_model()
    small = make_model("Example-0.5B-Instruct", "Q8_0", weights_bytes=512 * MIB, layers=24)
    large = make_model("Example-1.5B-Instruct", "Q4_K_M", weights_bytes=940 * MIB, layers=28)
    estimates = _good_estimates(small, large) if verdict == "speculate" else _bad_estimates(small, large)
    best, runner_up = (estimates[0], estimates[1]) if verdict == "speculate" else (None, None)
    fields: dict[str, Any] = {
        "host": make_host(),
        "build": Build("llama_cpp_python", "0.3.36", 11312, "AVX2 = 1"),
        "target": target,
        "settings": Settings(),
        "workload": "built-in",
        "categories": CATEGORIES,
        "baseline": Baseline(BASELINE_TPS, 1 / BASELINE_TPS, "measured"),
        "candidates": (make_candidate(small, target), make_candidate(large, target)),
        "estimates": estimates,
        "rejected": (
            Rejected("Other-1B", "Q4_0", "tokenizer", "Token 1523 is 'ab' in the draft and 'ba' in the target."),
        ),
        "verdict": verdict,
        "sentence": _sentence(verdict, small),
        "best": best,
        "runner_up": runner_up,
        "traces": {m.content_hash: tuple(make_trace(c) for c in CATEGORIES) for m in (small, large)},
        "target_curve": make_curve(1 / BASELINE_TPS),
        "draft_curves": {small.content_hash: make_curve(0.004), large.content_hash: make_curve(0.009)},
        "trials": tuple(make_trial(e) for e in estimates if e.evidence == "measured"),
        "measurement": make_measurement(),
        "created_at": "2025-01-15T09:35:00Z",
    }
    return Recommendation(**{**fields, **changes})


def _good_estimates(small: Model, large: Model) -> tuple[Estimate, ...]:
    return (
        make_estimate(small, 1.42, 4, p_min=0.5, evidence="measured"),
        make_estimate(large, 1.35, 4, acceptance_rate=0.78, evidence="measured"),
        make_estimate(small, 1.33, 2, acceptance_rate=0.78),
        make_estimate(large, 1.28, 2, acceptance_rate=0.84),
        make_estimate(small, 1.21, 8, acceptance_rate=0.52),
        make_estimate(large, 1.11, 8, acceptance_rate=0.61),
    )


def _bad_estimates(small: Model, large: Model) -> tuple[Estimate, ...]:
    return (
        make_estimate(small, 0.97, 2, acceptance_rate=0.45, evidence="measured"),
        make_estimate(large, 0.91, 2, acceptance_rate=0.5, evidence="measured"),
        make_estimate(small, 0.84, 4, acceptance_rate=0.33),
        make_estimate(large, 0.8, 4, acceptance_rate=0.37),
        make_estimate(small, 0.62, 8, acceptance_rate=0.2),
        make_estimate(large, 0.55, 8, acceptance_rate=0.22),
    )


def _sentence(verdict: Verdict, draft: Model) -> str:
    if verdict == "speculate":
        return f"Use {draft.label} with k = 4: 1.42x faster than the target alone (80 % interval 1.36 to 1.48)."
    return "Do not speculate: the best draft reaches 0.97x of the target's own speed."


def _memory_use(model: Model) -> MemoryUse:
    kv_bytes = model.layers * 8 * (128 + 128) * 2 * 4096
    return MemoryUse(model.weights_bytes, kv_bytes, compute_bytes=300 * MIB, output_bytes=8 * MIB)
