"""Fixtures for every test: real small models, and a data directory of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from advisor import surroundings
from advisor.engines.simulated import Clock
from advisor.testing import zoo
from advisor.testing.surroundings import simulated_sources


@pytest.fixture(autouse=True)
def data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's measurements, or waits for an advisor that measures beside it."""
    path = tmp_path / "advisor-data"
    monkeypatch.setenv("ADVISOR_DATA_DIR", str(path))
    monkeypatch.setenv("ADVISOR_LOCK_DIR", str(tmp_path))
    return path


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process nobody waits for the machine that the tests run on to be quiet."""
    monkeypatch.setattr(surroundings, "this_machine", lambda: simulated_sources(Clock()))


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The real SmolLM2-135M-Instruct Q4_1 file."""
    return zoo.base_model()
