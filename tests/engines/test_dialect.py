"""Three spellings of the same wish, each accepted by the build it is for and refused by the others."""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from advisor.cost.step_law import CURRENT, OLD, step_law
from advisor.dialect import Dialect, dialect_of, read_dialect
from advisor.engines import packaged_server
from advisor.engines.find_server import SCRIPT
from advisor.errors import EngineRefusal, OptionError
from advisor.types import Build, Config
from tests.engines.fake_llama_server import DATA, options

BUILDS = ("b8672", "b9101", "b11434")
CONFIG = Config("draft", 4, p_min=0.5, n_min=2)
DRAFT = ["-md", "draft.gguf", "-ngld", "0", "-td", "2"]
NGRAMS = [
    Config("", 8, method="ngram-mod", ngram_size=4, n_min=2),
    *(Config("", 8, method=f"ngram-{name}", ngram_size=4) for name in ("simple", "map-k", "map-k4v")),
]


def version(build: str) -> str:
    return (DATA / f"{build}.version.txt").read_text()


def helped(build: str) -> str:
    return (DATA / f"{build}.help.txt").read_text()


def read(build: str) -> Dialect:
    return read_dialect(version(build), helped(build))


@pytest.mark.parametrize(
    ("build", "flags"),
    [
        ("b8672", ["--draft-max", "4", "--draft-min", "2", "--draft-p-min", "0.5"]),
        ("b9101", ["--spec-draft-n-max", "4", "--spec-draft-n-min", "2", "--spec-draft-p-min", "0.5"]),
        (
            "b11434",
            [
                *("--spec-type", "draft-simple", "--spec-draft-n-max", "4"),
                *("--spec-draft-n-min", "2", "--spec-draft-p-min", "0.5"),
            ],
        ),
    ],
)
def test_each_build_is_told_in_its_own_words(build: str, flags: list[str]) -> None:
    assert read(build).speculation(CONFIG, DRAFT) == [*DRAFT, *flags]


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("config", [CONFIG, *NGRAMS], ids=lambda config: config.method)
def test_what_is_written_for_a_build_is_accepted_by_it(build: str, config: Config) -> None:
    given = options(helped(build), read(build).speculation(config, DRAFT if config.draft else []))
    assert str(config.k) in given.values()
    if config.method != "draft-simple":
        assert given["--spec-type"] == config.method
        assert str(config.ngram_size) in given.values()


@pytest.mark.parametrize(("speaks", "hears"), [("b8672", "b9101"), ("b8672", "b11434"), ("b9101", "b8672")])
def test_what_is_written_for_one_build_is_refused_by_another(speaks: str, hears: str) -> None:
    with pytest.raises(SystemExit, match=r"invalid argument|has been removed"):
        options(helped(hears), read(speaks).speculation(CONFIG, DRAFT))


@pytest.mark.parametrize("build", BUILDS)
def test_the_number_alone_says_the_same_as_the_help(build: str) -> None:
    assert read(build) == dialect_of(int(build[1:]))


def test_defaults_and_the_step_law_follow_the_build() -> None:
    assert [(one.default_n_max, one.default_p_min) for one in map(read, BUILDS)] == [(16, 0.75), (16, 0.75), (3, 0.0)]
    laws = [step_law(Build("llama-server", build, read(build).build)) for build in BUILDS]
    assert laws == [OLD, OLD, CURRENT]


def test_a_default_that_was_not_asked_for_is_overruled() -> None:
    plain = Config("draft", 4)
    assert read("b8672").speculation(plain)[-2:] == ["--draft-p-min", "0"]
    assert "--spec-draft-p-min" not in read("b11434").speculation(plain)
    older = helped("b8672").replace("speculative decoding\n" + " " * 40 + "(default: 0)", "(default: 5)")
    assert read_dialect(version("b8672"), older).speculation(plain)[2:4] == ["--draft-min", "0"]


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("claimed", ["version: 0 (unknown)", "version: 6000 (abc)", "version: 9 (build 20000, x)", "?"])
def test_the_help_is_believed_when_the_number_says_something_else(build: str, claimed: str) -> None:
    dialect = read_dialect(claimed, helped(build))
    assert dialect.speculation(CONFIG, DRAFT) == read(build).speculation(CONFIG, DRAFT)
    saved = dialect_of(dialect.build)
    assert saved.speculation(CONFIG, DRAFT) == dialect.speculation(CONFIG, DRAFT), "also when only the number is kept"
    assert saved.reevaluates == read(build).reevaluates


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("version: 8846 (bcdcc1044)\nbuilt with cc", 8846),
        ("version: 0.3.0-dev (build 10749, commit dfc29b64e)", 10749),
        ("ggml_cuda_init: found 1 devices\nversion: b11434 (1)", 11434),
    ],
)
def test_the_number_of_a_build_in_each_layout(text: str, number: int) -> None:
    build = "b8672" if number < 8981 else "b11434"
    assert read_dialect(text, helped(build)).build == number


