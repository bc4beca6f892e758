"""What every exporter is given, and what they share: the models as files, the words of a comment, how long a start is.

A comment must be harmless even where it is not one: zsh without its option interactive_comments runs a pasted line that
begins with #. So nothing but letters, digits and a little punctuation is left of a name that comes from a file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

from advisor.dialect import Dialect
from advisor.engines.base import Role
from advisor.engines.process import LOAD_BYTES_PER_S
from advisor.errors import OptionError
from advisor.prune import CACHE_TYPES, best_option, graphics_devices
from advisor.ranking import setting_of
from advisor.reasons.caveats import about_the_machine
from advisor.types import PLAIN_CACHE, Config, Estimate, Model, Placement, Recommendation

START_S = 120  # beside the time that reading the files may take
DOWNLOAD_S = 3600
HARMLESS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 ._,:+-%/=")
ELSEWHERE = "Deploy this recommendation with llama-server."
BASIS = {
    "measured": "measured",
    "replay": "predicted from replayed answers and measured costs",
    "prior": "predicted, nothing was measured",
}


@dataclass(frozen=True)
class Deployment:
    """A recommendation, for one build of llama-server and one kind of shell.

    ``program`` is how llama-server is started. ``target_name`` and ``draft_name`` are what a program that has its own
    files calls the models, "" where nobody said.
    """

    rec: Recommendation
    dialect: Dialect
    program: str = "llama-server"
    target_name: str = ""
    draft_name: str = ""
    windows: bool = False

    @property
    def config(self) -> Config | None:
        return chosen(self.rec)

    @property
    def placement(self) -> Placement:
        return placement_of(self.rec, self.config)

    @property
    def gpu(self) -> str:
        """The GPU whose memory was counted, where there are others that a program may take; else ""."""
        return one_of_several_gpus(self.rec, self.placement)

    @property
    def draft(self) -> Model | None:
        """The draft model, None where the method has none or the answer is not to speculate."""
        return self.rec.draft_of(self.config) if self.config is not None and self.config.draft else None

    @property
    def models(self) -> tuple[Model, ...]:
        return (self.rec.target, self.draft) if self.draft is not None else (self.rec.target,)


def chosen(rec: Recommendation) -> Config | None:
    """What to speculate with; None when the verdict is not to."""
    return rec.best.config if rec.best is not None and rec.verdict == "speculate" else None


def remarks(rec: Recommendation) -> list[str]:
    """The answer and what it holds for, as lines of a comment."""
    sampling, categories = rec.settings.sampling, ", ".join(rec.categories)
    decoding = f"temperature {sampling.temperature:g}" if sampling.temperature else "greedy decoding"
    asked = f"{rec.workload}: {categories}" if categories else rec.workload
    there = rec.at_depth
    return [
        harmless(answer(rec, rec.best) if chosen(rec) is not None else "Do not speculate: this is the target alone."),
        *([f"With {there.depth} tokens in the context: {there.speedup:.2f}x."] if there is not None else []),
        harmless(f"Holds for {decoding}, one request at a time, texts like those of the workload {asked}."),
        *map(harmless, about_the_machine(rec.measurement)),
    ]


def answer(rec: Recommendation, best: Estimate | None) -> str:
    """The speedup of an estimate in one sentence. A name in it is not made harmless."""
    if best is None:
        return "Not faster than the target alone."
    return (
        f"{rec.label_of(best.config)}, {setting_of(best.config)}: {best.speedup:.2f}x, "
        f"80 % interval {best.speedup_low:.2f} to {best.speedup_high:.2f}, {BASIS[best.evidence]}."
    )


def harmless(text: str) -> str:
    return "".join(character if character in HARMLESS else "_" for character in text)


def slug(model: Model) -> str:
    """The name of a model as the name of a service or of a served model."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in ".-_") else "-" for c in model.label.lower())
    return plain.strip("-.") or "target"


def absolute(path: str, consumer: str) -> str:
    """The path of a model for a program that is started elsewhere. OptionError where only a relative one is known."""
    if is_windows_path(path) or PurePosixPath(path).is_absolute():
        return path
    here = Path(path).absolute()
    if not here.exists():
        raise OptionError(
            f"{consumer} needs the whole path of {path}.",
            why="The recommendation was made with a relative path, which leads nowhere from here.",
            fix="Export from the folder in which it was made.",
        )
    return str(here)


