"""The commands with a pipeline that answers at once; what a user types, sees, and gets as an exit code."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from advisor import pipeline
from advisor.budget import Budget
from advisor.cli import app
from advisor.errors import EngineCrash, NothingFits, StoreError
from advisor.options import PriorQuestion
from advisor.pipeline import Interrupted, Request
from advisor.progress import Progress
from advisor.report.json_document import load
from advisor.testing.builders import make_host, make_recommendation
from advisor.types import Host, Recommendation, Settings

ROOT = Path(__file__).parent.parent


class Pipeline:
    """Stands in for the pipeline: keeps the requests and answers, or fails, as told."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answer: Recommendation | BaseException = make_recommendation()

    def recommend(self, request: Request, progress: Progress, *, budget: Budget) -> Recommendation:
        self.requests.append(request)
        progress.stage("replay", 2)
        progress.step("one draft")
        progress.note("a remedy was applied")
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    stand_in = Pipeline()
    monkeypatch.setattr(pipeline, "recommend", stand_in.recommend)
    return stand_in


@pytest.fixture
def foreseen(monkeypatch: pytest.MonkeyPatch) -> list[PriorQuestion]:
    """Predictions that were asked for; they are answered at once, and no model is on disk."""
    asked: list[PriorQuestion] = []

    def foresee(question: PriorQuestion, settings: Settings, note: Callable[[str], None]) -> Recommendation:
        asked.append(question)
        return make_recommendation(settings=settings)

    monkeypatch.setattr(pipeline, "foresee", foresee)
    monkeypatch.setattr(pipeline, "find_on_disk", lambda question, context, note: None)
    return asked


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A target with one draft beside it. Their content does not matter to the commands."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "draft.gguf").write_bytes(b"GGUF")
    (folder / "target.gguf").write_bytes(b"GGUF")
    return folder / "target.gguf"


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def advise(target: Path, *args: str | Path) -> Result:
    return run("recommend", "--target", target, *args)


