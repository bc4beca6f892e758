"""Run the benchmarks and print them.

Without a PART the documented ones run, and docs/benchmarks.md is written from them; ``--keep`` writes named ones too.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from advisor.engines.llama_cpp_python import LlamaCppPython
from advisor.errors import AdvisorError
from advisor.host import probe
from advisor.store import data_dir
from benchmarks import document, report
from benchmarks.checkout import ROOT, git
from benchmarks.parts import CHECKS, DOCUMENTED, Part


def main() -> int:
    parts = {**DOCUMENTED, **CHECKS}
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts))
    parser.add_argument("--seed", type=int, help="which cells of the sweep are sampled [default: others each time]")
    parser.add_argument("--keep", action="store_true", help="write the sections of the named parts into the document")
    options = parser.parse_args()
    unknown = [name for name in options.parts if name not in parts]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(parts)}")
    order = [title for title, _ in parts.values()]
    seed = random.randrange(1000) if options.seed is None else options.seed
    commit = commit_of(ROOT)
    failed = False
    for name in options.parts or DOCUMENTED:
        title, part = parts[name]
        try:
            section = report.section(title, (*_measured(part, seed, commit),))
        except AdvisorError as error:
            print(f"{name}: {error.what} {error.why}".strip(), file=sys.stderr, flush=True)
            failed = True
            continue
        print(section, flush=True)
        if options.keep or not options.parts:
            document.keep(title, section, order)
            print(f"Written to {document.PATH}.", file=sys.stderr, flush=True)
    return 1 if failed else 0


def _measured(part: Part, seed: int, commit: str) -> Iterator[str]:
    """The part's lines, then where and when they were measured."""
    host, when = probe(store_dir=data_dir()), datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    yield from part(host, seed)
    yield ""
    yield report.machine(host, LlamaCppPython().build, when, commit)


def commit_of(root: Path) -> str:
    """Of the code under root, with a + where it was changed since: the documents, which the benchmarks write, are not
    asked. "unknown" outside of a repository."""
    try:
        commit = git(root, "rev-parse", "--short", "HEAD")
        changed = git(root, "status", "--porcelain", "--", ".", ":(exclude)docs")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}+" if changed else commit


if __name__ == "__main__":
    sys.exit(main())
