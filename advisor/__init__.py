"""Which draft model should I use: measured advice for speculative decoding with llama.cpp.

>>> import advisor
>>> rec = advisor.recommend(target="qwen2.5-72b-q8", host="m4-max-128gb")
>>> rec.verdict
'speculate'

What is public is in ``__all__``; see ``advisor.api`` for the functions, ``advisor.types`` for the records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from advisor.api import check as check
    from advisor.api import doctor as doctor
    from advisor.api import explain as explain
    from advisor.api import export as export
    from advisor.api import export_profile as export_profile
    from advisor.api import fit_priors as fit_priors
    from advisor.api import hosts as hosts
    from advisor.api import import_profiles as import_profiles
    from advisor.api import import_results as import_results
    from advisor.api import list_profiles as list_profiles
    from advisor.api import load as load
    from advisor.api import local_models as local_models
    from advisor.api import merge_profiles as merge_profiles
    from advisor.api import models as models
    from advisor.api import observe as observe
    from advisor.api import probe as probe
    from advisor.api import pull as pull
    from advisor.api import recommend as recommend
    from advisor.api import recommend_fleet as recommend_fleet
    from advisor.api import run_worker as run_worker
    from advisor.api import sweep as sweep
    from advisor.api import to_html as to_html
    from advisor.api import to_rows as to_rows
    from advisor.errors import AdvisorError as AdvisorError
    from advisor.pipeline import Interrupted as Interrupted
    from advisor.report.flat import COLUMNS as COLUMNS
    from advisor.types import Recommendation as Recommendation
    from advisor.types import Workload as Workload

_HOMES = {
    "AdvisorError": "advisor.errors",
    "COLUMNS": "advisor.report.flat",
    "Interrupted": "advisor.pipeline",
    "Recommendation": "advisor.types",
    "Workload": "advisor.types",
    "check": "advisor.api",
    "doctor": "advisor.api",
    "explain": "advisor.api",
    "export": "advisor.api",
    "export_profile": "advisor.api",
    "fit_priors": "advisor.api",
    "hosts": "advisor.api",
    "import_profiles": "advisor.api",
    "import_results": "advisor.api",
    "list_profiles": "advisor.api",
    "load": "advisor.api",
    "local_models": "advisor.api",
    "merge_profiles": "advisor.api",
    "models": "advisor.api",
    "observe": "advisor.api",
    "probe": "advisor.api",
    "pull": "advisor.api",
    "recommend": "advisor.api",
    "recommend_fleet": "advisor.api",
    "run_worker": "advisor.api",
    "sweep": "advisor.api",
    "to_html": "advisor.api",
    "to_rows": "advisor.api",
}
__all__ = tuple(_HOMES)


def __getattr__(name: str) -> object:
    """What is public, imported when it is first asked for, so that ``import advisor`` is instant."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
