"""Pairs for tests of the priors, from sizes alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from advisor.cost.prior import Load, Machine
from advisor.predict.terms import Case, Side

GB = 1e9
METAL = Machine("metal", 546 * GB, "m4-max-128gb")
BITS = {"F16": 16.0, "Q8_0": 8.5, "Q6_K": 6.6, "Q5_0": 5.5, "Q4_K": 4.85, "Q4_0": 4.6, "Q3_K": 3.9, "Q2_K": 3.2}
LAYERS = {0.5: 24, 1.5: 28, 3: 36, 7: 28, 14: 48, 32: 64, 72: 80}


def side(billions: float, quant: str = "Q8_0", family: str = "Qwen2.5", run: str | None = None) -> Side:
    parameters = billions * GB
    load = Load(parameters * BITS[quant] / 8, parameters, LAYERS[billions], quant, run=run)
    name = f"{family} {billions}B {quant}"
    return Side(name, family, f"{family} base", parameters, parameters, BITS[quant], load)


def mixture(family: str = "Qwen3") -> Side:
    load = Load(3.3 * GB * 4.85 / 8, 3.3 * GB, 48, "Q4_K", experts=(128, 8), routed_bytes=1.2 * GB)
    return Side(f"{family} 30B-A3B Q4_K", family, f"{family} base", 30.5 * GB, 3.3 * GB, 4.85, load)


def case(target: Side | None = None, draft: Side | None = None, machine: Machine = METAL, **changes: Any) -> Case:
    """A 14B target and a 1.5B draft of the same base, unless others are given."""
    return replace(Case(machine, target or side(14), draft or side(1.5)), **changes)
