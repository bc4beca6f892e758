"""``advisor doctor``: what is found, what is missing, and how to fix each, one line each."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

import typer

from advisor import api
from advisor.choices import Format, FormatOption
from advisor.errors import UserError
from advisor.failures import errors_for_people
from advisor.output import console_for, deliver
from advisor.printable import visible

if TYPE_CHECKING:
    from advisor.checkup import Finding

SCHEMA = "draft-advisor/doctor/1"
STYLES = {"ok": "green", "missing": "yellow", "broken": "bold red"}


def register(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(output_format: FormatOption = Format.text) -> None:
    """Say what the advisor needs and how to get what is missing.

    Measures nothing. Exit code 2 where something is broken, 0 where at most something optional is missing.
    """
    with errors_for_people():
        findings = api.doctor()
        if output_format is Format.json:
            deliver(lambda stream: _write_json(stream, findings), None)
        else:
            deliver(lambda stream: _write_text(stream, findings), None)
        if any(one.level == "broken" for one in findings):
            raise typer.Exit(UserError.exit_code)


def _write_json(stream: TextIO, findings: Sequence[Finding]) -> None:
    from advisor.report.json_document import dumps

    ok = all(one.level != "broken" for one in findings)
    print(dumps({"schema": SCHEMA, "ok": ok, "findings": [dataclasses.asdict(one) for one in findings]}), file=stream)


def _write_text(stream: TextIO, findings: Sequence[Finding]) -> None:
    from rich.text import Text

    console = console_for(stream)
    width = max(len(one.subject) for one in findings)
    for one in findings:
        fix = f" -> {one.fix}" if one.fix else ""
        line = Text.assemble(
            (f"{one.level:8}", STYLES[one.level]), f"{one.subject:{width}}  {visible(one.found)}{visible(fix)}"
        )
        console.print(line, soft_wrap=True)
