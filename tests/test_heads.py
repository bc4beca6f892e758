"""Prediction heads inside the target: what is run, and a real file with one through the real server."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jsonschema
import pytest

from advisor import heads, pipeline
from advisor.engines.find_server import PACKAGED, Program
from advisor.errors import FileProblem, NothingFits
from advisor.exporters import llama_server
from advisor.exporters.check import check
from advisor.grid import Grid
from advisor.pipeline import Request
from advisor.progress import Silent
from advisor.reasons import explain
from advisor.report import explain_page, json_document
from advisor.testing.heads import WORDS, build_eagle, build_with_head, build_without_head, counted_on
from advisor.types import Config, Recommendation, Run, Settings, Trial
from advisor.workload import builtin
from tests.test_pipeline import SCHEMA, TARGET, WORLD, ask, models

pytestmark = pytest.mark.alone

__all__ = ["models"]
FEW = dataclasses.replace(builtin(), prompts=builtin().prompts[:5])


@dataclass(frozen=True)
class Measured:
    """Runs with known speedups by draft length."""

    speedups: dict[int, float]

    def __call__(self, config: Config, _prompt: int) -> tuple[Run, Run]:
        return Run(11, 1.0, 0.1), Run(11, 1.0 / self.speedups[config.k], 0.1, drafted=4, accepted=2)

    def is_stored(self, _config: Config, _prompt: int) -> bool:
        return False


def lengths_run(speedups: dict[int, float], *, k_max: int = 16, runs: int = 99) -> list[int]:
    """Which draft lengths are run where each has this speedup and there is time for so many."""
    ran: list[Trial] = []
    heads.run_heads(
        [heads.Head()],
        Measured(speedups),
        prompts=2,
        k_max=k_max,
        trial_s=1.0,
        time_left_s=lambda: 2.0 * runs - len(ran),  # half of it is for others
        on_trial=ran.append,
        progress=Silent(),
    )
    assert all(len(trial.runs) == 2 for trial in ran)
    return [trial.config.k for trial in ran]


def test_longer_drafts_are_run_while_they_gain():
    assert lengths_run({2: 1.3, 3: 1.5, 4: 1.6, 6: 1.4}) == [2, 3, 4, 6]


def test_where_no_longer_one_gains_a_single_token_is_tried():
    assert lengths_run({1: 1.1, 2: 1.0, 3: 0.9}) == [2, 3, 1]


def test_no_draft_is_longer_than_asked():
    assert lengths_run({1: 1.1, 2: 1.2, 3: 1.3}, k_max=3) == [2, 3]
    assert lengths_run({1: 1.1}, k_max=1) == [1]


def test_without_time_nothing_is_run():
    assert lengths_run({}, runs=0) == []
    assert lengths_run({2: 1.3}, runs=1) == [2]


def test_in_this_process_it_is_said_who_can_run_them(models, monkeypatch):
    known = pipeline.read_model
    with_head = dataclasses.replace(TARGET, nextn_layers=1)
    monkeypatch.setattr(pipeline, "read_model", lambda path: with_head if path == Path(TARGET.path) else known(path))
    found = ask(WORLD)
    assert heads.NEEDS_SERVER in found.measurement.notes
    assert all(one.config.method not in heads.METHODS for one in found.estimates)


def counted(first: int, tokens: int, k: int) -> tuple[int, int]:
    """(drafted, accepted) of an answer that counts on from word ``first``, written without the server: what the head
    says after each word is known."""
    word, written, drafted, accepted = first, 1, 0, 0
    while written < tokens:
        said, hits, missed = word, 0, False
        for _ in range(min(k, tokens - written - 1)):
            said = counted_on(said)
            drafted += 1
            missed |= said != (word + hits + 1) % WORDS
            hits += not missed
        accepted += hits
        word = (word + hits + 1) % WORDS
        written += hits + 1
    return drafted, accepted


MODELS = {
    "attention": (build_with_head, ()),
    "recurrent": (partial(build_with_head, recurrent=True), ()),
    "beside": (build_without_head, (build_eagle,)),
}


@pytest.fixture(scope="module", params=MODELS)
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recommendation]:
    pytest.importorskip("xllamacpp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVISOR_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        settings = Settings(context=1024, max_tokens=32, k_max=4, budget_s=60.0)
        target, beside = MODELS[request.param]
        files = target(), tuple(make() for make in beside)
        yield pipeline.recommend(Request(*files, FEW, settings, server="", without_draft=True), Silent())


def test_a_real_head_is_run_and_accepted_as_often_as_is_known(found: Recommendation):
    trials = [trial for trial in found.trials if trial.config.method in heads.METHODS]
    assert trials[0].config.k == 2
    for trial in trials:
        for run in trial.runs:
            first = run.answer_tokens[0] - WORDS
            assert run.answer_tokens == tuple(WORDS + (first + i) % WORDS for i in range(32))
            assert (run.drafted, run.accepted) == counted(first, 32, trial.config.k)


def test_it_stands_in_the_ranking_with_its_command(found: Recommendation):
    row = next(one for one in found.estimates if one.config.method in heads.METHODS)
    assert row.evidence == "measured"
    assert row.speedup_low < row.speedup < row.speedup_high
    rec = dataclasses.replace(found, best=row, verdict="speculate")
    command = llama_server.command(rec)
    assert command[command.index("--spec-type") + 1] == row.config.method
    assert command[command.index("--spec-draft-n-max") + 1] == str(row.config.k)
    assert ("-md" in command) is (row.config.method == heads.BESIDE)
    document = json_document.document(rec, command=command)
    jsonschema.validate(document, SCHEMA)
    assert document["recommendation"]["method"] == row.config.method
    assert rec.label_of(row.config) in explain_page.page(rec, explain(rec))


def test_what_was_not_replayed_is_not_said_to_be(found: Recommendation):
    recurrent = bool(found.target.attention.recurrent_state_bytes)
    assert any("Acceptance was replayed" in note for note in found.measurement.notes) is not recurrent


def test_its_command_does_as_was_said(found: Recommendation):
    row = next(one for one in found.estimates if one.config.method in heads.METHODS)
    rec = dataclasses.replace(found, best=row, verdict="speculate")
    checked = check(rec, Program(PACKAGED, "packaged"), FEW.prompts[:2])
    for run in checked.runs:
        assert (run.drafted, run.accepted) == counted(run.answer_tokens[0] - WORDS, run.tokens, row.config.k)
    assert checked.acceptance_place == "inside"


def test_where_a_server_cannot_time_decodes_this_process_does(data_directory: Path):
    """With a sliding window wider than the text the server reads it again from some way back."""
    pytest.importorskip("xllamacpp")
    target, settings = build_without_head(sliding=True), Settings(context=1024, max_tokens=32, k_max=4, budget_s=60.0)
    found = pipeline.recommend(Request(target, (), FEW, settings, server="", without_draft=True), Silent())
    assert sorted(found.target_curve.rounds_s) == [1, 2, 3, 4, 5]
    assert any("decodes were timed with llama-cpp-python" in note for note in found.measurement.notes)
    assert found.build.engine == "llama-server"


@pytest.mark.parametrize("where", ["attention", "beside"])
def test_a_sweep_runs_the_head(data_directory: Path, where: str):
    pytest.importorskip("xllamacpp")
    target, beside = MODELS[where]
    files = target(), tuple(make() for make in beside)
    request = Request(*files, FEW, Settings(context=1024, max_tokens=16), server="", without_draft=True)
    swept = pipeline.sweep(request, Grid((1, 3), prompts=2), Silent())
    method = heads.BESIDE if beside else heads.OWN
    assert sorted((one.config.method, one.config.k) for one in swept.estimates) == [(method, 1), (method, 3)]


def test_of_a_recurrent_target_drafts_are_left_out(data_directory: Path):
    request = Request(build_with_head(recurrent=True), (build_with_head(),), FEW, Settings(context=1024), server="")
    with pytest.raises(NothingFits, match="No draft can run") as caught:
        pipeline.recommend(request, Silent())
    assert pipeline.HEADS_ALONE in caught.value.why


def test_a_recurrent_target_without_a_server_is_told_who_can_run_its_head(data_directory: Path):
    with pytest.raises(FileProblem, match="recurrent") as caught:
        pipeline.recommend(Request(build_with_head(recurrent=True), (), FEW), Silent())
    assert "--engine llama-server" in caught.value.fix
