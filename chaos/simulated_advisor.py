"""The real command line over simulated workers. Run as ``python -m chaos.simulated_advisor recommend ...``."""

from __future__ import annotations

from advisor import engines
from advisor.cli import main
from advisor.pipeline import ENGINE
from chaos.world import start_engine

if __name__ == "__main__":
    engines.ENGINES[ENGINE] = start_engine
    main()
