"""Try to break the promises of SECURITY.md, and print one table: what was tried, how often, what was lost.

Ends with 1 when anything was lost. Without a PART all of them run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from chaos import bad_files, crashes, disk, faults, fuzz, load, memory, mutations, resume, security
from chaos.outcome import Outcome, all_held, table
from chaos.world import Ground, zoo_request

SIMULATED_SHARE = 1 / 6  # of the time that real models get


@dataclass(frozen=True)
class Options:
    quick: bool
    seed: int
    seconds: int
    minutes: float
    keep_seeds: bool


def _bad_files(ground: Ground, options: Options) -> Iterator[Outcome]:
    yield from bad_files.bad_files(ground.folder, mutations.mutants(options.seed))


def _fuzz(ground: Ground, options: Options) -> Iterator[Outcome]:
    yield from fuzz.fuzz(ground.folder, options.seconds, keep=options.keep_seeds, seed=options.seed)


def _crashes(ground: Ground, options: Options) -> Iterator[Outcome]:
    kinds = ("SIGKILL", "memory") if options.quick else faults.KINDS
    yield from crashes.crash_isolation(ground, kinds)


def _resume(ground: Ground, options: Options) -> Iterator[Outcome]:
    yield from resume.resume(ground, kills=3 if options.quick else 20, seed=options.seed)


def _disk(ground: Ground, options: Options) -> Iterator[Outcome]:
    sizes = disk.FULL_SIZES[::4] if options.quick else disk.FULL_SIZES
    yield from disk.disk(ground, sizes=sizes, damages=3 if options.quick else 20, seed=options.seed)


def _memory(ground: Ground, options: Options) -> Iterator[Outcome]:
    yield from memory.limits(ground, memory.LIMITS_GIB[::3] if options.quick else memory.LIMITS_GIB)
    if not options.quick:
        yield from memory.estimates()
        yield from memory.peaks(ground.folder)


def _security(ground: Ground, options: Options) -> Iterator[Outcome]:
    yield from security.security(ground, real_server=not options.quick)


def _load(ground: Ground, options: Options) -> Iterator[Outcome]:
    """Simulated workers for many searches, then real ones, whose faults meet real memory."""
    seconds, seed = 60 * options.minutes, options.seed
    brief = seconds if options.quick else SIMULATED_SHARE * seconds
    yield from load.load(ground.folder, ground.search, of="simulated models", seconds=brief, seed=seed)
    if not options.quick:
        real = partial(ground.search_zoo, zoo_request())
        yield from load.load(ground.folder, real, of="real models", seconds=seconds, seed=seed)


PARTS: dict[str, Callable[[Ground, Options], Iterator[Outcome]]] = {
    "bad-files": _bad_files,
    "fuzz": _fuzz,
    "crashes": _crashes,
    "resume": _resume,
    "disk": _disk,
    "memory": _memory,
    "security": _security,
    "load": _load,
}


def main() -> int:
    parser = argparse.ArgumentParser("python -m chaos", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="a few of each, in minutes")
    parser.add_argument("--seed", type=int, default=1, help="of what is random [default: 1]")
    parser.add_argument("--seconds", type=int, help="how long to fuzz [default: 600, with --quick 20]")
    parser.add_argument("--minutes", type=float, help="how long the load lasts [default: 60, with --quick 0.5]")
    parser.add_argument("--keep-seeds", action="store_true", help="add what the fuzz found to chaos/seeds")
    given = parser.parse_args()
    unknown = [name for name in given.parts if name not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    options = Options(
        quick=given.quick,
        seed=given.seed,
        seconds=given.seconds or (20 if given.quick else 600),
        minutes=given.minutes or (0.5 if given.quick else 60.0),
        keep_seeds=given.keep_seeds,
    )
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        ground = Ground.prepare(Path(name))
        for part in given.parts or PARTS:
            for outcome in PARTS[part](ground, options):
                outcomes.append(outcome)
                print(f"{part}: {outcome.what}: {outcome.skipped or f'{len(outcome.lost)} lost'}", file=sys.stderr)
    print(table(outcomes))
    return 0 if all_held(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