@pytest.mark.parametrize("text", ["", "usage: llama-cli [options]", "\x7fELF\x00", "-m, --model FNAME  a model"])
def test_a_program_that_is_no_llama_server_is_an_error_that_says_what_to_do(text: str) -> None:
    with pytest.raises(OptionError) as caught:
        read_dialect("version: 1 (x)", text)
    assert "--llama-server" in caught.value.fix


def test_a_method_that_a_build_does_not_have_is_refused() -> None:
    with pytest.raises(EngineRefusal, match="draft-mtp"):
        read("b9101").speculation(Config("", 2, method="draft-mtp"))
    assert "draft-mtp" in read("b11434").speculation(Config("", 2, method="draft-mtp"))


def test_forced_acceptance_only_where_the_build_has_it() -> None:
    assert read("b11434").forced(2, (1.0, 0.5)) == ["--spec-synth-rates", "1,0.5"]
    with pytest.raises(EngineRefusal, match="cannot force"):
        read("b9101").forced(2, (1.0, 0.5))


@pytest.mark.parametrize("rates", [(), (0.9,), (0.9, 0.8, 0.7), (0.5, 0.6), (1.1, 1.0), (0.5, -0.1), (float("nan"), 0)])
def test_rates_that_would_end_the_server_are_refused_before_it_starts(rates: tuple[float, ...]) -> None:
    with pytest.raises(EngineRefusal, match="cannot be forced") as caught:
        read("b11434").forced(2, rates)
    assert "2 of them" in caught.value.why
    assert caught.value.fix


def test_features_are_those_of_the_help() -> None:
    lines = [line for line in helped("b11434").splitlines() if not line.startswith(("--metrics", "--repack"))]
    found = read_dialect(version("b11434"), "\n".join(lines))
    assert (found.metrics, found.no_repack, found.rejection_sampling) == (False, False, True)
    assert dataclasses.replace(found, metrics=True, no_repack=True) == read("b11434")


@pytest.mark.parametrize(
    ("number", "help_of", "borrowed"),
    [(9101, "b9101", False), (11434, "b11434", False), (11434, "b8672", True), (300, "b11434", True)],
)
def test_a_fork_is_known_by_what_it_does_not_speak(number: int, help_of: str, borrowed: bool) -> None:
    assert read_dialect(f"version: {number} (abc)", helped(help_of)).borrowed is borrowed


def test_the_packaged_server_speaks_a_current_dialect() -> None:
    def said(flag: str) -> str:
        run = [sys.executable, "-m", "advisor.engines.packaged_server", flag]
        root = Path(__file__).parents[2]
        return subprocess.run(run, capture_output=True, text=True, cwd=root, timeout=120).stdout

    dialect = read_dialect(said("--version"), said("--help"))
    assert dialect.build >= 11549
    assert dialect == dialect_of(dialect.build)
    assert "(default: 8080)" in said("--help"), "the port that llama-server has by itself"


def test_the_packaged_server_says_which_package_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert packaged_server.main(["-m", "x.gguf"]) == 2
    assert "draft-advisor[server]" in capsys.readouterr().err


def test_the_packaged_server_is_a_program_of_the_installation() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, function = project["scripts"][SCRIPT.removesuffix(".exe")].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_rejection_sampling_is_asked_for_where_it_exists():
    config = Config("d", 4, draft_sampling="probabilistic")
    asked = dialect_of(11434).speculation(config, ["-md", "d.gguf"])
    assert asked[asked.index("--spec-draft-sampling") + 1] == "probabilistic"
    assert "--spec-draft-sampling" not in dialect_of(11434).speculation(Config("d", 4), ["-md", "d.gguf"])
    with pytest.raises(EngineRefusal, match="rejection sampling"):
        dialect_of(9464).speculation(config, ["-md", "d.gguf"])
