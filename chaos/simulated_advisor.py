"""The real command line over simulated workers. Run as ``python -m chaos.simulated_advisor recommend ...``."""

from __future__ import annotations

from collections.abc import Mapping

from advisor import engines, pipeline, surroundings
from advisor.cli import main
from advisor.engines.simulated import Clock
from advisor.pipeline import ENGINE
from advisor.store import Store, canonical_key
from advisor.testing.surroundings import simulated_sources
from chaos import ledger
from chaos.world import start_engine


class ReportingStore(Store):
    """Tells the ledger of a measurement once it is kept."""

    def put(self, kind: str, key: Mapping[str, object], record: object, *, wall_s: float) -> None:
        super().put(kind, key, record, wall_s=wall_s)
        ledger.report(kind, canonical_key(key))


if __name__ == "__main__":
    engines.ENGINES[ENGINE] = start_engine
    vars(surroundings)["this_machine"] = lambda: simulated_sources(Clock())  # it is chaos that disturbs this one
    vars(pipeline)["Store"] = ReportingStore
    main()
