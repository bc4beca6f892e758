"""Where files go, what of them is there already, and whether the rest fits on the disk."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from advisor.catalog.local import hub_cache
from advisor.catalog.pull.meter import amount
from advisor.catalog.pull.plan import PullFile, PullPlan
from advisor.errors import FileProblem

RECORD = "pulled.json"


@dataclass(frozen=True)
class Place:
    """Where one file goes: ``partial`` while it is being downloaded, then ``content``. ``path`` is what people use; in
    the Hugging Face cache it is a link to the content."""

    path: Path
    content: Path
    partial: Path


def place_of(plan: PullPlan, file: PullFile, folder: Path | None) -> Place:
    version = (file.sha256 or plan.revision)[:12]
    if folder is not None:
        path = folder.joinpath(*plan.repo.split("/"), PurePosixPath(file.path).name)
        return Place(path, path, path.with_name(f"{path.name}.{version}.incomplete"))
    path = cached_repository(plan).joinpath("snapshots", plan.revision, *PurePosixPath(file.path).parts)
    if not file.sha256:  # the cache names content by its digest
        return Place(path, path, path.with_name(f"{path.name}.{version}.incomplete"))
    blob = cached_repository(plan) / "blobs" / file.sha256
    return Place(path, blob, blob.with_name(f"{blob.name}.advisor.incomplete"))


def cached_repository(plan: PullPlan) -> Path:
    return hub_cache(os.environ, Path.home()) / f"models--{plan.repo.replace('/', '--')}"


def check_disk(plan: PullPlan, folder: Path | None = None) -> None:
    """FileProblem when what is still to be downloaded does not fit on the disk of ``folder`` (None: the cache)."""
    needed, free = missing_bytes(plan, folder), free_bytes(plan, folder)
    if free is not None and needed > free:
        raise _disk_full(plan, needed, free, _disk_of(plan, folder))


def missing_bytes(plan: PullPlan, folder: Path | None = None) -> int:
    """What is still to be downloaded: nothing of files that are there, the rest of files that were begun."""
    return sum(_missing_bytes(file, place_of(plan, file, folder)) for file in plan.files)


def free_bytes(plan: PullPlan, folder: Path | None = None) -> int | None:
    """Room on the disk that the files go to, None where the file system does not say, as some on the network."""
    try:
        return shutil.disk_usage(_disk_of(plan, folder)).free
    except OSError:
        return None


def _disk_of(plan: PullPlan, folder: Path | None) -> Path:
    return nearest_folder(place_of(plan, plan.files[0], folder).content.parent)


def _missing_bytes(file: PullFile, place: Place) -> int:
    if size_of(place.path) == file.size_bytes or size_of(place.content) == file.size_bytes:
        return 0
    return max(0, file.size_bytes - size_of(place.partial))


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def nearest_folder(folder: Path) -> Path:
    return next((one for one in (folder, *folder.parents) if one.is_dir()), folder)


def _disk_full(plan: PullPlan, needed: int, free: int, where: Path) -> FileProblem:
    return FileProblem(
        f"{plan.repo} {plan.quant} does not fit on the disk: it needs {amount(needed)}, {amount(free)} are free.",
        why=f"It would go to {where}.",
        fix="Free some space, or choose another folder with --models-dir or HF_HOME, or a smaller quantization.",
    )


def link(place: Place) -> None:
    """Give cached content its name. Where links are not allowed (Windows) the content itself gets it."""
    if place.path == place.content or place.path.exists():
        return
    place.path.parent.mkdir(parents=True, exist_ok=True)
    place.path.unlink(missing_ok=True)  # a link to content that was deleted
    try:
        place.path.symlink_to(os.path.relpath(place.content, place.path.parent))
    except OSError:
        place.content.replace(place.path)


def remember_main(plan: PullPlan) -> None:
    """Tell other programs which snapshot is the current one, as huggingface_hub does."""
    reference = cached_repository(plan) / "refs" / "main"
    with contextlib.suppress(OSError):
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(plan.revision, encoding="utf-8")


def note_pulled(record: Path, plan: PullPlan, file: PullFile) -> None:
    """Note beside the files which version of which repository they are."""
    pulled = _read_record(record)
    pulled[PurePosixPath(file.path).name] = {
        "repo": plan.repo,
        "revision": plan.revision,
        "path": file.path,
        "size_bytes": file.size_bytes,
        "sha256": file.sha256,
        "pulled_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    temporary = record.with_name(f"{record.name}.{os.getpid()}.part")
    temporary.write_text(json.dumps(pulled, indent=2) + "\n", encoding="utf-8")
    temporary.replace(record)


def _read_record(record: Path) -> dict[str, Any]:
    try:
        pulled = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return pulled if isinstance(pulled, dict) else {}


def recorded_digest(path: Path) -> str:
    recorded = _read_record(path.parent / RECORD).get(path.name)
    return str(recorded.get("sha256", "")) if isinstance(recorded, dict) else ""