class TestRecommend:
    def test_prints_the_report(self, fake: Pipeline, target: Path) -> None:
        result = advise(target)
        assert result.exit_code == 0
        assert "Verdict" in result.stdout
        assert "llama-server" in result.stdout
        assert "note: a remedy was applied" in result.stderr

    def test_defaults(self, fake: Pipeline, target: Path) -> None:
        advise(target)
        (request,) = fake.requests
        assert request.target == target
        assert request.drafts == (target.with_name("draft.gguf"),)
        assert request.workload.name == "built-in"
        assert len(request.workload.prompts) >= 28
        assert not request.fresh
        made = request.settings
        assert (made.context, made.budget_s, made.max_tokens, made.k_max, made.threads) == (4096, 300, 256, 16, 0)
        assert (made.sampling.temperature, made.sampling.top_p, made.sampling.seed) == (0, 0.95, 1)

    def test_every_option_arrives(self, fake: Pipeline, target: Path, tmp_path: Path) -> None:
        prompts = tmp_path / "prompts.jsonl"
        prompts.write_text('{"prompt": "one", "category": "a"}\n{"prompt": "two", "category": "b"}\n')
        other = tmp_path / "elsewhere"
        other.mkdir()
        (other / "found.gguf").write_bytes(b"GGUF")
        draft = target.with_name("draft.gguf")
        result = advise(
            *(target, "--draft", draft, "--draft-dir", other, "--workload", prompts, "--category", "b"),
            *("--context", "8192", "--budget", "90s", "--temperature", "0.8", "--top-p", "0.9", "--seed", "7"),
            *("--max-tokens", "64", "--k-max", "8", "--threads", "2", "--fresh"),
        )
        assert result.exit_code == 0, result.output
        (request,) = fake.requests
        assert request.drafts == (draft, other / "found.gguf")
        assert [prompt.messages[0].content for prompt in request.workload.prompts] == ["two"]
        assert request.fresh
        made = request.settings
        assert (made.context, made.budget_s, made.max_tokens, made.k_max, made.threads) == (8192, 90, 64, 8, 2)
        assert (made.sampling.temperature, made.sampling.top_p, made.sampling.seed) == (0.8, 0.9, 7)

    def test_json_is_one_document_and_nothing_else_on_stdout(self, fake: Pipeline, target: Path) -> None:
        result = advise(target, "--format", "json")
        assert load(result.stdout) == fake.answer
        assert json.loads(result.stdout)["command"][0] == "llama-server"
        assert "note: a remedy was applied" in result.stderr

    def test_all_lists_every_candidate_in_both_formats(self, fake: Pipeline, target: Path) -> None:
        assert advise(target, "--all").stdout.count("x [") > advise(target).stdout.count("x [")
        assert len(json.loads(advise(target, "--all", "--format", "json").stdout)["candidates"]) == 6

    @pytest.mark.parametrize(
        ("options", "server"),
        [
            ((), None),
            (("--engine", "llama-cpp-python"), None),
            (("--engine", "llama-server"), ""),
            (("--llama-server", "bin/llama-server"), "bin/llama-server"),
        ],
    )
    def test_what_runs_is_this_process_or_the_server_that_is_asked_for(
        self, fake: Pipeline, target: Path, options: tuple[str, ...], server: str | None
    ) -> None:
        assert advise(target, *options).exit_code == 0
        assert fake.requests[0].server == (server and str(Path(server)))

    def test_category_of_the_built_in_prompts(self, fake: Pipeline, target: Path) -> None:
        advise(target, "--category", "code", "--category", "math")
        assert {prompt.category for prompt in fake.requests[0].workload.prompts} == {"code", "math"}

    def test_demo_brings_models_and_a_shorter_budget(
        self, fake: Pipeline, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from advisor.testing import zoo

        models = (target, (target.with_name("draft.gguf"),))
        monkeypatch.setattr(zoo, "demo_models", lambda progress: models)
        assert run("recommend", "--demo").exit_code == 0
        assert run("recommend", "--demo", "--budget", "60").exit_code == 0
        assert [(r.target, r.drafts) for r in fake.requests] == [models, models]
        assert [r.settings.budget_s for r in fake.requests] == [210, 60]


class TestPrediction:
    def test_a_name_is_predicted(self, fake: Pipeline, foreseen: list[PriorQuestion]) -> None:
        assert run("recommend", "--target", "qwen2.5-72b-q8").exit_code == 0
        assert foreseen == [PriorQuestion("qwen2.5-72b-q8")]
        assert fake.requests == []

    def test_what_is_asked_arrives(self, fake: Pipeline, foreseen: list[PriorQuestion]) -> None:
        options = ["--host", "m4-max-128gb", "--baseline-tps", "7.5", "--llama-build", "b7900", "--k", "16"]
        result = run("recommend", "--target", "qwen2.5-72b", *options, "--p-min", "0.75", "--category", "chat")
        assert result.exit_code == 0, result.output
        assert foreseen == [
            PriorQuestion("qwen2.5-72b", "m4-max-128gb", 7.5, 7900, 16, 0.75, ("chat",), is_prediction_only=True)
        ]

    def test_a_file_is_measured_unless_a_prediction_is_asked_for(
        self, fake: Pipeline, foreseen: list[PriorQuestion], target: Path
    ) -> None:
        assert advise(target).exit_code == 0
        assert (len(fake.requests), foreseen) == (1, [])
        assert advise(target, "--predict").exit_code == 0
        assert (len(fake.requests), [one.target for one in foreseen]) == (1, [str(target)])

    def test_a_named_model_that_is_on_disk_is_measured(
        self, fake: Pipeline, foreseen: list[PriorQuestion], target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        drafts = (target.with_name("draft.gguf"),)
        monkeypatch.setattr(pipeline, "find_on_disk", lambda question, context, note: (target, drafts))
        result = run("recommend", "--target", "qwen2.5-72b-q8")
        assert result.exit_code == 0, result.output
        assert "it is measured" in result.stderr
        assert [(one.target, tuple(one.drafts)) for one in fake.requests] == [(target, drafts)]
        assert run("recommend", "--target", "qwen2.5-72b-q8", "--predict").exit_code == 0
        assert len(foreseen) == len(fake.requests) == 1

    def test_folders_with_models_are_looked_into_for_a_prediction_too(
        self, foreseen: list[PriorQuestion], tmp_path: Path
    ) -> None:
        assert run("recommend", "--target", "qwen2.5-72b-q8", "--predict", "--models-dir", tmp_path).exit_code == 0
        assert foreseen[0].models_dirs == (tmp_path,)


class TestOutput:
    def test_a_file_gets_the_report_and_stdout_nothing(self, fake: Pipeline, target: Path, tmp_path: Path) -> None:
        file = tmp_path / "rec.json"
        result = advise(target, "--format", "json", "--output", file)
        assert result.exit_code == 0
        assert result.stdout == ""
        assert load(file.read_bytes()) == fake.answer
        assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "rec.json"]

    def test_a_failure_leaves_the_old_file_as_it_was(self, fake: Pipeline, target: Path, tmp_path: Path) -> None:
        file = tmp_path / "rec.txt"
        file.write_text("the last good report")
        fake.answer = NothingFits("No draft fits.")
        assert advise(target, "--output", file).exit_code == 2
        assert file.read_text() == "the last good report"

    def test_what_cannot_be_written_shows_before_anything_is_measured(
        self, fake: Pipeline, target: Path, tmp_path: Path
    ) -> None:
        for path in (tmp_path, tmp_path / "none" / "rec.json"):
            result = advise(target, "--output", path)
            assert result.exit_code == 2
            assert "--output" in result.stderr
        assert fake.requests == []

    @pytest.mark.skipif(os.name == "nt", reason="needs a FIFO")
    def test_a_device_is_written_to_not_replaced(self, fake: Pipeline, target: Path, tmp_path: Path) -> None:
        link = tmp_path / "nowhere"
        link.symlink_to("/dev/null")
        assert advise(target, "--output", link).exit_code == 0
        assert link.is_char_device()
        assert Path("/dev/null").is_char_device()


class TestBadInput:
    @pytest.mark.parametrize(
        ("args", "named"),
        [
            (["--context", "100"], "--context"),
            (["--context", "many"], "--context"),
            (["--budget", "soon"], "--budget"),
            (["--budget", "0"], "--budget"),
            (["--temperature", "6"], "--temperature"),
            (["--temperature", "nan"], "--temperature"),
            (["--top-p", "0"], "--top-p"),
            (["--seed", "-1"], "--seed"),
            (["--max-tokens", "7"], "--max-tokens"),
            (["--k-max", "65"], "--k-max"),
            (["--threads", "-1"], "--threads"),
            (["--format", "xml"], "--format"),
            (["--category", "poetry"], "--category"),
            (["--workload", "none.jsonl"], "none.jsonl"),
            (["--draft", "none.gguf"], "--draft"),
            (["--draft-dir", "none"], "--draft-dir"),
            (["--demo"], "--demo"),
            (["--no-such-option"], "--no-such-option"),
        ],
    )
    def test_exits_2_with_a_message_before_anything_runs(
        self, fake: Pipeline, target: Path, args: list[str], named: str
    ) -> None:
        result = advise(target, *args)
        assert result.exit_code == 2
        assert named in result.stderr
        assert "Traceback" not in result.output
        assert result.stdout == ""
        assert fake.requests == []

    def test_no_target(self, fake: Pipeline) -> None:
        result = run("recommend")
        assert result.exit_code == 2
        assert "--target is missing" in result.stderr

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (("--target", "qwen2.5-72b-q8", "--llama-build", "new"), "--llama-build"),
            (("--target", "qwen2.5-72b-q8", "--k", "0"), "--k is 0"),
            (("--target", "qwen2.5-72b-q8", "--p-min", "2"), "--p-min is 2"),
            (("--target", "qwen2.5-72b-q8", "--baseline-tps", "-1"), "--baseline-tps is -1"),
            (("--host", "m4-max-128gb"), "--target qwen2.5-72b-q8"),
            (("--demo", "--predict"), "--predict"),
        ],
    )
    def test_a_question_that_nothing_answers(
        self, fake: Pipeline, foreseen: list[PriorQuestion], options: tuple[str, ...], words: str
    ) -> None:
        result = run("recommend", *options)
        assert result.exit_code == 2
        assert words in result.stderr
        assert "Traceback" not in result.output
        assert fake.requests == foreseen == []

    def test_a_server_that_is_not_there(self, target: Path) -> None:
        result = advise(target, "--llama-server", target.with_name("none"))
        assert result.exit_code == 2
        assert "There is no llama-server at" in result.stderr
        assert "Traceback" not in result.output

    def test_a_server_is_for_measuring_not_for_predictions(self, fake: Pipeline, foreseen: list[PriorQuestion]) -> None:
        result = run("recommend", "--target", "qwen2.5-72b-q8", "--engine", "llama-server")
        assert result.exit_code == 2
        assert "--engine" in result.stderr

    def test_a_malformed_workload_names_the_line(self, fake: Pipeline, target: Path, tmp_path: Path) -> None:
        file = tmp_path / "bad.jsonl"
        file.write_text('{"prompt": "fine"}\noops\n')
        result = advise(target, "--workload", file)
        assert result.exit_code == 2
        assert "line 2" in result.stderr

    def test_the_message_cannot_drive_a_terminal(self, fake: Pipeline) -> None:
        result = run("recommend", "--target", "a\x1b[2J.gguf")
        assert "\x1b" not in result.stderr
        assert "a\\x1b[2J.gguf" in result.stderr


