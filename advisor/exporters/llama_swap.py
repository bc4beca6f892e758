"""A recommendation as the configuration of llama-swap: the target alone, the pair, and one entry for each kind of text
that surely wants another setting (see advisor/reasons/narrow.py).

llama-swap splits ``cmd`` into words as a shell does, after it has replaced ``${…}`` and dropped lines that begin with #
(its internal/config/commands.go and macros.go). So a name must bring no line of its own, and no ``${``.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Container
from dataclasses import replace
from typing import Any

from advisor.errors import OptionError
from advisor.exporters.deployment import (
    Deployment,
    absolute,
    answer,
    cannot,
    check_known,
    chosen,
    harmless,
    moved,
    remarks,
    slug,
    start_s,
)
from advisor.exporters.llama_server import PROGRAM, by_flag, flags, reasons
from advisor.exporters.yaml_text import yaml_text
from advisor.printable import is_printable
from advisor.types import Config, Estimate, Model, Recommendation

CONSUMER = "llama-swap"
STARTED_ELSEWHERE = True
LISTEN = ("--host 127.0.0.1", "--port ${PORT}")


def text(deployment: Deployment) -> str:
    check_known(deployment, CONSUMER)
    rec = deployment.rec
    models = {slug(rec.target): _entry(deployment, None, "The target alone.")}
    lines = remarks(rec)
    if deployment.config is not None:
        models[f"{slug(rec.target)}-speculative"] = _entry(deployment, deployment.config, answer(rec, rec.best))
    for category, best, basis, stays in _by_category(rec):
        if stays:
            lines.append(harmless(f"For {category} as for all texts: {basis}."))
        elif best is None:
            lines.append(harmless(f"For {category} the target is faster without a draft: {basis}."))
        else:
            name = _free(f"{slug(rec.target)}-{_word(category)}", models)
            models[name] = _entry(deployment, best.config, f"For {category}, {basis}: {answer(rec, best)}")
    lines += reasons(flags(rec, deployment.config, deployment.dialect))
    if deployment.program == PROGRAM:
        lines.append(f"{PROGRAM} must be on the PATH of llama-swap, or be written with its whole path.")
    return yaml_text({"healthCheckTimeout": start_s(deployment), "models": models}, lines)


def _by_category(rec: Recommendation) -> list[tuple[str, Estimate | None, str, bool]]:
    """The best of each kind of text by itself, on what that rests, and whether it is the pick of all; nothing where the
    record does not tell them apart."""
    from advisor.reasons.narrow import answers_of, counted_answers, narrowed, why_the_pick_stays  # numpy

    if len(rec.categories) < 2:
        return []
    found = []
    for category in rec.categories:
        try:
            best = narrowed(rec, category).best
        except OptionError:
            return []
        answers = answers_of(rec, category)
        basis, stays = f"on {counted_answers(answers)}", (best and best.config) == chosen(rec)
        found.append((category, best, f"{basis}, {why_the_pick_stays(answers)}" if stays else basis, stays))
    return found


def _entry(deployment: Deployment, config: Config | None, description: str) -> dict[str, Any]:
    rec = moved(deployment.rec, config, lambda model, _role: _with_whole_path(model))
    argv = [deployment.program, *flags(rec, config, deployment.dialect)]
    lines = [" ".join(_quoted(arg, windows=deployment.windows) for arg in flag) for flag in by_flag(argv)]
    return {
        "description": harmless(description),
        "checkEndpoint": "/health",
        "cmd": "".join(f"{line}\n" for line in (*lines, *LISTEN)),
    }


def _with_whole_path(model: Model) -> Model:
    return replace(model, path=absolute(model.path, CONSUMER)) if model.path else model


def _quoted(arg: str, *, windows: bool) -> str:
    if not all(is_printable(character) for character in arg):
        raise cannot(CONSUMER, f"the name {arg!r}", why="It reads its commands line by line, as UTF-8.")
    if not windows:
        return shlex.quote(arg).replace("${", "$''{")  # no macro: the quotes end and begin again in between
    if "${" in arg:
        raise cannot(CONSUMER, f"the name {arg!r} on Windows", why="It takes what follows ${ for a macro.")
    return subprocess.list2cmdline([arg])


def _word(category: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in category.lower())


def _free(name: str, taken: Container[str]) -> str:
    return name if name not in taken else _free(f"{name}-2", taken)
