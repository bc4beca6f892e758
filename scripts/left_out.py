"""Predict each target of draftbench results from all the others and write the table of the second notebook.

    python scripts/left_out.py FILE ...

FILEs are draftbench results and tables of costs, as of ``python -m advisor.predict.evaluate``. Writes
notebooks/left_out.csv: one line a pair, with what was measured, what was foreseen without it, and its 80 % interval.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from advisor.catalog.load import load
from advisor.predict.evaluate import Predicted, by_target, cross_validate
from advisor.predict.prior import Z_80
from advisor.predict.reading import read_evidence

TABLE = Path(__file__).parent.parent / "notebooks" / "left_out.csv"
COLUMNS = ("target", "draft", "measured", "predicted", "low", "high")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    evidence = read_evidence(parser.parse_args().files, load())
    found = cross_validate(evidence, by_target, jobs=1, told=lambda line: print(line, file=sys.stderr))
    with TABLE.open("w", encoding="utf-8", newline="") as stream:
        stream.writelines(f"# {line}\n" for line in evidence.provenance)
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows(found))


def rows(found: list[Predicted]) -> Iterator[tuple[str, ...]]:
    for one in sorted(found, key=lambda one: (one.pair.target, one.pair.draft)):
        high = one.speedup * np.exp(Z_80 * one.log_sd)
        numbers = (one.pair.speedup, one.speedup, one.low, high)
        yield (one.pair.target, one.pair.draft, *(f"{number:.3f}" for number in numbers))


if __name__ == "__main__":
    main()
