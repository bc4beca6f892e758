"""GGUF model files that are on this machine already, and which catalogue entries they are.

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

A file is told by its header, not by its name: file names are the first thing people change. This module knows
nothing about downloads.
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

from advisor.catalog.records import Entry
from advisor.errors import FileProblem, GGUFError
from advisor.gguf import read_model
from advisor.progress import Progress, Silent
from advisor.types import Model

Origin = Literal["llama.cpp", "Hugging Face", "LM Studio", "Ollama", "folder"]

OLLAMA_MODEL_LAYER = "application/vnd.ollama.image.model"
OLLAMA_SERVICE_MODELS = Path("/usr/share/ollama/.ollama/models")
MAX_MANIFEST_BYTES = 1 << 20

_SPLIT = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_WORD = re.compile(r"\d+(?:\.\d+)*[a-z]*|[a-z]+")
_QUANT = re.compile(r"(?<![a-z0-9])(?:ud-)?(?:i?q\d(?:_[a-z0-9]+)*|mxfp4(?:_moe)?|bf16|fp?16|fp?32)(?![a-z0-9])")
# Words that tell nothing about which model a file is: formats, packagers, and what all chat models are called.
_NOISE = frozenset(["gguf", "hf", "meta", "model", "models", "instruct", "it", "chat", "unsloth", "imatrix"])
# A catalogue fact may be wrong, so a file of exactly the entry's name may differ from it in this many facts.
MAX_WRONG_FACTS = 2
# Converters pad a vocabulary to a round number, or do not: files of one Gemma 3 have 262144 or 262208 tokens.
MAX_PADDING_TOKENS = 128


@dataclass(frozen=True)
class LocalFile:
    """A model file, or the first part of a split one. ``name_hint`` is what its program calls it ("qwen2.5:7b",
    "Qwen/Qwen2.5-7B-Instruct-GGUF"), for people."""

    path: Path
    origin: Origin
    name_hint: str


@dataclass(frozen=True)
class LocalModel:
    """A readable model file. ``entry`` is the catalogue's, None when the catalogue has no such model. ``tuned``: the
    name in the header has words that the entry's has not: a tune of it, or the same model under a longer name."""

    model: Model
    entry: Entry | None
    quant: str
    origin: Origin
    tuned: bool = False


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
    """Every model file in the given folders and in the folders of programs that keep models, each once.

    A split model is its first part. Image encoders (mmproj) are left out. A folder that cannot be read is noted. Raises
    FileProblem for one of ``models_dirs`` that is not there.
    """
    environ = os.environ if environ is None else environ
    home = Path.home() if home is None else home
    progress = progress or Silent()
    found: dict[Path, LocalFile] = {}
    for file in _all_files(models_dirs, environ, home, platform, progress):
        found.setdefault(_real(file.path), file)
    return tuple(found.values())


