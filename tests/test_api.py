"""`import advisor` as a person uses it in a notebook."""

from __future__ import annotations

import dataclasses
import doctest
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer.main

import advisor
from advisor import api, pipeline
from advisor.api import answers, machine, using
from advisor.cli import app
from advisor.engines.simulated import SimulatedDraft, SimulatedEngine, World
from advisor.errors import FileProblem, OptionError
from advisor.profiles.record import dumps
from advisor.progress import Progress
from advisor.testing.builders import make_recommendation
from advisor.types import Recommendation
from tests.profiles.test_files import make_origin

ROOT = Path(__file__).parent.parent
PREDICTED = {"target": "qwen2.5-72b-q8", "host": "m4-max-128gb"}


@pytest.mark.parametrize("module", [advisor, answers, machine, using])
def test_the_examples_in_the_documentation_are_true(module) -> None:
    done = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert done.failed == 0
    assert done.attempted > 0


def test_importing_it_is_instant_and_every_name_is_there() -> None:
    code = (
        "import sys, advisor\nloaded = sorted(name for name in sys.modules if name.startswith('advisor'))\n"
        "assert loaded == ['advisor'], loaded\nassert not {'numpy', 'pydantic', 'typer'} & set(sys.modules)\n"
        "import advisor.pipeline, advisor.cli\n"  # submodules must not take the place of functions
        "print([name for name in advisor.__all__ if not hasattr(advisor, name)], callable(advisor.recommend))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent.parent
    )
    assert done.stdout == "[] True\n", done.stderr
    assert set(advisor.__all__) <= set(dir(advisor))
    with pytest.raises(AttributeError, match="has no attribute 'recomend'"):
        advisor.recomend  # noqa: B018


def test_no_module_has_the_name_of_a_public_function() -> None:
    folder = Path(advisor.__file__).parent
    modules = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert not modules & set(advisor.__all__)


ANSWERED_BY = {
    "recommend": "recommend",
    "probe": "probe",
    "models": "models",
    "pull": "pull",
    "import": "import_results",
    "fit-priors": "fit_priors",
    "doctor": "doctor",
    "explain": "explain",
    "export": "export",
    "fleet": "recommend_fleet",
    "worker": "run_worker",
    "profile export": "export_profile",
    "profile import": "import_profiles",
    "profile merge": "merge_profiles",
    "profile list": "list_profiles",
    "sweep": "sweep",
    "watch": "observe",
}
"""Every command, and the public function that does the same from Python."""


