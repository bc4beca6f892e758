"""A recommendation as a llama-server command line.

The flags are those of the build that is asked for: ``advisor/dialect.py`` knows how each one spells them.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
from collections.abc import Iterable, Sequence

from advisor.dialect import Dialect, dialect_of
from advisor.printable import is_printable
from advisor.prune import best_option
from advisor.types import Config, Model, Placement, Recommendation

FILE_TO_MAKE = {"-m": "TARGET.gguf", "-md": "DRAFT.gguf"}  # of models that nobody publishes: the notes say so

# Needs no quotes in cmd.exe, nor in PowerShell, where a comma makes a list and a leading @ or % has a meaning.
_PLAIN_ON_WINDOWS = re.compile(r"[A-Za-z0-9_.:\\/+=-]+")
# PowerShell ends a quoted string at a typographic quote too, and expands $ and ` inside double quotes.
_SPECIAL_IN_DOUBLE_QUOTES = re.compile("[$`\u201c\u201d\u201e]")
_SINGLE_QUOTES = re.compile("(['\u2018\u2019\u201a\u201b])")


def command(rec: Recommendation) -> list[str]:
    """The argv that serves the target as recommended; without a draft when the verdict is not to speculate."""
    config = rec.best.config if rec.best is not None and rec.verdict == "speculate" else None
    argv = ["llama-server", *_source(rec.target, "-m", "-hf")]
    if config is not None:
        argv += _speculation(rec, config)
    argv += ["-c", str(rec.settings.context)]
    argv += ["-np", "1"]  # the automatic choice is 4 slots, which is not what was measured
    argv += _offload(rec, _placement(rec, config), with_draft=config is not None and config.draft != "")
    if rec.settings.threads:
        argv += ["-t", str(rec.settings.threads)]
    if rec.measurement.repack_off:
        argv += ["--no-repack"]
    return argv


def shell(argv: Sequence[str], *, windows: bool | None = None) -> str:
    """The argv as text to paste: for a POSIX shell one flag per line; for Windows (default: where it runs) one line."""
    if windows if windows is not None else os.name == "nt":
        return " ".join(_quote_for_windows(arg) for arg in argv)
    return " \\\n  ".join(" ".join(_quote_for_posix(arg) for arg in flag) for flag in _flags(argv))


def _source(model: Model, file_flag: str, hub_flag: str) -> list[str]:
    """A file, or the repository that llama-server downloads a model from that is not here yet."""
    if model.path or not model.hub:
        return [file_flag, model.path or FILE_TO_MAKE[file_flag]]
    return [hub_flag, model.hub]


def _speculation(rec: Recommendation, config: Config) -> list[str]:
    draft = _source(rec.draft_of(config), "-md", "-hfd") if config.draft else []
    return _dialect(rec).speculation(config, draft)


def _dialect(rec: Recommendation) -> Dialect:
    """What was measured in this process is served by whatever is installed: a current build."""
    return dialect_of(rec.build.llama_cpp_build if rec.build.engine == "llama-server" else 0)


def _placement(rec: Recommendation, config: Config | None) -> Placement:
    """The target alone gets the room that a draft would have taken."""
    if config is None or not config.draft:
        return best_option(rec.target, None, rec.host, rec.settings.context, k_max=0).placement
    return next(one.placement for one in rec.candidates if one.draft.content_hash == config.draft)


def _offload(rec: Recommendation, placement: Placement, *, with_draft: bool) -> list[str]:
    """Without a device to offload to the flags only make the server print warnings."""
    offloads = placement.target_gpu_layers != 0 or placement.draft_gpu_layers != 0
    if not offloads and all(device.kind == "cpu" for device in rec.host.devices):
        return []
    layers = _dialect(rec).layers
    argv = ["-ngl", layers(placement.target_gpu_layers)]
    return [*argv, "-ngld", layers(placement.draft_gpu_layers)] if with_draft else argv


def _flags(argv: Sequence[str]) -> Iterable[list[str]]:
    """The program, then each flag together with its value. This decides the line breaks only."""
    groups: list[list[str]] = []
    for index, arg in enumerate(argv):
        if index == 0 or (arg.startswith("-") and len(arg) > 1):
            groups.append([arg])
        else:
            groups[-1].append(arg)
    return groups


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
