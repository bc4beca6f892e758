"""The documentation builds without a warning, its generated pages are fresh, and its commands exist."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

import advisor
from advisor import api
from advisor.cli import EXIT_CODES, app
from benchmarks.parts import CHECKS, DOCUMENTED
from scripts import reference

ROOT = reference.ROOT
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("notebooks/*.md")])
COMMANDS = typer.main.get_command(app)
PROMPTED = re.compile(r"^(?:\.venv/bin/)?(advisor|python -m benchmarks|make) (?P<rest>.*)$")
INLINE = re.compile(r"`(?:\.venv/bin/)?(advisor|python -m benchmarks|make) (?P<rest>[^`]*)`")


def lines_of_code(text: str) -> Iterator[str]:
    """The lines of indented and of fenced blocks, without what surrounds them."""
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip()


def commands_in(text: str) -> Iterator[tuple[str, str]]:
    """(program, what follows) of every command that a page tells the reader to run or names."""
    for line in lines_of_code(text):
        if match := PROMPTED.match(line):
            yield match[1], match["rest"]
    for match in INLINE.finditer(text):
        yield match[1], match["rest"]


def told(program: str) -> pytest.MarkDecorator:
    """Parametrizes over (page, what follows) of every command of a program; generated pages are tested below."""
    found = {
        (page.relative_to(ROOT).as_posix(), rest)
        for page in PAGES
        if page not in reference.PAGES
        for name, rest in commands_in(page.read_text(encoding="utf-8"))
        if name == program
    }
    assert found
    return pytest.mark.parametrize(("page", "rest"), sorted(found))


@told("advisor")
def test_every_advisor_command_exists_with_its_options(page: str, rest: str) -> None:
    words = [word for word in shlex.split(rest, comments=True) if word not in ("...", "…", "|")]
    if not words or words[0].startswith("--"):
        known = {name for option in COMMANDS.params for name in option.opts}
        assert set(words) <= known | {"--help"}, page
        return
    command = COMMANDS.commands[words[0]]
    if hasattr(command, "commands"):
        command, words = command.commands[words[1]], words[1:]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}
    asked = {word.split("=")[0] for word in words[1:] if word.startswith("-") and word != "-"}
    assert asked <= known, f"{page}: advisor {rest}"


@told("make")
def test_every_target_of_make_exists(page: str, rest: str) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert rest.split()[0] in targets, page


@told("python -m benchmarks")
def test_every_benchmark_exists(page: str, rest: str) -> None:
    part = rest.split()[0]
    assert part in {*DOCUMENTED, *CHECKS, "PART"}, page


@pytest.mark.parametrize("page", reference.PAGES, ids=lambda page: page.name)
def test_generated_pages_are_fresh(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == reference.PAGES[page](), "run: make reference"


def test_every_option_of_every_command_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    nested = {f"profile {name}": one for name, one in COMMANDS.commands["profile"].commands.items()}
    for name, command in {**COMMANDS.commands, **nested}.items():
        section = text.split(f"## advisor {name}\n")[1].split("\n## ")[0]
        for option in command.params:
            if option.opts[0].startswith("-"):
                assert any(one in section for one in option.opts), f"{name} {option.opts}"


def test_every_public_function_is_named_on_the_page_of_functions() -> None:
    text = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8").split("```")[0]
    functions = [name for name in advisor.__all__ if inspect.isfunction(getattr(advisor, name))]
    assert [name for name in functions if f"| `advisor.{name}` | " not in text] == []


def test_every_picture_that_is_shown_is_there_and_no_other() -> None:
    shown = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    }
    assert shown == set((ROOT / "docs" / "images").glob("*"))


def test_it_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-E", "-d", str(tmp_path / "trees")]
    built = subprocess.run(
        [*command, "-c", "docs", ".", str(tmp_path / "site")], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "site" / "docs" / "index.html").exists()
    functions = (tmp_path / "site" / "docs" / "reference" / "python.html").read_text(encoding="utf-8")
    assert [name for name in api.__all__ if f'id="advisor.api.{name}"' not in functions] == []


def test_every_dependency_is_reviewed_and_nothing_else() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: named(wanted) for name, wanted in project["optional-dependencies"].items()}
    direct, optional = named(project["dependencies"]), extras["server"] | extras["fleet"]
    rows = dict(re.findall(r"^\| ([\w-]+) \([\d.]+(, optional)?\)", page, re.MULTILINE))
    assert {name for name, is_optional in rows.items() if not is_optional} == direct
    assert {name for name, is_optional in rows.items() if is_optional} == optional
    others = page.split("For tests and checks only:")[1].split("They are not")[0]
    developed_with = extras["test"] | extras["chaos"] | extras["notebooks"] | extras["docs"]
    assert developed_with - optional - {"draft-advisor"} <= set(re.findall(r"[\w-]+", others))


def named(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[>=;]", one)[0] for one in requirements}


def test_contributing_names_every_check() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\ncheck:")[1].split("\n\n")[0]
    tools = {"lint-imports": "import-linter", "ruff": "ruff, ruff format"}
    told = re.search(r"make check .*", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert told is not None
    for tool in re.findall(r"\$\(BIN\)/([\w-]+)", recipe):
        assert tools.get(tool, tool) in told[0], tool


def test_the_page_of_exit_codes_has_those_that_help_names() -> None:
    page = (ROOT / "docs" / "reference" / "environment.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\d+) \| (.*) \|$", page, re.MULTILINE))
    lines = dict(re.findall(r"^  (\d+) +(.+)$", EXIT_CODES, re.MULTILINE))
    assert set(rows) == set(lines)
    assert all(rows[code].startswith(lines[code].split(":")[0]) for code in ("0", "2", "3"))


def test_what_is_compiled_again_is_not_taken_from_pips_cache() -> None:
    lines = [line for page in PAGES for line in page.read_text(encoding="utf-8").splitlines()]
    again = [line for line in lines if "--force-reinstall" in line]
    assert len(again) > 2
    assert [line for line in again if "--no-cache-dir" not in line] == []


def test_a_broken_link_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    settings = (ROOT / "docs" / "conf.py").read_text(encoding="utf-8")
    (tmp_path / "docs" / "conf.py").write_text(settings, encoding="utf-8")
    (tmp_path / "docs" / "index.md").write_text("# Title\n\n[a](nowhere.md) [b](#not-here)\n", encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", "docs", ".", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert built.returncode != 0
    assert "nowhere.md" in built.stderr
    assert "not-here" in built.stderr
