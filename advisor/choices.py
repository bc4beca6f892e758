"""Options that several commands share, and what they mean together."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from advisor.errors import OptionError


class Format(StrEnum):
    text = "text"
    json = "json"


class Engine(StrEnum):
    llama_cpp_python = "llama-cpp-python"
    llama_server = "llama-server"


FormatOption = Annotated[Format, typer.Option("--format", help="text for people, json for programs.")]
DraftDirOption = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="DIR",
        help="A folder of draft models. Can be repeated. [default: the target's folder, without --draft]",
    ),
]
WorkloadOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Your prompts: JSON Lines, or one per line. [default: built-in prompts]"),
]
ContextOption = Annotated[int, typer.Option(metavar="N", help="The context size you will serve, in tokens.")]
TemperatureOption = Annotated[
    float, typer.Option(metavar="N", help="The temperature you will sample with; 0 is greedy.")
]
SeedOption = Annotated[int, typer.Option(metavar="N", help="The seed of all sampling.")]
MaxTokensOption = Annotated[int, typer.Option(metavar="N", help="The longest answer, in tokens.")]
ServerOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The llama-server to run; implies --engine llama-server. [default: found]"),
]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Measure again what is stored.")]
OutputOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the report to this file, not to standard output.")
]
SavedArgument = Annotated[
    Path | None,
    typer.Argument(metavar="[FILE]", show_default=False, help="A recommendation saved with `recommend --format json`."),
]
LastOption = Annotated[bool, typer.Option("--last", help="The last recommendation; the default without FILE.")]


def server_asked(engine: Engine, llama_server: Path | None) -> str | None:
    """The llama-server to run: its path, "" where one is to be found, None where none was asked for."""
    if llama_server is None and engine is not Engine.llama_server:
        return None
    return str(llama_server or "")


def check_saved(file: Path | None, *, last: bool) -> None:
    """OptionError where two recommendations are named."""
    if file is not None and last:
        raise OptionError("FILE and --last exclude each other.", fix="Give one of them.")