def commands(group: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{above}{name} ")
        else:
            yield f"{above}{name}", command


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_every_command_has_a_public_function() -> None:
    assert set(ANSWERED_BY) == set(COMMANDS)
    assert set(ANSWERED_BY.values()) <= set(api.__all__) <= set(advisor.__all__)
    assert all(callable(getattr(advisor, name)) for name in api.__all__)


ASKED_OTHERWISE = {
    "draft": "drafts",
    "draft_dir": "draft_dirs",
    "category": "categories",
    "models_dir": "models_dirs",
    "k": "lengths",
    "p_min": "p_mins",
}
HOW_IT_IS_SHOWN = {"output_format", "output", "last", "file"}


@pytest.mark.parametrize("command", ["fleet", "worker", "sweep", "profile export", "profile import", "profile merge"])
def test_what_a_command_can_be_told_its_function_can_be_told(command: str) -> None:
    keywords = set(inspect.signature(getattr(advisor, ANSWERED_BY[command])).parameters)
    asked = {ASKED_OTHERWISE.get(one.name, one.name) for one in COMMANDS[command].params}
    assert asked - HOW_IT_IS_SHOWN - {"draftbench"} <= keywords


def test_a_profile_travels_between_stores(tmp_path: Path) -> None:
    rec = dataclasses.replace(make_recommendation(), origin=make_origin())
    profile = advisor.export_profile(rec)
    path = tmp_path / "profile.json"
    path.write_bytes(dumps(profile))
    store = tmp_path / "store"
    assert advisor.import_profiles([path], store=store) == ((profile, True),)
    assert advisor.import_profiles([path], store=store) == ((profile, False),)
    assert advisor.list_profiles(store=store) == (profile,)
    assert advisor.list_profiles() == ()
    assert advisor.merge_profiles([path, path]) == (profile, ())


def test_a_fleet_is_answered_machine_by_machine(tmp_path: Path) -> None:
    inventory = tmp_path / "fleet.yaml"
    inventory.write_text(
        "hosts:\n  - {name: mac, host: m4-max-128gb}\n  - {name: pc, host: rtx-4090}\n", encoding="utf-8"
    )
    found = advisor.recommend_fleet("qwen2.5-14b-q4_k_m", inventory, context=8192)
    assert [row.place.name for row in found.rows] == ["mac", "pc"]
    with pytest.raises(OptionError, match="--context"):
        advisor.recommend_fleet("qwen2.5-14b-q4_k_m", inventory, context=1)


def test_a_worker_says_what_cannot_be_before_it_serves(tmp_path: Path) -> None:
    with pytest.raises(FileProblem):
        advisor.run_worker("tcp://127.0.0.1:1", [tmp_path / "nowhere"])
    with pytest.raises(OptionError, match="--threads"):
        advisor.run_worker("tcp://127.0.0.1:1", threads=-1)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_no_time_that_cannot_be_waited_for(seconds: float) -> None:
    with pytest.raises(OptionError, match="seconds"):
        advisor.observe("http://127.0.0.1:1", seconds=seconds)


def test_every_keyword_is_described_and_has_an_option() -> None:
    """What recommend takes, the command takes, but for what only a program can give."""
    from advisor.cli import recommend as command

    keywords = set(inspect.signature(advisor.recommend).parameters)
    options = set(inspect.signature(command).parameters)
    renamed = {"draft": "drafts", "draft_dir": "draft_dirs", "category": "categories", "models_dir": "models_dirs"}
    renamed |= {"budget": "budget_seconds", "share_search": "shared_search"}
    assert {renamed.get(one, one) for one in options} - keywords == {"output_format", "show_all", "output"}
    assert keywords - {renamed.get(one, one) for one in options} == {"store", "progress"}
    described = advisor.recommend.__doc__ or ""
    assert [one for one in keywords if one not in described] == []


def test_defaults_are_those_of_the_command() -> None:
    from advisor.cli import recommend as command

    api_defaults = {name: one.default for name, one in inspect.signature(advisor.recommend).parameters.items()}
    for name, parameter in inspect.signature(command).parameters.items():
        if name in api_defaults and parameter.default is not None and name != "engine":
            assert api_defaults[name] == parameter.default, name


def test_a_store_of_ones_own_leaves_the_usual_one_alone(tmp_path: Path, data_directory: Path) -> None:
    rec = advisor.recommend(**PREDICTED, store=tmp_path / "own")
    assert advisor.load(store=tmp_path / "own") == rec
    assert not data_directory.exists()
    with pytest.raises(FileProblem):
        advisor.load()


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple]:
    """What reaches the pipeline; it answers at once."""
    for name in ("target.gguf", "draft.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    monkeypatch.chdir(tmp_path)
    seen: list[tuple] = []

    def recommend(request: pipeline.Request, progress: Progress, start: object = None) -> Recommendation:
        seen.append((request, start))
        return make_recommendation()

    monkeypatch.setattr(pipeline, "recommend", recommend)
    return seen


def test_files_are_measured_within_the_seconds_given(requests: list[tuple]) -> None:
    assert advisor.recommend("target.gguf", ["draft.gguf"], budget_seconds=90, temperature=0.8).best is not None
    ((request, _start),) = requests
    assert (request.target, request.drafts) == (Path("target.gguf"), (Path("draft.gguf"),))
    assert (request.settings.budget_s, request.settings.sampling.temperature) == (90, 0.8)
    assert (request.server, request.fresh) == (None, False)


@pytest.mark.parametrize(
    ("engine", "server"),
    [({"engine": "llama-server"}, ""), ({"llama_server": "/opt/llama-server"}, "/opt/llama-server")],
)
def test_the_server_is_named_as_on_the_command_line(requests: list[tuple], engine: dict, server: str) -> None:
    advisor.recommend("target.gguf", **engine)
    assert requests[0][0].server == server


def test_an_engine_of_ones_own_is_started(requests: list[tuple]) -> None:
    def start(extra_buffers, on_remedy):
        return SimulatedEngine(World((0.1,), {"": SimulatedDraft(0.01, {"": 0.5})}))

    advisor.recommend("target.gguf", engine=start)
    assert requests[0][1] is start


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"engine": "exllama"}, "--engine: 'exllama' is none"),
        ({"budget_seconds": 0}, "--budget"),
        ({"budget_seconds": float("nan")}, "--budget"),
        ({"drafts": "draft.gguf"}, "not a list of paths"),
        ({"context": 1}, "--context"),
        ({"k_max": 100}, "--k-max"),
    ],
)
def test_what_cannot_be_is_told_before_anything_runs(requests: list[tuple], wrong: dict, complaint: str) -> None:
    with pytest.raises(OptionError, match=complaint):
        advisor.recommend("target.gguf", **wrong)
    assert requests == []


def test_a_sweep_gets_its_grid(requests: list[tuple], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(pipeline, "sweep", lambda request, grid, progress: seen.append((request, grid)))
    advisor.sweep("target.gguf", lengths=[8, 2], prompts=3)
    ((request, grid),) = seen
    assert (grid.ks, grid.p_mins, grid.prompts) == ((2, 8), (0.0,), 3)
    assert request.settings.k_max == 8


def test_rows_are_those_of_the_table_with_the_same_columns_each() -> None:
    rec = make_recommendation()
    rows, table = advisor.to_rows(rec), advisor.to_rows(rec, every=False)
    assert [row["speedup"] for row in rows] == [estimate.speedup for estimate in rec.estimates]
    assert {tuple(row) for row in rows} == {tuple(advisor.COLUMNS)}
    assert [row["label"] for row in table] == ["Example-0.5B-Instruct Q8_0", "Example-1.5B-Instruct Q4_K_M"]
    assert [row["is_best"] for row in rows].count(True) == 1
    assert rows[0]["draft_hash"] in rec.traces
    assert json.loads(json.dumps(rows)) == rows


def test_an_export_to_json_is_loaded_again(tmp_path: Path) -> None:
    rec = make_recommendation()
    path = tmp_path / "saved.json"
    path.write_text(advisor.export(rec, to="json"), encoding="utf-8")
    assert advisor.load(str(path)) == rec
    schema = json.loads((Path(advisor.__file__).parent / "schema" / "recommendation.schema.json").read_text())
    jsonschema.validate(json.loads(path.read_text()), schema)


def test_a_page_of_it() -> None:
    assert "<html" in advisor.to_html(make_recommendation())