def moved(rec: Recommendation, config: Config | None, move: Callable[[Model, Role], Model]) -> Recommendation:
    """The recommendation with the target, and the draft of this config, where a consumer has them."""
    draft = config.draft if config is not None else ""
    candidates = (
        replace(one, draft=move(one.draft, "draft")) if draft and one.draft.content_hash == draft else one
        for one in rec.candidates
    )
    return replace(rec, target=move(rec.target, "target"), candidates=tuple(candidates))


def is_windows_path(path: str) -> bool:
    return PureWindowsPath(path).is_absolute()


def check_known(deployment: Deployment, consumer: str) -> None:
    """OptionError where nobody knows where a model is: neither a file nor a repository."""
    for model in deployment.models:
        if not model.path and not model.hub:
            raise OptionError(
                f"{consumer} needs the file of {model.label}.",
                why="The recommendation is a prediction, and no repository is known that has it.",
                fix="Get or make the file, and recommend again with it.",
            )


def placement_of(rec: Recommendation, config: Config | None) -> Placement:
    """The target alone gets the room that a draft would have taken."""
    if config is None or not config.draft:
        options = [
            best_option(rec.target, None, rec.host, rec.settings.context, k_max=0, cache_type=one)
            for one in CACHE_TYPES
        ]
        return next((one for one in options if one.fits), options[0]).placement
    return next(one.placement for one in rec.candidates if one.draft.content_hash == config.draft)


def one_of_several_gpus(rec: Recommendation, placement: Placement) -> str:
    """The GPU of a placement, "" where it is the only one or nothing is offloaded."""
    offloads = placement.target_gpu_layers != 0 or placement.draft_gpu_layers != 0
    return placement.device if offloads and len(graphics_devices(rec.host)) > 1 else ""


def layers_in_words(count: int) -> str:
    return "all layers" if count < 0 else f"{count} layers" if count else "off"


def placement_left(deployment: Deployment, consumer: str) -> list[str]:
    """Lines that name the placement and the threads that were found, for a consumer that chooses them by itself."""
    place, threads = deployment.placement, deployment.rec.settings.threads
    parts = [f"GPU offload of the target: {layers_in_words(place.target_gpu_layers)}"]
    if deployment.draft is not None:
        parts.append(f"of the draft: {layers_in_words(place.draft_gpu_layers)}")
    parts += [f"threads: {threads}"] if threads else []
    lines = [f"Placement, threads and slots are left to {consumer}. Found with {', '.join(parts)}."]
    if place.draft_threads:
        lines.append(f"The draft was faster with {place.draft_threads} threads of its own, left to {consumer} as well.")
    return lines


def start_s(deployment: Deployment) -> int:
    """How long a start may take: reading the files from a slow disk, or downloading them."""
    load_s = sum(model.weights_bytes for model in deployment.models if model.path) / LOAD_BYTES_PER_S
    return round(START_S + load_s) + (DOWNLOAD_S if any(not model.path for model in deployment.models) else 0)


def check_fixed_length(consumer: str, config: Config) -> None:
    """OptionError when a draft may be shorter than k, for a consumer that always drafts k tokens."""
    for name, value in (("p_min", config.p_min), ("n_min", config.n_min)):
        if value:
            raise cannot_set(consumer, f"{name} = {value:g}", why="It drafts k tokens in every step.")


def check_plain_cache(consumer: str, deployment: Deployment, *, why: str) -> None:
    """OptionError when keys and values are kept quantized, for a consumer that has no setting for it."""
    if deployment.placement.cache_type != PLAIN_CACHE:
        raise cannot(consumer, f"a cache of {deployment.placement.cache_type}", why=why)


def check_first_match_drafts(consumer: str, config: Config) -> None:
    """OptionError when more than one match is wanted before the first draft, for a consumer that asks for one."""
    if config.ngram_min_hits > 1:
        raise cannot_set(consumer, f"ngram_min_hits = {config.ngram_min_hits}", why="It drafts at the first match.")


class CannotExpress(OptionError):
    """A part of the recommendation that a consumer has no words for."""


class SettingRefused(CannotExpress):
    """That part is of the setting, so another setting of the recommendation may do."""


def cannot(consumer: str, what: str, *, why: str = "") -> CannotExpress:
    """The error for a part of the recommendation that a consumer has no words for, whatever the setting."""
    return CannotExpress(f"{consumer} cannot express {what}.", why=why, fix=ELSEWHERE)


def cannot_set(consumer: str, what: str, *, why: str = "") -> SettingRefused:
    """The error for a part of the setting that a consumer has no words for: its method, p_min and so on."""
    return SettingRefused(f"{consumer} cannot express {what}.", why=why, fix=ELSEWHERE)
