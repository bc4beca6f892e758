"""Fixtures for every test: real small models, and a data directory of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from advisor.testing import zoo


@pytest.fixture(autouse=True)
def data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's measurements."""
    path = tmp_path / "advisor-data"
    monkeypatch.setenv("ADVISOR_DATA_DIR", str(path))
    return path


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The real SmolLM2-135M-Instruct Q4_1 file."""
    return zoo.base_model()
