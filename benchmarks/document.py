"""docs/benchmarks.md: one section for each part, replaced as it is measured, so that an interrupted run loses none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

PATH = Path(__file__).parent.parent / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Written by `make bench` and `python -m benchmarks PART --keep`. The models are real files of synthetic size, made from
one small model (advisor/testing/zoo.py); each section says where and when it was measured.
"""


def with_section(document: str, title: str, section: str, order: Sequence[str]) -> str:
    """The document with this section in its place. ``order``: of the titles of all sections."""
    sections = {
        _title(one): one for one in re.split(r"^(?=## )", document, flags=re.MULTILINE) if one.startswith("## ")
    }
    sections[title] = section
    known = [sections[name].strip() for name in order if name in sections]
    missing = [name for name in order if name not in sections]
    note = [f"Not kept here yet: {'; '.join(missing)}."] if missing else []
    return "\n\n".join((HEAD.strip(), *note, *known)) + "\n"


def keep(title: str, section: str, order: Sequence[str]) -> None:
    """Write the section into the document."""
    document = PATH.read_text(encoding="utf-8") if PATH.exists() else ""
    PATH.write_text(with_section(document, title, section, order), encoding="utf-8")


def _title(section: str) -> str:
    return section.partition("\n")[0].removeprefix("## ").strip()
