"""`import advisor` as a person uses it in a notebook."""

from __future__ import annotations

import doctest
import inspect
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

import advisor
from advisor import api, pipeline
from advisor.engines.simulated import SimulatedDraft, SimulatedEngine, World
from advisor.errors import FileProblem, OptionError
from advisor.progress import Progress
from advisor.testing.builders import make_recommendation
from advisor.types import Recommendation

ROOT = Path(__file__).parent.parent
PREDICTED = {"target": "qwen2.5-72b-q8", "host": "m4-max-128gb"}


@pytest.mark.parametrize("module", [advisor, api])
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