class TestFailures:
    def test_what_why_and_fix_are_lines_of_their_own(self, fake: Pipeline, target: Path) -> None:
        fake.answer = NothingFits("No draft fits.", why="They need 9 GiB, 8 GiB are free.", fix="Lower --context.")
        result = advise(target, "--format", "json")
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.splitlines()[-3:] == [
            "error: No draft fits.",
            "They need 9 GiB, 8 GiB are free.",
            "Lower --context.",
        ]

    def test_an_engine_crash_shows_its_last_log_lines(self, fake: Pipeline, target: Path) -> None:
        log = "\n".join(f"line {n}\x1b[0m" for n in range(30))
        fake.answer = EngineCrash("The engine crashed.", signal_name="SIGSEGV", log_tail=log)
        result = advise(target)
        assert result.exit_code == 3
        assert "  | line 29\\x1b[0m" in result.stderr
        assert "line 5\\x1b" not in result.stderr

    def test_a_broken_store_exits_3(self, fake: Pipeline, target: Path) -> None:
        fake.answer = StoreError("The measurements cannot be read.")
        assert advise(target).exit_code == 3

    def test_a_defect_is_one_line_and_a_log_file(self, fake: Pipeline, target: Path, data_directory: Path) -> None:
        fake.answer = ZeroDivisionError("division by zero")
        result = advise(target)
        assert result.exit_code == 3
        assert "Traceback" not in result.output
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
        log = data_directory / "errors.log"
        assert str(log) in line
        assert "ZeroDivisionError: division by zero" in log.read_text()

    def test_a_defect_is_logged_elsewhere_when_the_data_directory_is_unusable(
        self, fake: Pipeline, target: Path, tmp_path: Path, data_directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data_directory.write_text("a file where a directory should be")
        monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
        fake.answer = RuntimeError("odd")
        assert str(tmp_path / "errors.log") in advise(target).stderr
        assert "RuntimeError: odd" in (tmp_path / "errors.log").read_text()

    def test_a_pipe_that_breaks_inside_the_pipeline_is_not_a_reader_who_left(
        self, fake: Pipeline, target: Path
    ) -> None:
        fake.answer = BrokenPipeError("the worker is gone")
        assert advise(target).exit_code == 3

    def test_interrupted_with_an_answer_prints_the_best_so_far(self, fake: Pipeline, target: Path) -> None:
        best_so_far = make_recommendation()
        fake.answer = Interrupted(best_so_far)
        result = advise(target, "--format", "json")
        assert result.exit_code == 130
        assert load(result.stdout) == best_so_far
        assert "best so far" in result.stderr

    def test_interrupted_without_an_answer(self, fake: Pipeline, target: Path) -> None:
        fake.answer = Interrupted(None)
        result = advise(target)
        assert (result.exit_code, result.stdout) == (130, "")
        assert "Interrupted" in result.stderr

    def test_interrupted_anywhere_else(self, fake: Pipeline, target: Path) -> None:
        fake.answer = KeyboardInterrupt()
        result = advise(target)
        assert (result.exit_code, result.stdout) == (130, "")


class TestProbe:
    @pytest.fixture(autouse=True)
    def machine(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[bool]:
        import advisor.host
        import advisor.store

        asked: list[bool] = []

        def probe(*, store_dir: Path, fresh: bool = False) -> Host:
            assert store_dir == tmp_path
            asked.append(fresh)
            return make_host()

        monkeypatch.setattr(advisor.host, "probe", probe)
        monkeypatch.setattr(advisor.store, "data_dir", lambda: tmp_path)
        return asked

    def test_text(self, machine: list[bool]) -> None:
        result = run("probe", "--fresh")
        assert result.exit_code == 0
        assert "Example CPU 9000" in result.stdout
        assert machine == [True]

    def test_json(self, machine: list[bool]) -> None:
        found = json.loads(run("probe", "--format", "json").stdout)
        assert found["host"]["cores_usable"] == 8
        assert machine == [False]


PREPARE = """
import sys
from advisor import cli, pipeline
from advisor.testing.builders import make_recommendation
pipeline.recommend = lambda request, progress, budget: make_recommendation()
cli.main()
"""

Start = Callable[..., "subprocess.Popen[bytes]"]


def start(code: str, *args: str | Path, **options: Any) -> "subprocess.Popen[bytes]":
    """A real process, for what only a real process shows."""
    line = [sys.executable, "-W", "error", "-c", code, *(str(arg) for arg in args)]
    return subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, **options)


class TestProcess:
    @pytest.mark.parametrize(("args", "needed"), [(["--help"], set()), (["--version"], {"numpy"})])
    def test_what_must_feel_instant_imports_nothing_heavy(self, args: list[str], needed: set[str]) -> None:
        heavy = {"sklearn", "optuna", "llama_cpp", "pydantic", "numpy", "gguf", "rich"} - needed
        code = (
            "import sys\nfrom advisor import cli\ntry:\n    cli.main()\n"
            f"finally:\n    print('heavy:', sorted({heavy} & set(sys.modules)))"
        )
        out, err = start(code, *args).communicate()
        assert b"heavy: []" in out
        assert err == b""

    def test_help_of_a_command_needs_no_engine_and_no_statistics(self) -> None:
        heavy = {"sklearn", "optuna", "llama_cpp", "numpy", "gguf", "rich"}  # typer itself uses pydantic for options
        code = (
            "import sys\nfrom advisor import cli\ntry:\n    cli.main()\n"
            f"finally:\n    print('heavy:', sorted({heavy} & set(sys.modules)))"
        )
        out, _ = start(code, "recommend", "--help").communicate()
        assert b"heavy: []" in out
        assert b"--draft-dir" in out

    def test_version_names_both_programs(self) -> None:
        process = start("from advisor.cli import main; main()", "--version")
        out, _ = process.communicate()
        assert process.returncode == 0
        assert out.startswith(b"advisor ")
        assert b"llama-cpp-python 0." in out

    def test_python_dash_m(self) -> None:
        done = subprocess.run([sys.executable, "-m", "advisor", "probe", "--help"], cwd=ROOT, capture_output=True)
        assert done.returncode == 0
        assert b"--fresh" in done.stdout

    def test_piped_text_is_plain_and_fits_100_columns(self, target: Path) -> None:
        process = start(PREPARE, "recommend", "--target", target)
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert b"\x1b" not in out
        assert max(len(line) for line in out.decode().splitlines()) <= 100
        assert err == b""

    @pytest.mark.skipif(os.name == "nt", reason="code pages differ")
    def test_a_code_page_without_the_letters_is_no_failure(self, target: Path) -> None:
        code = PREPARE.replace("make_recommendation()", "make_recommendation(sentence='Größe 模型')")
        environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
        process = start(code, "recommend", "--target", target, env=environment)
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert b"Gr\\xf6\\xdfe" in out

    @pytest.mark.parametrize("args", [["recommend", "--all"], ["recommend", "--format", "json"]])
    def test_a_closed_pipe_ends_quietly(self, target: Path, args: list[str]) -> None:
        process = start(PREPARE, *args, "--target", target)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
        process.stderr.close()
        assert process.wait() == 0
        assert err == b""

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_a_full_disk_is_told(self, target: Path) -> None:
        line = [sys.executable, "-W", "error", "-c", PREPARE, "recommend", "--target", str(target)]
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(line, cwd=ROOT, stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == 2
        assert b"cannot be written" in done.stderr
        assert b"Traceback" not in done.stderr
