"""``advisor export``: a recommendation as the configuration of what serves it, and a check that it is true."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advisor import options
from advisor.choices import LastOption, SavedArgument, check_saved
from advisor.commands_explain import saved_recommendation
from advisor.errors import OptionError
from advisor.failures import errors_for_people, say
from advisor.output import check_output, deliver

if TYPE_CHECKING:
    from advisor.dialect import Dialect
    from advisor.export.check import Checked
    from advisor.export.deployment import Deployment
    from advisor.types import Recommendation

OUTSIDE = 1


class Consumer(StrEnum):
    llama_server = "llama-server"
    llama_cli = "llama-cli"
    llama_swap = "llama-swap"
    docker_compose = "docker-compose"
    systemd = "systemd"
    lm_studio = "lm-studio"
    mlx_lm = "mlx-lm"
    vllm = "vllm"
    llama_cpp_python = "llama-cpp-python"
    json = "json"


OTHER_MODELS = (Consumer.mlx_lm, Consumer.vllm)  # they have files of their own
WITHOUT_FLAGS = (*OTHER_MODELS, Consumer.lm_studio, Consumer.llama_cpp_python)  # of llama.cpp's programs


def register(app: typer.Typer) -> None:
    app.command()(export)


def export(
    file: SavedArgument = None,
    last: LastOption = False,
    to: Annotated[Consumer, typer.Option("--to", help="What it is for.")] = Consumer.llama_server,
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
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Start the llama-server command, ask two prompts, and compare. Exit code 1: slower "
            "or faster than recommended.",
        ),
    ] = False,
    workload: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --check: take the prompts from here. [default: built-in prompts]"),
    ] = None,
) -> None:
    """Write a recommendation as the flags or the configuration of what serves it."""
    with errors_for_people():
        check_saved(file, last=last)
        if llama_server is not None and llama_build is not None:
            raise OptionError("--llama-server and --llama-build exclude each other.", fix="Give one of them.")
        _refuse("--check", check, f"--to {to}", to is not Consumer.llama_server)
        _refuse("--llama-build", llama_build, "--check", check)
        _refuse("--workload", workload, "an export without --check", not check)
        for name, value in (("--llama-server", llama_server), ("--llama-build", llama_build)):
            _refuse(name, value, f"--to {to}", to in WITHOUT_FLAGS)
        for name, value in (("--target-name", target_name), ("--draft-name", draft_name)):
            _refuse(name, value, f"--to {to}", to not in OTHER_MODELS)
        check_output(output)
        rec = saved_recommendation(file)
        if check:
            _check(rec, llama_server, workload, output)
            return
        text = _text(_deployment(rec, llama_server, llama_build, target_name, draft_name), to)
        if rec.verdict == "do-not-speculate":
            say("The recommendation is not to speculate: this is the target alone.")
        deliver(lambda stream: print(text, file=stream, end=""), output)


def _refuse(option: str, given: object, where: str, meaningless: bool) -> None:
    if given and meaningless:
        raise OptionError(f"{option} has no meaning for {where}.", fix="Leave it out.")


def _deployment(
    rec: Recommendation,
    llama_server: Path | None,
    llama_build: str | None,
    target_name: str | None,
    draft_name: str | None,
) -> Deployment:
    from advisor.export.deployment import Deployment

    dialect, program = _speech(rec, llama_server, llama_build)
    return Deployment(rec, dialect, program, target_name or "", draft_name or "", windows=os.name == "nt")


def _speech(rec: Recommendation, llama_server: Path | None, llama_build: str | None) -> tuple[Dialect, str]:
    """What the llama-server of the export speaks, and how it is started."""
    from advisor.dialect import dialect_of
    from advisor.export.llama_server import PROGRAM, measured_dialect

    if llama_server is not None:
        from advisor.engines.find_server import find_server, speech
        from advisor.engines.server_process import Deadlines

        program = find_server(str(llama_server))
        return speech(program, within_s=Deadlines().speak_s)[0], program.argv[-1]
    if llama_build is not None:
        return dialect_of(options.build_number(llama_build)), PROGRAM
    return measured_dialect(rec), PROGRAM


def _text(deployment: Deployment, to: Consumer) -> str:
    if to is Consumer.json:
        from advisor.export.llama_server import command
        from advisor.report import json_document

        argv = command(deployment.rec, deployment.dialect, deployment.program)
        return json_document.dumps(json_document.document(deployment.rec, command=argv)) + "\n"
    from advisor.export.exporters import EXPORTERS

    return EXPORTERS[to](deployment)


def _check(rec: Recommendation, llama_server: Path | None, workload: Path | None, output: Path | None) -> None:
    from advisor import workload as workloads
    from advisor.engines.find_server import find_server
    from advisor.export import check
    from advisor.host.files import host_lock_path, timing_lock
    from advisor.pipeline import LOCK_TIMEOUT_S

    if workload is None and rec.workload != workloads.BUILTIN_NAME and rec.measurement.prompts:
        raise OptionError(
            "--check needs the prompts that the recommendation was measured with.",
            why=f"It is about the workload {rec.workload}; other text is accepted more or less often.",
            fix="Add --workload FILE.",
        )
    program = find_server(str(llama_server or ""))
    asked = workloads.read_workload(workload.expanduser()) if workload is not None else workloads.builtin()
    with timing_lock(host_lock_path(), timeout_s=LOCK_TIMEOUT_S, waiting=say):
        checked = check.check(rec, program, check.prompts_for(rec, asked.prompts))
    deliver(lambda stream: print(_report(checked), file=stream), output)
    if not checked.inside:
        raise typer.Exit(OUTSIDE)


def _report(checked: Checked) -> str:
    low, high = checked.interval_tps
    speed, tokens = checked.tokens_per_second, sum(run.tokens for run in checked.runs)
    place = "inside the interval" if checked.inside else "below the interval" if speed < low else "above the interval"
    categories = ", ".join(dict.fromkeys(prompt.category for prompt in checked.prompts))
    return "\n".join(
        [
            f"llama-server {checked.build.version} speculated: {len(checked.runs)} prompts ({categories}), "
            f"{tokens} tokens.",
            f"  acceptance  {checked.acceptance:7.1%}        recommended {checked.recommended_acceptance:.1%}",
            f"  speed       {speed:7.2f} tok/s  recommended {low:.2f} to {high:.2f} tok/s",
            f"The speed is {place}.",
        ]
    )
