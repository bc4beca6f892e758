"""Option types that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Format(StrEnum):
    text = "text"
    json = "json"


class Engine(StrEnum):
    llama_cpp_python = "llama-cpp-python"
    llama_server = "llama-server"


FormatOption = Annotated[Format, typer.Option("--format", help="text for people, json for programs.")]
