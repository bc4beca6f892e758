"""GGUF model files that are on this machine already.

Where programs keep their models (each read in its own source or documentation):

    llama.cpp      LLAMA_CACHE, else the user's cache folder + "llama.cpp"; flat in older builds, laid out like the
                   Hugging Face cache in newer ones (common/common.cpp, common/hf-cache.cpp)
    Hugging Face   HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub, else
                   ~/.cache/huggingface/hub; models--<owner>--<name>/snapshots/<commit>/<file>, links to blobs
                   (huggingface_hub/constants.py); newer llama.cpp downloads to it
    LM Studio      <publisher>/<model>/<file> in "downloadsFolder" of ~/.lmstudio/settings.json, in models/ of the
                   folder that ~/.lmstudio-home-pointer names, of ~/.lmstudio and of the older ~/.cache/lm-studio
    Ollama         OLLAMA_MODELS, else ~/.ollama/models, and /usr/share/ollama/.ollama/models where it runs as a
                   service on Linux (docs/faq); manifests/<registry>/<owner>/<model>/<tag> is JSON that names
                   blobs/sha256-<digest>, which has no suffix
    by hand        ~/models

This module knows nothing about what the files are (``matching``) and nothing about downloads.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from advisor.errors import FileProblem
from advisor.progress import Progress, Silent

Origin = Literal["llama.cpp", "Hugging Face", "LM Studio", "Ollama", "folder"]

OLLAMA_MODEL_LAYER = "application/vnd.ollama.image.model"
OLLAMA_SERVICE_MODELS = Path("/usr/share/ollama/.ollama/models")
MAX_MANIFEST_BYTES = 1 << 20

_SPLIT = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)


@dataclass(frozen=True)
class LocalFile:
    """A model file, or the first part of a split one. ``name_hint`` is what its program calls it ("qwen2.5:7b",
    "Qwen/Qwen2.5-7B-Instruct-GGUF"), for people."""

    path: Path
    origin: Origin
    name_hint: str


# -- where to look ---------------------------------------------------------------------------------------------------


def hub_cache(environ: Mapping[str, str], home: Path) -> Path:
    """The Hugging Face cache, by huggingface_hub's own rules."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environ.get(name):
            return _expanded(environ[name], environ, home)
    if environ.get("HF_HOME"):
        return _expanded(environ["HF_HOME"], environ, home) / "hub"
    if environ.get("XDG_CACHE_HOME"):
        return Path(environ["XDG_CACHE_HOME"]) / "huggingface" / "hub"
    return home / ".cache" / "huggingface" / "hub"


def llama_cpp_cache(environ: Mapping[str, str], home: Path, platform: str) -> Path:
    """llama.cpp's own cache. ``platform`` is as in sys.platform."""
    if environ.get("LLAMA_CACHE"):
        return Path(environ["LLAMA_CACHE"])
    if platform == "win32":
        base = Path(environ["LOCALAPPDATA"]) if environ.get("LOCALAPPDATA") else home / "AppData" / "Local"
    elif platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(environ["XDG_CACHE_HOME"]) if environ.get("XDG_CACHE_HOME") else home / ".cache"
    return base / "llama.cpp"


def lm_studio_folders(home: Path) -> tuple[Path, ...]:
    studio = home / ".lmstudio"
    folders = []
    if configured := _json_text(studio / "settings.json", "downloadsFolder"):
        folders.append(_expanded(configured, {}, home))
    if pointed := _text(home / ".lmstudio-home-pointer"):
        folders.append(_expanded(pointed, {}, home) / "models")
    return (*folders, studio / "models", home / ".cache" / "lm-studio" / "models")


def ollama_folders(environ: Mapping[str, str], home: Path, platform: str) -> tuple[Path, ...]:
    if environ.get("OLLAMA_MODELS"):
        return (_expanded(environ["OLLAMA_MODELS"], environ, home),)
    service = (OLLAMA_SERVICE_MODELS,) if platform.startswith("linux") else ()
    return (home / ".ollama" / "models", *service)


def searched_folders(
    models_dirs: Iterable[Path] = (),
    *,
    environ: Mapping[str, str] | None = None,
    home: Path | None = None,
    platform: str = sys.platform,
) -> tuple[Path, ...]:
    """Every folder that ``find_local`` looks into, there or not, in its order."""
    environ = os.environ if environ is None else environ
    home = Path.home() if home is None else home
    folders = [*models_dirs, own_folder(home), hub_cache(environ, home), llama_cpp_cache(environ, home, platform)]
    return (*dict.fromkeys([*folders, *lm_studio_folders(home), *ollama_folders(environ, home, platform)]),)


def own_folder(home: Path) -> Path:
    """Where people who keep files by hand have them."""
    return home / "models"


def _expanded(text: str, environ: Mapping[str, str], home: Path) -> Path:
    """``~`` and ``$NAME`` as a shell would write them."""
    text = re.sub(r"\$(\w+)|\$\{(\w+)\}", lambda match: environ.get(match[1] or match[2], match[0]), text.strip())
    if text == "~" or text.startswith(("~/", "~\\")):
        return home / text[2:]
    return Path(text)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _json_text(path: Path, key: str) -> str:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    value = document.get(key) if isinstance(document, dict) else None
    return value if isinstance(value, str) else ""


# -- finding files ---------------------------------------------------------------------------------------------------


