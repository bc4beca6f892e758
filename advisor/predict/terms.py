"""A pair as named coefficients: how able its draft is at guessing its target, and how sure it is of its tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from advisor.cost.prior import Load, Machine

DRAFT = "skill/draft/"
REFERENCE_DRAFT_PARAMETERS, REFERENCE_TARGET_PARAMETERS = 1.5e9, 14e9
LEAST_TRIED_BITS = 2.9  # a weight of a draft's layers: what the Q2_K files of the tables have


@dataclass(frozen=True)
class Side:
    """A model as the acceptance prior sees it. ``base``: the pre-trained model it was tuned from. ``name`` with its
    quantization, for what is particular to this file. ``layer_bits``: bits a weight without the tables of tokens.
    ``is_recurrent``: it has a state that cannot be rolled back token by token."""

    name: str
    family: str
    base: str
    parameters: float
    active_parameters: float
    bits_per_weight: float
    load: Load
    layer_bits: float = 16.0
    is_recurrent: bool = False

    @property
    def skill_parameters(self) -> float:
        """A mixture of experts is about as able as a dense model of the geometric mean of its two sizes."""
        return float(np.sqrt(self.parameters * self.active_parameters))


@dataclass(frozen=True)
class Case:
    """One pair on one machine. ``text`` names what was asked, "" for text not seen yet; ``baseline_s`` is t(1) where
    it is known; ``draft_machine`` is where the draft runs when that is elsewhere."""

    machine: Machine
    target: Side
    draft: Side
    category: str = "code"
    text: str = ""
    baseline_s: float | None = None
    draft_machine: Machine | None = None
    temperature: float = 0.0


def skill_terms(case: Case) -> dict[str, float]:
    """The draft's skill at guessing this target, as a sum of named coefficients (logits)."""
    size = float(np.log(case.draft.skill_parameters / REFERENCE_DRAFT_PARAMETERS))
    terms = {
        "skill": 1.0,
        "skill/log_draft": size,
        "skill/log_draft_squared": size**2,
        "skill/log_target": float(np.log(case.target.skill_parameters / REFERENCE_TARGET_PARAMETERS)),
        "skill/draft_bits": _lost(case.draft.bits_per_weight),
        "skill/target_bits": _lost(case.target.bits_per_weight),
        f"skill/family/{case.target.family}": 1.0,
        f"skill/text/{case.text}": 1.0,
        f"skill/category/{case.category}": 1.0,
    }
    if case.draft.base != case.target.base:
        terms["skill/other_base"] = 1.0
    if case.draft.layer_bits < LEAST_TRIED_BITS:
        terms["skill/few_bits"] = LEAST_TRIED_BITS - case.draft.layer_bits
    if case.draft.name:
        terms[f"{DRAFT}{case.draft.name}"] = 1.0
    if case.temperature > 0:
        terms["skill/temperature"] = case.temperature
    return terms


def confidence_terms(case: Case) -> dict[str, float]:
    """How sure the draft is of its tokens (logits): of the draft and the text, whatever the target is."""
    return {
        "confidence": 1.0,
        "confidence/log_draft": float(np.log(case.draft.skill_parameters / REFERENCE_DRAFT_PARAMETERS)),
        "confidence/draft_bits": _lost(case.draft.bits_per_weight),
        f"skill/text/{case.text}": 1.0,
        f"skill/category/{case.category}": 1.0,
    }


def _lost(bits_per_weight: float) -> float:
    """What quantization takes: halves with every bit, 1 at two bits a weight."""
    return float(2.0 ** -(bits_per_weight - 2))
