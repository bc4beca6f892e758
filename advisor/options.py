"""What the user typed -> settings and files. Every message names the option it is about."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from advisor.errors import FileProblem, OptionError
from advisor.paths import expanded
from advisor.types import Sampling, Settings

CONTEXT_MAX = 2**24
SEED_MAX = 2**32 - 2  # llama.cpp takes 2**32 - 1 for "choose one at random"
PRIOR_CATEGORIES = (
    "code",
    "math",
    "chat",
    "prose",
    "summarise",
    "extraction",
    "translation",
)  # of the built-in prompts
DRAFT_DIR_DEPTH = 2  # publisher/model/file.gguf, as LM Studio and others lay their folders out

_DURATION = re.compile(r"(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m(?:in)?)?(?:(?P<s>\d+(?:\.\d+)?)s?)?")
_SPLIT_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)


def duration_s(text: str, *, option: str) -> float:
    """ "90s", "5m", "1h30m" or bare seconds, as seconds."""
    match = _DURATION.fullmatch(text.strip().lower().replace(" ", ""))
    parts = {unit: float(value) for unit, value in match.groupdict().items() if value} if match else {}
    seconds = parts.get("h", 0.0) * 3600 + parts.get("m", 0.0) * 60 + parts.get("s", 0.0)
    if not parts:
        raise OptionError(f"{option}: {text!r} is not a duration.", fix="Write 90s, 5m, 1h30m or a number of seconds.")
    if not 0 < seconds < float("inf"):
        raise OptionError(f"{option}: {text!r} is not a usable duration.", fix="Give a minute or more, such as 5m.")
    return seconds


def settings(
    *,
    context: int,
    budget: str,
    temperature: float,
    top_p: float,
    seed: int,
    max_tokens: int,
    k_max: int,
    threads: int,
) -> Settings:
    """Checked settings. Raises OptionError for the first value that cannot be."""
    _check_range("--context", context, 256, CONTEXT_MAX)
    _check_range("--max-tokens", max_tokens, 8, CONTEXT_MAX)
    _check_range("--k-max", k_max, 1, 64)
    _check_range("--temperature", temperature, 0, 5)
    _check_range("--seed", seed, 0, SEED_MAX)
    _check_range("--threads", threads, 0, 1024)
    if not 0 < top_p <= 1:
        raise OptionError(f"--top-p is {top_p:g}.", fix="Give a value above 0 and at most 1.")
    if max_tokens >= context:
        raise OptionError(
            f"--max-tokens {max_tokens} does not leave room for a prompt in --context {context}.",
            fix="Give a larger --context or a smaller --max-tokens.",
        )
    return Settings(
        context=context,
        sampling=Sampling(temperature=temperature, top_p=top_p, seed=seed),
        max_tokens=max_tokens,
        k_max=k_max,
        threads=threads,
        budget_s=duration_s(budget, option="--budget"),
    )


def check_grid(ks: Sequence[int], p_mins: Sequence[float], prompts: int) -> None:
    """OptionError for the first value of a sweep that cannot be."""
    for k in ks:
        _check_range("--k", k, 1, 64)
    for p_min in p_mins:
        _check_range("--p-min", p_min, 0, 1)
    _check_range("--prompts", prompts, 1, 10_000)


def _check_range(option: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise OptionError(f"{option} is {value}.", fix=f"Give a value from {low} to {high}.")


@dataclass(frozen=True)
class PriorQuestion:
    """A target that is only named, or a question that only a prediction answers. ``build`` is 0 for a current one."""

    target: str
    host: str | None = None
    baseline_tps: float | None = None
    build: int = 0
    k: int | None = None
    p_min: float | None = None
    categories: tuple[str, ...] = ()
    is_prediction_only: bool = False
    models_dirs: tuple[Path, ...] = ()


def prior_question(
    target: str | None,
    *,
    host: str | None,
    baseline_tps: float | None,
    llama_build: str | None,
    k: int | None,
    p_min: float | None,
    predict: bool,
    categories: Sequence[str],
    demo: bool,
    models_dirs: Sequence[Path] = (),
) -> PriorQuestion | None:
    """What to predict, None where the files given are to be measured. OptionError for a value that cannot be."""
    asked = {
        "--host": host,
        "--baseline-tps": baseline_tps,
        "--llama-build": llama_build,
        "--k": k,
        "--p-min": p_min,
        "--predict": predict or None,
    }
    only = [name for name, value in asked.items() if value is not None]
    if k is not None:
        _check_range("--k", k, 1, 64)
    if p_min is not None:
        _check_range("--p-min", p_min, 0, 1)
    if baseline_tps is not None:
        _check_range("--baseline-tps", baseline_tps, 0.001, 1e6)
    build = build_number(llama_build) if llama_build is not None else 0
    if only and (target is None or demo):
        raise OptionError(
            f"{only[0]} is about a prediction for a named model.", fix="Name one: --target qwen2.5-72b-q8."
        )
    if target is None or demo or (not only and is_file_argument(target)):
        return None
    if is_file_argument(target):
        target_file(target)
    check_categories(categories)
    folders = tuple(expanded(folder) for folder in models_dirs)
    return PriorQuestion(target, host, baseline_tps, build, k, p_min, tuple(categories), bool(only), folders)


def check_categories(categories: Sequence[str]) -> None:
    """OptionError for a category that the prior does not know."""
    unknown = [category for category in categories if category not in PRIOR_CATEGORIES]
    if unknown:
        raise OptionError(
            f"--category: nothing is known of {unknown[0]!r} without measuring.",
            fix=f"Known are {', '.join(PRIOR_CATEGORIES)}.",
        )


def refuse_for_prediction(**given: object) -> None:
    """OptionError for the first option that has a value but no meaning where nothing is run."""
    for name, value in given.items():
        if value:
            raise OptionError(
                f"--{name.replace('_', '-')} has no meaning for a prediction.",
                why="The target is not on this machine, or a prediction was asked for: nothing is run.",
                fix="Leave it out, or give the target as a file and no option about predictions.",
            )


def build_number(text: str) -> int:
    """The number of a build as people write it: b7900, or 7900."""
    match = re.fullmatch(r"b?(\d{1,6})", text.strip().lower())
    if match is None or int(match[1]) == 0:
        raise OptionError(f"--llama-build: {text!r} is not a llama.cpp build.", fix="Write it as b7900.")
    return int(match[1])


def is_file_argument(text: str) -> bool:
    """Whether a target is meant as a file: it is there, or it is written as a path. Not a repository (owner/name)."""
    if _exists(expanded(text)):
        return True
    repository = re.fullmatch(r"(?:hf\.co/|https?://huggingface\.co/)?[A-Za-z0-9][\w.-]*/[\w.-]+(?::[\w.-]+)?", text)
    if text.lower().endswith(".gguf"):
        return "/" in text or "\\" in text
    return _looks_like_path(text) and repository is None


def target_file(text: str) -> Path:
    """The target as a file."""
    return _model_file(expanded(text), "--target")


def draft_files(
    drafts: Sequence[Path], draft_dirs: Sequence[Path], target: Path, note: Callable[[str], None]
) -> tuple[Path, ...]:
    """The drafts to consider: those named, then those found in the directories; by default the target's own folder,
    which may have none."""
    named = [_model_file(expanded(path), "--draft") for path in drafts]
    found = [path for directory in draft_dirs for path in _directory_files(expanded(directory), target, note)]
    if not drafts and not draft_dirs:
        found = _directory_files(target.parent, target, note)
    unique: dict[str, Path] = {}
    for path in [*named, *found]:
        unique.setdefault(_identity(path), path)
    if not unique and draft_dirs:
        where = ", ".join(str(directory) for directory in draft_dirs)
        raise FileProblem(
            "There is no draft model to consider.",
            why=f"No other GGUF model is in {where}.",
            fix="Name one with --draft FILE, or another folder; without either, methods that need no draft are tried.",
        )
    return tuple(unique.values())


def _model_file(path: Path, option: str) -> Path:
    if "\0" in str(path) or not _is_unicode(str(path)):
        raise FileProblem(
            f"{option}: the name of the file {str(path)!r} is not valid text.",
            why="It could not be written into a report or a command line.",
            fix="Rename the file.",
        )
    if not _exists(path):
        raise FileProblem(f"{option}: the file {path} does not exist.", fix="Check the path.")
    if path.is_dir():
        hint = "Use --draft-dir for a folder." if option == "--draft" else "Name the .gguf file in it."
        raise FileProblem(f"{option}: {path} is a directory, not a model file.", fix=hint)
    return path


def _directory_files(directory: Path, target: Path, note: Callable[[str], None]) -> list[Path]:
    """Model files in a directory, each split model once, without the target and without vision projectors."""
    if not directory.is_dir():
        what = "is not a directory" if _exists(directory) else "does not exist"
        raise FileProblem(f"--draft-dir: {directory} {what}.", fix="Check the path.")
    kept = []
    for path in _walk(directory, DRAFT_DIR_DEPTH, note):
        part = _SPLIT_PART.search(path.name)
        if part is not None and int(part[1]) != 1:
            continue
        if "mmproj" in path.name.lower():
            note(f"Skipped {path}: it is a vision projector (mmproj), not a draft model.")
        elif not _is_unicode(str(path)):
            note(f"Skipped {str(path)!r}: its name is not valid text.")
        elif not _same_model(path, target):
            kept.append(path)
    return kept


def _walk(directory: Path, depth: int, note: Callable[[str], None]) -> Iterator[Path]:
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        note(f"Skipped {directory}: {error.strerror or error}.")
        return
    yield from (path for path in entries if path.suffix.lower() == ".gguf" and path.is_file())
    if depth > 0:
        for folder in _folders(entries):
            yield from _walk(folder, depth - 1, note)


def _folders(entries: Iterable[Path]) -> Iterator[Path]:
    return (path for path in entries if path.is_dir() and not path.name.startswith("."))


def _same_model(path: Path, target: Path) -> bool:
    """The same file, or another part of the same split model."""
    if _SPLIT_PART.search(path.name) and _SPLIT_PART.search(target.name):
        path, target = (p.with_name(_SPLIT_PART.sub("-00001.gguf", p.name)) for p in (path, target))
    return _identity(path) == _identity(target)


def _identity(path: Path) -> str:
    try:
        return str(path.resolve())
    except (OSError, RuntimeError):  # a loop of links
        return str(path.absolute())


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long for the file system, or with a zero byte
        return False


def _looks_like_path(text: str) -> bool:
    return "/" in text or "\\" in text or text.startswith((".", "~")) or text.lower().endswith(".gguf")


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