def find_local(
    models_dirs: Iterable[Path] = (),
    *,
    environ: Mapping[str, str] | None = None,
    home: Path | None = None,
    platform: str = sys.platform,
    progress: Progress | None = None,
) -> tuple[LocalFile, ...]:
    """Every model file in the given folders, in ~/models and in the folders of programs that keep models, each once.

    A split model is its first part. Image encoders (mmproj) are left out. A folder that cannot be read is noted. Raises
    FileProblem for one of ``models_dirs`` that is not there.
    """
    environ = os.environ if environ is None else environ
    home = Path.home() if home is None else home
    progress = progress or Silent()
    found: dict[Path, LocalFile] = {}
    for file in _all_files(tuple(models_dirs), environ, home, platform, progress):
        found.setdefault(_real(file.path), file)
    return tuple(found.values())


def _all_files(
    models_dirs: Sequence[Path], environ: Mapping[str, str], home: Path, platform: str, progress: Progress
) -> Iterator[LocalFile]:
    for folder in models_dirs:
        if not folder.is_dir():
            raise FileProblem(
                f"There is no folder {folder}.",
                why="It was given as a folder with models.",
                fix="Check --models-dir.",
            )
        yield from _plain_files(folder, "folder", progress)
        yield from _ollama_files(folder, progress)
    if _real(own_folder(home)) not in {_real(folder) for folder in models_dirs}:
        yield from _plain_files(own_folder(home), "folder", progress)
    yield from _hub_files(hub_cache(environ, home), "Hugging Face", progress)
    yield from _llama_cpp_files(llama_cpp_cache(environ, home, platform), progress)
    for folder in lm_studio_folders(home):
        yield from _plain_files(folder, "LM Studio", progress)
    for folder in ollama_folders(environ, home, platform):
        yield from _ollama_files(folder, progress)


def _llama_cpp_files(root: Path, progress: Progress) -> Iterator[LocalFile]:
    yield from _hub_files(root, "llama.cpp", progress)
    for path in _models_in(root, progress):
        if not any(part.startswith("models--") for part in path.relative_to(root).parts):
            yield LocalFile(path, "llama.cpp", path.stem)


def _hub_files(root: Path, origin: Origin, progress: Progress) -> Iterator[LocalFile]:
    for repository in _listed(root, progress):
        if not repository.name.startswith("models--"):
            continue
        name = repository.name.removeprefix("models--").replace("--", "/")
        for path in _models_in(repository / "snapshots", progress):
            yield LocalFile(path, origin, name)


def _plain_files(root: Path, origin: Origin, progress: Progress) -> Iterator[LocalFile]:
    for path in _models_in(root, progress):
        folder = path.parent.relative_to(root).as_posix()
        yield LocalFile(path, origin, path.stem if folder == "." else folder)


def _ollama_files(root: Path, progress: Progress) -> Iterator[LocalFile]:
    manifests = root / "manifests"
    for path in _walk(manifests, progress):
        parts = path.relative_to(manifests).parts  # registry, owner, model, tag
        for digest in _ollama_layers(path):
            blob = root / "blobs" / digest.replace(":", "-")
            if len(parts) >= 2 and blob.is_file():
                yield LocalFile(blob, "Ollama", f"{parts[-2]}:{parts[-1]}")


def _ollama_layers(manifest: Path) -> Iterator[str]:
    """The digests of the model layers of a manifest; none when it is not a manifest."""
    try:
        if manifest.stat().st_size > MAX_MANIFEST_BYTES:
            return
        document = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    layers = document.get("layers") if isinstance(document, dict) else None
    for layer in layers if isinstance(layers, list) else ():
        if isinstance(layer, dict) and layer.get("mediaType") == OLLAMA_MODEL_LAYER:
            digest = layer.get("digest")
            if isinstance(digest, str) and re.fullmatch(r"sha256[:-][0-9a-fA-F]{64}", digest):
                yield digest


def _models_in(root: Path, progress: Progress) -> Iterator[Path]:
    """The GGUF files under a folder: no image encoders, one part of each split model (the first that is there)."""
    seen: set[tuple[Path, str]] = set()
    for path in _walk(root, progress):
        name = path.name.lower()
        if not name.endswith(".gguf") or "mmproj" in name:
            continue
        split = _SPLIT.fullmatch(path.name)
        if split is not None:
            model = (path.parent, f"{split['stem']}/{split['count']}")
            if model in seen:
                continue
            seen.add(model)
        yield path


def _walk(root: Path, progress: Progress) -> Iterator[Path]:
    """The files under a folder in the order of their names. Links to folders are followed, but no folder is entered
    twice, so a loop ends."""
    entered: set[Path] = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=lambda error: _note(error, root, progress)):
        real = _real(Path(folder))
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders.sort()
        yield from (Path(folder, name) for name in sorted(files))


def _listed(root: Path, progress: Progress) -> list[Path]:
    try:
        return sorted(root.iterdir())
    except OSError as error:
        _note(error, root, progress)
        return []


def _note(error: OSError, root: Path, progress: Progress) -> None:
    missing = isinstance(error, FileNotFoundError | NotADirectoryError)
    if not missing:  # most people have not installed every program
        progress.note(f"The folder {error.filename or root} was not searched for models: {error.strerror or error}.")


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a link that leads to itself
        return path
