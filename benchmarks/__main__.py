"""Run the benchmarks and print them.

Without a PART the documented ones run, and docs/benchmarks.md is written from them.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from advisor.engines.llama_cpp_python import LlamaCppPython
from advisor.host import probe
from advisor.store import data_dir
from advisor.types import Host
from benchmarks import report
from benchmarks.parts import CHECKS, DOCUMENTED

DOCUMENT = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def main() -> int:
    parts = {**DOCUMENTED, **CHECKS}
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts))
    parser.add_argument("--seed", type=int, default=1, help="which cells of the sweep are sampled [default: 1]")
    options = parser.parse_args()
    unknown = [name for name in options.parts if name not in parts]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(parts)}")
    host = probe(store_dir=data_dir())
    sections = [_head(host)]
    print(sections[0], flush=True)
    for name in options.parts or DOCUMENTED:
        title, part = parts[name]
        sections.append(report.section(title, part(host, options.seed)))
        print(sections[-1], flush=True)
    if not options.parts:
        DOCUMENT.write_text("\n".join(sections), encoding="utf-8")
        print(f"Written to {DOCUMENT}.")
    return 0


def _head(host: Host) -> str:
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    lines = ("# Benchmarks", "", "Written by `make bench`. Real models of synthetic size (advisor/testing/zoo.py).", "")
    return "\n".join((*lines, *report.machine(host, LlamaCppPython().build, when), ""))


if __name__ == "__main__":
    sys.exit(main())
