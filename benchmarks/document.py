"""docs/benchmarks.md: one section for each part, replaced as it is measured, so that an interrupted run loses none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

RUNS = "Every run that was kept"
PATH = Path(__file__).parent.parent / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Written by `make bench` and `python -m benchmarks PART --keep`. The models are real files of synthetic size, made from
one small model (advisor/testing/zoo.py); each section says where and when it was measured, at which commit (a + after
it: the code had been changed since). A section shows the last run of its part; the table at the end has the figures of
all, also of those that were measured in an earlier way.
"""
_HEAD_OF_RUNS = f"## {RUNS}\n\n| measured | part | figures |\n|---|---|---|"


def with_section(document: str, title: str, section: str, order: Sequence[str]) -> str:
    """The document with this section in its place, and its figures in the table of all runs. ``order``: of the titles
    of all sections."""
    sections = {
        _title(one): one for one in re.split(r"^(?=## )", document, flags=re.MULTILINE) if one.startswith("## ")
    }
    sections[title] = section
    runs = _with_run(sections.get(RUNS, ""), title, section)
    known = [sections[name].strip() for name in order if name in sections] + [runs] * bool(runs)
    missing = [name for name in order if name not in sections]
    note = [f"Not kept here yet: {'; '.join(missing)}."] if missing else []
    return "\n\n".join((HEAD.strip(), *note, *known)) + "\n"


def keep(title: str, section: str, order: Sequence[str]) -> None:
    """Write the section into the document."""
    document = PATH.read_text(encoding="utf-8") if PATH.exists() else ""
    PATH.write_text(with_section(document, title, section, order), encoding="utf-8")


def _with_run(runs: str, title: str, section: str) -> str:
    """One row more: what the section says of its goals. "" while there is none."""
    figures = [line.removeprefix("- ") for line in section.splitlines() if line.startswith("- ") and "(goal " in line]
    if not figures:
        return runs.strip()
    measured = re.search(r"^Measured (.+? at \S+) on ", section, flags=re.MULTILINE)
    when = measured[1] if measured else "?"
    return f"{runs.strip() or _HEAD_OF_RUNS}\n| {when} | {title} | {'<br>'.join(figures)} |"


def _title(section: str) -> str:
    return section.partition("\n")[0].removeprefix("## ").strip()
