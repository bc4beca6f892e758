"""Disks that are full or read-only, and stores that are newer or damaged."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from advisor.store import SCHEMA_VERSION
from chaos.outcome import Outcome
from chaos.processes import Advisor, Ended, recommend_command
from chaos.resume import different
from chaos.world import Ground

KIB = 1024
FULL_SIZES = tuple(size * KIB for size in (4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384))
ENOUGH_BYTES = 64 << 20
NO_MOUNT = "needs Linux and the right to mount a tmpfs (root)"


def disk(
    ground: Ground, *, sizes: Sequence[int] = FULL_SIZES, damages: int = 20, seed: int = 1, thorough: bool = True
) -> Iterator[Outcome]:
    """``thorough``: also the store itself, read-only, newer and damaged."""
    whole = ground.data_dir("whole")
    undisturbed = _run(ground, whole)
    yield _full(ground, sizes, undisturbed)
    yield _damaged(ground, whole, undisturbed, "studies.journal", damages, seed)
    if thorough:
        yield _read_only(ground, whole, undisturbed)
        yield _newer(ground, whole, undisturbed)
        yield _damaged(ground, whole, undisturbed, "measurements.sqlite3", damages, seed)


def _run(ground: Ground, data: Path, ledger_folder: Path | None = None) -> Ended:
    folder = ledger_folder or data.parent
    return Advisor(recommend_command(ground.models, folder / "prompts.txt"), data, ledger=folder / "ledger").wait()


def _full(ground: Ground, sizes: Sequence[int], undisturbed: Ended) -> Outcome:
    """A disk that fills up at some moment of the search, is then made larger, and is searched on again."""
    what = "a disk that fills up during the search"
    lost: list[str] = []
    told = 0
    for size in sizes:
        mount = ground.folder / f"full-{size}"
        with tmpfs(mount, size) as mounted:
            if not mounted:
                return Outcome(what, 0, skipped=NO_MOUNT)
            data = mount / "data"
            with contextlib.suppress(OSError, shutil.Error):  # as much as there is room for
                ground.furnish(data)
            ended = _run(ground, data, ground.folder)
            lost += [f"{size // KIB} KiB: {why}" for why in different(ended, undisturbed)]
            told += "is full" in ended.errors or "No space left" in ended.errors
            _remount(mount, f"size={ENOUGH_BYTES}")
            again = _run(ground, data, ground.folder)
            lost += [f"{size // KIB} KiB, then enough: {why}" for why in different(again, undisturbed)]
            if "damaged" in again.errors:
                lost.append(f"{size // KIB} KiB: the full disk damaged the store")
    if not told:
        lost.append("nobody was told that the disk is full")
    return Outcome(what, len(sizes), tuple(lost), f"{told} of them were told that it is full")


def _read_only(ground: Ground, whole: Path, undisturbed: Ended) -> Outcome:
    what = "a read-only data directory"
    mount = ground.folder / "read-only"
    with tmpfs(mount, ENOUGH_BYTES) as mounted:
        if not mounted:
            return Outcome(what, 0, skipped=NO_MOUNT)
        data = mount / "data"
        shutil.copytree(whole, data)
        before = _contents(data)
        _remount(mount, "ro")
        ended = _run(ground, data, ground.folder)
        lost = list(different(ended, undisturbed))
        if _contents(data) != before:
            lost.append("something was written")
    if "not kept" not in ended.errors:
        lost.append(f"nobody was told that measurements are not kept: {ended.errors[-300:]}")
    return Outcome(what, 1, tuple(lost))


def _newer(ground: Ground, whole: Path, undisturbed: Ended) -> Outcome:
    data = ground.data_dir("newer")
    shutil.copytree(whole, data, dirs_exist_ok=True)
    path = data / "measurements.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    ended = _run(ground, data)
    lost = list(different(ended, undisturbed))
    if path.read_bytes() != before:
        lost.append("the newer store was changed")
    if "newer version" not in ended.errors:
        lost.append("nobody was told")
    return Outcome("a store of a newer version", 1, tuple(lost))


def _damaged(ground: Ground, whole: Path, undisturbed: Ended, name: str, times: int, seed: int) -> Outcome:
    """Each time damaged in another way; what is kept aside must be what was there, byte for byte."""
    rng = random.Random(seed)
    lost: list[str] = []
    kept = 0
    for index in range(times):
        data = ground.data_dir(f"damaged-{name}-{index}")
        shutil.copytree(whole, data, dirs_exist_ok=True)
        path = data / name
        how = damage(path, rng)
        content = path.read_bytes()
        ended = _run(ground, data)
        lost += [f"{how}: {why}" for why in different(ended, undisturbed)]
        aside = path.with_name(f"{name}.kept-1")
        if aside.exists():
            kept += 1
            if aside.read_bytes() != content:
                lost.append(f"{how}: what was kept aside is not what was there")
            if "kept as" not in ended.errors:
                lost.append(f"{how}: nobody was told that it was kept aside")
        shutil.rmtree(data.parent)
    return Outcome(
        f"a damaged {name}", times, tuple(lost), f"{kept} kept aside, the others mended or read as they were"
    )


def damage(path: Path, rng: random.Random) -> str:
    """Does something to the file, and says what."""
    content = bytearray(path.read_bytes())
    size = len(content)

    def cut() -> None:
        del content[rng.randrange(size) :]

    def overwrite() -> None:
        at = rng.randrange(size)
        content[at : at + 512] = rng.randbytes(min(512, size - at))

    def blank() -> None:
        at = rng.randrange(size)
        content[at : at + 4096] = bytes(min(4096, size - at))

    def begin_wrong() -> None:
        content[:16] = b"not what it was!"

    def empty() -> None:
        content.clear()

    ways: dict[str, Callable[[], None]] = {
        "cut": cut,
        "overwritten": overwrite,
        "blanked": blank,
        "another beginning": begin_wrong,
        "emptied": empty,
    }
    how = rng.choice(list(ways))
    ways[how]()
    path.write_bytes(content)
    return how


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def tmpfs(mount: Path, size_bytes: int) -> Iterator[bool]:
    """A disk of this size; False where none can be made."""
    if sys.platform != "linux" or os.geteuid() != 0:
        yield False
        return
    mount.mkdir()
    options = f"size={size_bytes},mode=0700"
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(mount)], capture_output=True, check=False
    )
    try:
        yield made.returncode == 0
    finally:
        if made.returncode == 0:
            subprocess.run(["umount", str(mount)], check=True)


def _remount(mount: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(mount)], check=True)
