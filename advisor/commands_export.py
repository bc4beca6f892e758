"""``advisor export``: a recommendation as the configuration of what serves it, and a check that it is true."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advisor import api
from advisor.choices import LastOption, SavedArgument, check_saved
from advisor.errors import OptionError
from advisor.exporters import DEFAULT_CONSUMER, EXPORTERS, exporter
from advisor.failures import errors_for_people, say, say_note
from advisor.output import check_output, deliver, is_special
from advisor.paths import expanded

if TYPE_CHECKING:
    from advisor.exporters.check import Checked
    from advisor.types import Recommendation

OUTSIDE = 1
SHELL = "#!/bin/sh"


def register(app: typer.Typer) -> None:
    app.command()(export)


def export(
    file: SavedArgument = None,
    last: LastOption = False,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="NAME",
            help=f"What it is for: {', '.join(EXPORTERS)}.",
            autocompletion=lambda: list(EXPORTERS),
        ),
    ] = DEFAULT_CONSUMER,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write it to this file.", show_default=False)
    ] = None,
    llama_server: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The llama-server it is for: it is asked what it speaks.", show_default=False
        ),
    ] = None,
    llama_build: Annotated[
        str | None,
        typer.Option(
            metavar="bN", help="The llama.cpp build it is for, such as b7900. [default: the one that was measured]"
        ),
    ] = None,
    target_name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="For mlx-lm and vllm: what they call the target.", show_default=False),
    ] = None,
    draft_name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="For mlx-lm and vllm: what they call the draft.", show_default=False),
    ] = None,
    next_best: Annotated[
        bool,
        typer.Option(
            "--next-best",
            help="Where the program has no words for the recommended setting: write the best one that it can express.",
        ),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Start the llama-server command, ask two prompts, and compare. Exit code 1: acceptance or speed "
            "is not as recommended.",
        ),
    ] = False,
    workload: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --check: take the prompts from here. [default: built-in prompts]"),
    ] = None,
) -> None:
    """Write a recommendation as flags or configuration.

    It is for llama-server, or for another program that is to serve it.
    """
    with errors_for_people():
        check_saved(file, last=last)
        _refuse("--check", check, f"--to {to}", to != DEFAULT_CONSUMER)
        for option, given in (
            ("--llama-build", llama_build),
            ("--target-name", target_name),
            ("--draft-name", draft_name),
            ("--next-best", next_best),
        ):
            _refuse(option, given, "--check", check)
        _refuse("--workload", workload, "an export without --check", not check)
        check_output(output)
        rec = api.load(file)
        if check:
            _check(rec, llama_server, workload, output)
            return
        text = api.export(
            rec,
            to,
            llama_server=llama_server,
            llama_build=llama_build,
            target_name=target_name,
            draft_name=draft_name,
            next_best=next_best,
            note=say_note,
        )
        if rec.verdict == "do-not-speculate":
            say("The recommendation is not to speculate: this is the target alone.")
        _write(text, output, script=exporter(to).script)


def _write(text: str, output: Path | None, *, script: bool = False) -> None:
    """``script``: it is a command, which a file can be run as. Pasted into a shell, its first line would not be one of
    a comment, so only a file has it."""
    is_file = output is not None and not is_special(output)
    replaces = is_file and output is not None and expanded(output).exists()
    runs = script and is_file and os.name != "nt"
    whole = f"{SHELL}\n{text}" if runs else text
    deliver(lambda stream: print(whole, file=stream, end=""), output, runs=runs)
    if replaces:
        say(f"Wrote {output}, which replaced an older one.")


def _refuse(option: str, given: object, where: str, meaningless: bool) -> None:
    if given and meaningless:
        raise OptionError(f"{option} has no meaning for {where}.", fix="Leave it out.")


def _check(rec: Recommendation, llama_server: Path | None, workload: Path | None, output: Path | None) -> None:
    checked = api.check(rec, llama_server=llama_server, workload=workload, note=say)
    _write(f"{_report(checked)}\n", output)
    if not checked.inside:
        raise typer.Exit(OUTSIDE)


def _report(checked: Checked) -> str:
    tokens, expected = sum(run.tokens for run in checked.runs), checked.expected
    rates, speeds = expected.acceptance, expected.tokens_per_second
    rate = (
        f"expected {rates.low:.1%} to {rates.high:.1%}: {checked.acceptance_place}"
        if rates is not None
        else f"recommended {expected.acceptance_rate:.1%}: not judged, texts differ too much in it"
    )
    categories = ", ".join(dict.fromkeys(prompt.category for prompt in checked.prompts))
    asked = f"{len(checked.runs)} prompts"
    lines = [
        f"llama-server {checked.build.version} speculated: {asked} ({categories}), {tokens} tokens.",
        f"  acceptance  {checked.acceptance:7.1%}        {rate}",
        f"  speed       {checked.tokens_per_second:7.2f} tok/s  expected {speeds.low:.2f} to {speeds.high:.2f} tok/s: "
        f"{checked.speed_place}",
        f"  alone       {checked.alone_tokens_per_second:7.2f} tok/s  so speculation gives {checked.speedup:.2f}x here"
        + (": it does not pay" if checked.speedup < 1 else ""),
        f"Expected of {asked} in 19 checks of 20. How much prompts differ is from {expected.spread.source}.",
    ]
    if checked.other_build is not None:
        measured = f"{checked.other_build.engine} {checked.other_build.version}"
        lines.append(f"It was measured with {measured}: another build has speeds of its own, acceptance stays.")
    return "\n".join(lines)