def _all_files(
    models_dirs: Iterable[Path], environ: Mapping[str, str], home: Path, platform: str, progress: Progress
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


# -- what they are ---------------------------------------------------------------------------------------------------


def match_local(
    files: Iterable[LocalFile], entries: Sequence[Entry], *, progress: Progress | None = None
) -> tuple[LocalModel, ...]:
    """The files that can be read, each with the catalogue entry it is by its header. The others are noted."""
    progress = progress or Silent()
    matched = []
    for file in files:
        try:
            model = read_model(file.path)
        except FileProblem as error:
            progress.note(_skipped(file, error))
            continue
        entry = match_entry(model, entries, name_hint=f"{file.name_hint} {file.path.stem}")
        tuned = entry is not None and bool(_words(model.name) - _words(entry.name) - _owner_words(entry))
        matched.append(LocalModel(model, entry, model.quant, file.origin, tuned))
    return tuple(matched)


def _skipped(file: LocalFile, error: FileProblem) -> str:
    why = error.why if isinstance(error, GGUFError) else ""
    return f"{file.path} ({file.origin}) was left out. {error.what} {why}".strip()


def match_entry(model: Model, entries: Sequence[Entry], *, name_hint: str = "") -> Entry | None:
    """The entry whose shape the header has. Of several, the one with the most similar name: the name in the header,
    or ``name_hint`` where that says nothing. None when no entry has the shape, unless one has exactly the name and all
    but a few facts: then the catalogue is what is wrong, and ``contradictions`` says how."""
    if model.draft_only:
        return None
    same = [entry for entry in entries if not _differences(entry, model, identifying=True)]
    same = [entry for entry in same if not _padding(entry, model)] or same
    if not same:
        same = [entry for entry in entries if _is_nearly(entry, model)]
    if len(same) < 2:
        return same[0] if same else None
    name = model.name if any(_words(model.name) & _words(entry.name) for entry in same) else name_hint

    def distance(entry: Entry) -> tuple[int, int]:
        return len(_words(name) ^ _words(entry.name)), len(_all_words(name) ^ _all_words(entry.name))

    return min(same, key=distance)


def _is_nearly(entry: Entry, model: Model) -> bool:
    if entry.shape.architecture != model.architecture:
        return False
    wrong = len(_differences(entry, model, identifying=True))
    return wrong <= MAX_WRONG_FACTS and _words(model.name) - _owner_words(entry) == _words(entry.name)


def _words(name: str) -> frozenset[str]:
    """The telling words of a name: "Qwen2.5-Coder 7B Instruct" -> qwen, 2.5, coder, 7b."""
    return _all_words(name) - _NOISE


def _all_words(name: str) -> frozenset[str]:
    return frozenset(_WORD.findall(_QUANT.sub(" ", name.lower())))


def _owner_words(entry: Entry) -> frozenset[str]:
    return _words(entry.hf_repo.partition("/")[0]) - _words(entry.name)


@dataclass(frozen=True)
class _Difference:
    what: str
    catalogue: object
    file: object


def contradictions(entry: Entry, model: Model) -> list[str]:
    """What the catalogue says differently from the header, each in words. The header is right."""
    return [
        f"the catalogue says {one.catalogue} {one.what} for {entry.name}, the file {one.file}"
        for one in _differences(entry, model, identifying=False)
    ]


def remarks(entry: Entry, model: Model) -> list[str]:
    """What is different in the file without contradicting the catalogue, each in words."""
    padding = _padding(entry, model)
    if not padding:
        return []
    more = "more" if padding > 0 else "fewer"
    return [f"the file has {abs(padding)} padding tokens {more} than the catalogue says, which does not matter"]


def _padding(entry: Entry, model: Model) -> int:
    """Tokens that the file has more than the catalogue says; 0 where the difference is too large for padding."""
    more = model.vocabulary.size - entry.shape.vocabulary_size
    return more if abs(more) <= MAX_PADDING_TOKENS and model.vocabulary.size > MAX_PADDING_TOKENS else 0


def _differences(entry: Entry, model: Model, *, identifying: bool) -> list[_Difference]:
    facts = list(_identifying_facts(entry, model))
    if not identifying:
        facts += _other_facts(entry, model)
    return [_Difference(what, catalogue[0], file) for what, file, catalogue in facts if file not in catalogue]


# What is compared: its words, the file's value, and the values the catalogue allows, the best known first.
_Fact = tuple[str, object, tuple[object, ...]]


def _identifying_facts(entry: Entry, model: Model) -> Iterator[_Fact]:
    shape = entry.shape
    yield "layers", model.layers - model.nextn_layers, (shape.layers,)
    yield "as the architecture", model.architecture, (shape.architecture,)
    yield "as the embedding length", model.embedding_length, (shape.embedding_length,)
    yield "heads", model.heads, (shape.heads,)
    padded = shape.vocabulary_size + _padding(entry, model)
    yield "tokens in the vocabulary", model.vocabulary.size, (shape.vocabulary_size, padded)
    yield "experts", model.experts[0], (shape.experts,)
    if shape.experts:
        yield "as the width of an expert", model.expert_feed_forward_length, (shape.expert_feed_forward_length,)
    else:
        # Layers that reuse another's cache are twice as wide in some models; the file says its widest.
        widths = (shape.feed_forward_length, *_nonzero(2 * shape.feed_forward_length * bool(shape.shared_kv_layers)))
        yield "as the feed-forward length", model.feed_forward_length, widths
    for kv_heads in sorted(set(model.attention.kv_heads) - {0}) if not model.attention.mla else ():
        yield "KV heads", kv_heads, (shape.kv_heads, *_nonzero(shape.global_kv_heads))


def _other_facts(entry: Entry, model: Model) -> Iterator[_Fact]:
    shape, attention = entry.shape, model.attention
    yield "as the context length", model.context_length, (shape.context_length,)
    if shape.experts:
        yield "experts used for a token", model.experts[1], (shape.experts_used,)
    if not attention.mla and any(attention.kv_heads):
        lengths = (shape.head_length, *_nonzero(shape.global_head_length))
        for length in sorted({attention.key_length, attention.sliding_key_length} - {0}):
            yield "as the length of a head", length, lengths
    if attention.sliding_window and shape.sliding_window:
        yield "as the sliding window", attention.sliding_window, (shape.sliding_window,)
    if model.tied_output_bytes and not shape.tied_embeddings:
        yield "as the output matrix", "shares the token embedding", ("a matrix of its own",)


def _nonzero(value: int) -> tuple[int, ...]:
    return (value,) if value else ()
