"""A recommendation as a llama-server command line.

The flags are those of the build that is asked for: ``advisor/dialect.py`` knows how each one spells them.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace

from advisor.dialect import DRAFT_SAMPLING, OLDER_SERVER, Dialect, cache_flags, dialect_of
from advisor.errors import EngineRefusal, OptionError
from advisor.exporters.deployment import Deployment, chosen, one_of_several_gpus, placement_of, remarks
from advisor.ngram import METHODS
from advisor.printable import is_printable
from advisor.types import Config, Model, Placement, Recommendation, Sampling

PROGRAM = "llama-server"
SCRIPT = True
FILE_TO_MAKE = {"-m": "TARGET.gguf", "-md": "DRAFT.gguf"}  # of models that nobody publishes: the notes say so
LOOKUP, LONGEST = "tokens that are looked up in the text", "the longest draft"
ASKED_FOR = "that was asked for, of requests that name none"
# Why each flag is there. They become comments that must do no harm in a shell that runs them: no quotes, no brackets.
REASONS = {
    "-m": "the target",
    "-hf": "the target, downloaded at the first start",
    "-md": "the draft",
    "-hfd": "the draft, downloaded at the first start",
    "--spec-type": "the method: without it nothing speculates, even where a draft is loaded",
    "--spec-draft-n-max": LONGEST,
    "--draft-max": LONGEST,
    "--spec-draft-n-min": "shorter drafts are thrown away",
    "--draft-min": "shorter drafts are thrown away",
    "--spec-draft-p-min": "a draft ends where it is less sure than this",
    "--draft-p-min": "a draft ends where it is less sure than this",
    "--spec-ngram-size-n": LOOKUP,
    "--spec-ngram-size-m": LONGEST,
    "--spec-ngram-min-hits": "matches before the first draft",
    "--spec-ngram-mod-n-match": LOOKUP,
    "--spec-ngram-mod-n-min": "shorter drafts are thrown away",
    "--spec-ngram-mod-n-max": LONGEST,
    **{
        f"--spec-{method}-{flag}": reason
        for method in METHODS
        if method != "ngram-mod"
        for flag, reason in (
            ("size-n", LOOKUP),
            ("size-m", LONGEST),
            ("min-hits", "matches before the first draft"),
        )
    },
    DRAFT_SAMPLING: "the draft is sampled and verified by rejection",
    "-c": "the context that was asked for",
    **dict.fromkeys(("-ctk", "-ctv", "-ctkd", "-ctvd"), "the cache is quantized: else it would not fit"),
    "-np": "one slot, as it was measured: the automatic choice is four",
    "--metrics": "counters for advisor watch",
    "-ngl": "layers of the target on the GPU",
    "-ngld": "layers of the draft on the GPU",
    "-dev": "the GPU whose memory was counted: by itself it would take all of them",
    "-devd": "the same GPU for the draft",
    "-td": "threads of the draft: it was faster so",
    "-t": "threads that it was measured with",
    "--no-repack": "llama.cpp crashes on this machine with repacked weights",
    "--temp": f"the temperature {ASKED_FOR}",
    "--top-p": f"the top-p {ASKED_FOR}",
    "--top-k": f"the top-k {ASKED_FOR}",
    "--min-p": f"the min-p {ASKED_FOR}",
}

# Needs no quotes in cmd.exe, nor in PowerShell, where a comma makes a list and a leading @ or % has a meaning.
_PLAIN_ON_WINDOWS = re.compile(r"[A-Za-z0-9_.:\\/+=-]+")
# PowerShell ends a quoted string at a typographic quote too, and expands $ and ` inside double quotes.
_SPECIAL_IN_DOUBLE_QUOTES = re.compile("[$`\u201c\u201d\u201e]")
_SINGLE_QUOTES = re.compile("(['\u2018\u2019\u201a\u201b])")


def text(deployment: Deployment) -> str:
    """The command to paste or to run as a script, below a comment on every flag."""
    argv = command(deployment.rec, deployment.dialect, deployment.program)
    return commented(argv, remarks(deployment.rec), windows=deployment.windows)


def command(rec: Recommendation, dialect: Dialect | None = None, program: str = PROGRAM) -> list[str]:
    """The argv that serves the target as recommended; without a draft when the verdict is not to speculate.

    Raises OptionError when the build has no words for it.
    """
    return [program, *flags(rec, chosen(rec), dialect or measured_dialect(rec))]


def flags(rec: Recommendation, config: Config | None, dialect: Dialect, *, serves: bool = True) -> list[str]:
    """The flags of one config, None for the target alone; without those that only a server knows if not ``serves``."""
    argv = _source(rec.target, "-m", "-hf")
    if config is not None:
        argv += _speculation(rec, config, dialect)
    argv += ["-c", str(rec.settings.context)]
    if serves:
        argv += ["-np", "1"]  # the automatic choice is 4 slots, which is not what was measured
        argv += ["--metrics"] if dialect.metrics else []
    place = placement_of(rec, config)
    argv += cache_flags(place.cache_type)
    if config is not None and config.draft:
        argv += cache_flags(place.cache_type, of_draft=True)
    argv += _offload(rec, place, dialect, with_draft=config is not None and config.draft != "")
    if rec.settings.threads:
        argv += ["-t", str(rec.settings.threads)]
    if config is not None and config.draft and place.draft_threads:
        argv += ["-td", str(place.draft_threads)]
    if rec.measurement.repack_off:
        argv += _no_repack(dialect)
    return argv + sampling_flags(rec.settings.sampling)


def sampling_flags(sampling: Sampling) -> list[str]:
    """The sampling of requests that name none: acceptance holds for what it was found with, not for the temperature of
    0.8 that llama.cpp has by itself."""
    if sampling.temperature == 0:
        return ["--temp", "0"]  # nothing is left for the others to choose from
    values = {
        "--temp": sampling.temperature,
        "--top-p": sampling.top_p,
        "--top-k": sampling.top_k,
        "--min-p": sampling.min_p,
    }
    return [part for flag, value in values.items() for part in (flag, f"{value:g}")]


def measured_dialect(rec: Recommendation) -> Dialect:
    """What was measured in this process is served by whatever is installed: a current build."""
    if rec.build.engine != "llama-server":
        return dialect_of(0)
    number = rec.build.llama_cpp_build
    return replace(dialect_of(number), borrowed=number > 0 and rec.build.version != f"b{number}")


def commented(argv: Sequence[str], lines: Sequence[str], *, windows: bool) -> str:
    """The command below a comment: the lines, then what each flag is for. A continued command takes no comments."""
    comment = "".join(f"# {line}\n" for line in (*lines, *reasons(argv)))
    return f"{comment}{shell(argv, windows=windows)}\n"


def reasons(argv: Sequence[str]) -> list[str]:
    """Why each flag is there, one line each."""
    known = [flag for flag in dict.fromkeys(group[0] for group in by_flag(argv)) if flag in REASONS]
    width = max(map(len, known), default=0)
    return [f"{flag:{width}}  {REASONS[flag]}" for flag in known]


def shell(argv: Sequence[str], *, windows: bool | None = None) -> str:
    """The argv as text to paste: for a POSIX shell one flag per line; for Windows (default: where it runs) one line."""
    if windows if windows is not None else os.name == "nt":
        return " ".join(_quote_for_windows(arg) for arg in argv)
    return " \\\n  ".join(" ".join(_quote_for_posix(arg) for arg in flag) for flag in by_flag(argv))


def by_flag(argv: Sequence[str]) -> Iterable[list[str]]:
    """The program, then each flag together with its value. This decides the line breaks only."""
    groups: list[list[str]] = []
    for index, arg in enumerate(argv):
        if index == 0 or (arg.startswith("-") and len(arg) > 1):
            groups.append([arg])
        else:
            groups[-1].append(arg)
    return groups


def _source(model: Model, file_flag: str, hub_flag: str) -> list[str]:
    """A file, or the repository that llama-server downloads a model from that is not here yet."""
    if model.path or not model.hub:
        return [file_flag, model.path or FILE_TO_MAKE[file_flag]]
    return [hub_flag, model.hub]


def _speculation(rec: Recommendation, config: Config, dialect: Dialect) -> list[str]:
    draft = _source(rec.draft_of(config), "-md", "-hfd") if config.draft else []
    try:
        return dialect.speculation(config, draft)
    except EngineRefusal as refusal:  # nothing was run: here it is a matter of the build that was asked for
        raise OptionError(refusal.what, why=refusal.why, fix=refusal.fix) from None


def _no_repack(dialect: Dialect) -> list[str]:
    if not dialect.no_repack:
        raise OptionError(
            "This llama-server has no --no-repack.",
            why="llama.cpp crashes on this machine with repacked weights, and this build cannot do without.",
            fix=OLDER_SERVER,
        )
    return ["--no-repack"]


def _offload(rec: Recommendation, placement: Placement, dialect: Dialect, *, with_draft: bool) -> list[str]:
    """Without a device to offload to the flags only make the server print warnings."""
    offloads = placement.target_gpu_layers != 0 or placement.draft_gpu_layers != 0
    if not offloads and all(device.kind == "cpu" for device in rec.host.devices):
        return []
    argv = ["-ngl", dialect.layers(placement.target_gpu_layers)]
    argv += ["-ngld", dialect.layers(placement.draft_gpu_layers)] if with_draft else []
    if gpu := one_of_several_gpus(rec, placement):
        argv += ["-dev", gpu, *(["-devd", gpu] if with_draft else [])]
    return argv


def _quote_for_posix(arg: str) -> str:
    """Quoted for sh. Control characters become printf calls: raw, they would drive the terminal they are shown on."""
    runs = itertools.groupby(arg, key=lambda character: character == "\n" or is_printable(character))
    words = ((plain, "".join(characters)) for plain, characters in runs)
    return "".join(shlex.quote(word) if plain else _printf(word) for plain, word in words) or "''"


def _printf(text: str) -> str:
    octal = "".join(f"\\{byte:03o}" for byte in os.fsencode(text))
    return f"\"$(printf '{octal}')\""


def _quote_for_windows(arg: str) -> str:
    """Quoted so that cmd.exe and PowerShell read the same; a name with $ or ` can only be made safe for PowerShell."""
    if _PLAIN_ON_WINDOWS.fullmatch(arg):
        return arg
    if _SPECIAL_IN_DOUBLE_QUOTES.search(arg):
        return "'" + _SINGLE_QUOTES.sub(r"\1\1", arg) + "'"
    trailing = len(arg) - len(arg.rstrip("\\"))
    return '"' + arg.replace('"', '""') + "\\" * trailing + '"'
