"""What is believed of every coefficient: assumed before any table is seen, and as fitted to the published ones.

All coefficients of the acceptance prior and of the cost prior are one vector with one normal posterior
(advisor.predict.fit). A coefficient the posterior does not know keeps the spread that was assumed for its kind.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from advisor.cost.prior import EXPERTS, EXPERTS_FIRST, MIXTURE, kernel_of
from advisor.errors import StoreError
from advisor.predict.terms import DRAFT

Floats = npt.NDArray[np.float64]

OTHER_HOST = "other "  # before the name of a machine that only a table has
SPREAD, PERSISTENCE = "chain/log_spread", "chain/persistence"

# Mean and standard deviation of a coefficient before any table is seen, by the longest matching beginning of its name.
# Skill and confidence are in logits, the rest in logarithms. Categories are against code and structured text: one
# published pair accepted .62 to .68 on code, .71 to .79 on math, .29 to .36 in chat.
ASSUMED: Mapping[str, tuple[float, float]] = {
    "skill": (2.5, 1.5),
    "skill/log_draft": (0.6, 0.4),
    "skill/log_draft_squared": (-0.05, 0.1),
    "skill/log_target": (-0.25, 0.25),
    "skill/draft_bits": (-1.5, 1.5),
    "skill/target_bits": (-1.0, 1.0),
    "skill/family/": (0.0, 0.5),
    "skill/text/": (0.0, 0.2),
    DRAFT: (0.0, 0.07),
    "skill/other_base": (-0.7, 0.5),
    "skill/few_bits": (-1.0, 1.0),
    "skill/temperature": (0.0, 0.35),
    "skill/category/": (-0.7, 0.7),
    "skill/category/code": (0.0, 0.2),
    "skill/category/extraction": (0.0, 0.4),
    "skill/category/math": (0.3, 0.4),
    "skill/category/summarise": (0.0, 0.7),
    "skill/category/chat": (-2.2, 0.6),
    "skill/category/prose": (-2.0, 0.7),
    "confidence": (1.5, 1.0),
    "confidence/log_draft": (0.3, 0.2),
    "confidence/draft_bits": (-1.0, 1.0),
    SPREAD: (0.86, 0.05),  # replayed answers of a real 135M model and its drafts, at every k and p_min
    PERSISTENCE: (0.385, 0.1),  # the same answers
    EXPERTS: (0.4, 0.5),
    EXPERTS_FIRST: (-1.0, 0.7),
    "efficiency/": (0.0, 0.15),
    "efficiency/host/": (0.0, 0.08),
    "efficiency/metal": (-0.3, 0.15),
    "efficiency/cuda": (-0.3, 0.15),
    "efficiency/rocm": (-0.4, 0.2),
    "efficiency/vulkan": (-0.4, 0.2),
    "efficiency/cpu": (-0.35, 0.2),
    "efficiency/kernel/": (0.0, 0.1),
    "efficiency/metal/": (0.0, 0.15),
    "efficiency/cuda/": (0.0, 0.1),
    "efficiency/rocm/": (0.0, 0.1),
    "efficiency/vulkan/": (0.0, 0.1),
    "efficiency/cpu/": (0.0, 0.1),
    # Unpacking few bits costs work, looking weights up in tables more; the bandwidth is not what limits such kernels.
    "efficiency/metal/IQ1": (-0.3, 0.25),
    "efficiency/metal/IQ2": (-0.3, 0.25),
    "efficiency/metal/IQ3": (-0.3, 0.25),
    "efficiency/cpu/Q2_K": (-0.2, 0.2),
    "efficiency/cpu/Q3_K": (-0.2, 0.2),
    "efficiency/cpu/IQ1": (-0.6, 0.3),
    "efficiency/cpu/IQ2": (-0.6, 0.3),
    "efficiency/cpu/IQ3": (-0.5, 0.3),
    "overhead/": (np.log(3e-4), 0.7),
    "layer/": (np.log(3e-5), 0.7),
    "layer/cpu": (np.log(1e-5), 0.7),
    MIXTURE: (0.7, 0.5),  # routing, and kernels for few rows of many matrices
    "row/metal": (-1.1, 0.4),
    "row/cuda": (-2.2, 0.4),
    "row/rocm": (-1.6, 0.5),
    "row/vulkan": (-1.6, 0.6),
    "row/cpu": (-0.9, 0.7),
    "row/kernel/": (0.0, 0.2),
    "row/metal/": (0.0, 0.3),
    "row/metal/F16": (-2.0, 0.7),
    "row/cuda/": (0.0, 0.3),
    "row/rocm/": (0.0, 0.3),
    "row/vulkan/": (0.0, 0.3),
    "row/cpu/": (0.0, 0.3),
    "row/host/": (0.0, 0.3),
    "row/run/": (0.0, 0.05),
}


def assumed(name: str) -> tuple[float, float]:
    """Mean and standard deviation of a coefficient that nothing is known of. KeyError for a name of no known kind."""
    if name in ASSUMED:
        return ASSUMED[name]
    kinds = [kind for kind in ASSUMED if kind.endswith("/") and name.startswith(kind)]
    if not kinds:
        raise KeyError(name)
    return ASSUMED[max(kinds, key=len)]


@dataclass(frozen=True)
class Posterior:
    """Coefficients: ``mean``, shape (names,), and ``covariance``, (names, names). ``row_sd``: how far log(speedup) of
    one pair strays although all coefficients are right. ``provenance``: what each input was."""

    names: tuple[str, ...]
    mean: Floats
    covariance: Floats
    row_sd: float
    provenance: tuple[str, ...] = ()

    @functools.cached_property
    def draft_kernels(self) -> frozenset[str]:
        """Kernels that measured drafts had."""
        return frozenset(kernel_of(name.rpartition(" ")[2]) for name in self.names if name.startswith(DRAFT))

    def over(self, names: Iterable[str]) -> Posterior:
        """The same belief over these names: unknown ones as assumed, independent of the rest."""
        wanted = tuple(dict.fromkeys(names))
        place = {name: i for i, name in enumerate(self.names)}
        known = [name in place for name in wanted]
        mean = np.array([self.mean[place[n]] if k else assumed(n)[0] for n, k in zip(wanted, known, strict=True)])
        covariance = np.diag([0.0 if k else assumed(n)[1] ** 2 for n, k in zip(wanted, known, strict=True)])
        rows = [i for i, k in enumerate(known) if k]
        source = [place[wanted[i]] for i in rows]
        covariance[np.ix_(rows, rows)] = self.covariance[np.ix_(source, source)]
        return Posterior(wanted, mean, covariance, self.row_sd, self.provenance)


def posterior_from_json(text: str) -> Posterior:
    """StoreError when the text is not a fit of this version."""
    try:
        content = json.loads(text)
        names = tuple(content["coefficients"])
        mean = np.array([content["coefficients"][name] for name in names], float)
        lower = [np.array(row, float) for row in content["covariance"]]
        covariance = np.zeros((len(names), len(names)))
        for i, row in enumerate(lower):
            covariance[i, : i + 1] = row
        covariance = covariance + np.tril(covariance, -1).T
        return Posterior(names, mean, covariance, float(content["row_sd"]), tuple(content["provenance"]))
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            "The fitted priors cannot be read.", why=f"{error!r}", fix="Fit them again: advisor fit-priors."
        ) from None


def posterior_to_json(posterior: Posterior) -> str:
    """A small file: coefficients by name, the lower half of their covariance, where every input came from."""

    def digits(value: float) -> float:
        return float(f"{value:.5g}")

    lines = ["{", f'  "row_sd": {digits(posterior.row_sd)},', '  "provenance": [']
    lines.append(",\n".join(f"    {json.dumps(one)}" for one in posterior.provenance))
    lines += ["  ],", '  "coefficients": {']
    pairs = zip(posterior.names, posterior.mean.tolist(), strict=True)
    lines.append(",\n".join(f"    {json.dumps(name)}: {digits(value)}" for name, value in pairs))
    lines += ["  },", '  "covariance": [']
    rows = (json.dumps([digits(v) for v in row[: i + 1]]) for i, row in enumerate(posterior.covariance.tolist()))
    lines.append(",\n".join(f"    {row}" for row in rows))
    return "\n".join([*lines, "  ]", "}", ""])


@functools.cache
def shipped() -> Posterior:
    """The posterior that comes with this version."""
    text = resources.files("advisor.predict").joinpath("priors.json").read_text(encoding="utf-8")
    return posterior_from_json(text)


def user_path(data_dir: Path) -> Path:
    """Where `advisor fit-priors` puts what it learnt."""
    return data_dir / "priors.json"


def current(data_dir: Path) -> Posterior:
    """The user's own fit where there is one, else the shipped posterior. StoreError naming a file that is damaged, or
    whose coefficients belong to another version of the model."""
    path = user_path(data_dir)
    try:
        posterior = posterior_from_json(path.read_text(encoding="utf-8"))
        for name in posterior.names:
            assumed(name)
        return posterior
    except FileNotFoundError:
        return shipped()
    except (StoreError, OSError, ValueError, LookupError) as error:
        why = error.why if isinstance(error, StoreError) else f"{error!r}"
        raise StoreError(
            f"{path} cannot be read.", why=why, fix="Fit it again with `advisor fit-priors`, or delete it."
        ) from None
