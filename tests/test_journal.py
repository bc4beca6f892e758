"""The journal of a search after a crash: sound lines stay, a half one goes, a damaged file is kept aside."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advisor.journal import mended

LINES = b'{"op_code":0}\n{"op_code":4,"trial_id":1}\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "studies.journal"


def test_there_is_nothing_to_mend_where_there_is_no_journal(path: Path) -> None:
    assert mended(path) is None
    assert not path.exists()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, len(LINES)))
def test_a_journal_cut_anywhere_keeps_its_whole_lines(path: Path, cut: int) -> None:
    path.write_bytes(LINES[:cut])
    assert mended(path) is None
    assert path.read_bytes() == LINES[: LINES.rfind(b"\n", 0, cut) + 1]


@pytest.mark.parametrize("damage", [b'{"op_code":0', b"null\n", b"\xff\xff\n", b"[" * 9 + b"\n"])
def test_a_journal_damaged_in_the_midst_is_kept_aside(path: Path, damage: bytes) -> None:
    for number in (1, 2):
        path.write_bytes(damage + LINES)
        kept = mended(path)
        assert kept == path.with_name(f"studies.journal.kept-{number}")
        assert kept.read_bytes() == damage + LINES
        assert not path.exists()
