"""The control groups this process is in: its own first, then every one above it, which all limit it too.

Only Linux has them; elsewhere /proc/self/cgroup does not exist and there are no groups. Containers show a group
path that does not exist in their own file system, so paths are resolved against the mounts of this process.
This module knows nothing about what the files in a group mean.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

UNIFIED = ""  # how /proc/self/cgroup writes the controllers of version 2


@dataclass(frozen=True)
class Group:
    version: Literal[1, 2]
    directory: Path

    def text(self, file_name: str) -> str:
        """The content of one of the group's files, "" where it does not exist or may not be read."""
        return read_text(self.directory / file_name)

    def number(self, file_name: str) -> int | None:
        """A file holding one number; None where it is missing or says "max"."""
        content = self.text(file_name).strip()
        return int(content) if re.fullmatch(r"-?\d+", content) else None


@dataclass(frozen=True)
class _Mount:
    version: Literal[1, 2]
    root: str
    point: str
    controllers: frozenset[str]


def groups(controller: str, root: Path = Path("/")) -> tuple[Group, ...]:
    """The groups that limit ``controller`` ("memory", "cpu") for this process, innermost first.

    Version 1 and version 2 hierarchies may exist side by side; both are returned. ``root`` holds proc/ and sys/.
    """
    paths = _own_paths(read_text(root / "proc/self/cgroup"))
    found: list[Group] = []
    for mount in _mounts(read_text(root / "proc/self/mountinfo")):
        wanted = UNIFIED if mount.version == 2 else controller
        if wanted in paths and (mount.version == 2 or controller in mount.controllers):
            top = root / mount.point.lstrip("/")
            below = _below(mount.root, paths[wanted])
            found += [Group(mount.version, top / part) for part in (below, *below.parents)]
    return tuple(dict.fromkeys(found))


def read_text(path: Path) -> str:
    """The text of a file of the kernel, "" where it does not exist or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _own_paths(text: str) -> dict[str, str]:
    """Controller -> path, from lines such as "4:memory:/docker/1f" or "0::/user.slice"."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, separator, path = rest.partition(":")
        if separator:
            paths.update(dict.fromkeys(controllers.split(","), path))
    return paths


def _mounts(text: str) -> list[_Mount]:
    mounts = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        mounts.append(
            _Mount(
                version=2 if kind[0] == "cgroup2" else 1,
                root=_unescaped(fields[3]),
                point=_unescaped(fields[4]),
                controllers=frozenset(kind[2].split(",")),
            )
        )
    return mounts


def _unescaped(field: str) -> str:
    """The kernel writes a blank in a path as \\040."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)


def _below(mount_root: str, path: str) -> PurePosixPath:
    """Where ``path`` lies under its mount. A path of another namespace ("/../..") leaves the mount point itself."""
    try:
        below = PurePosixPath(path).relative_to(mount_root)
    except ValueError:
        # The mount shows another part of the tree; its names may still exist below it (a container started with
        # the host's tree), and where they do not, the walk up ends at the mount point all the same.
        below = PurePosixPath(path.lstrip("/"))
    return PurePosixPath() if ".." in below.parts else below
