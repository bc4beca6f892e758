"""A profile made on one machine predicts another, without its target writing or its drafts replaying anything."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from advisor import depth, study
from advisor.errors import FileProblem
from advisor.ngram import METHODS
from advisor.profiles.kept import find, keep, kept
from advisor.profiles.make import profile_of
from advisor.profiles.record import Profile, dumps, loads
from advisor.store import Store, measurements_path
from advisor.testing.builders import make_recommendation
from advisor.types import Message, Model, Prompt, Recommendation, Workload
from tests.machines import (
    MIDDLE,
    SMALL,
    WORKLOAD,
    WORLD_A,
    WORLD_B,
    Machine,
    OtherBuild,
    SimulatedEngine,
    machine_a,
    machine_b,
    models,
    true_speedup,
)

__all__ = ["models"]
pytestmark = pytest.mark.usefixtures("models")


def exported(machine: Machine, rec: Recommendation, *, with_texts: bool = False) -> Profile:
    with machine.active(), Store(measurements_path()) as store:
        return profile_of(
            rec, "0.1.0", with_texts=with_texts, store=store, imported=lambda digest: find(digest, machine.data)
        )


def saved(profile: Profile, folder: Path) -> Path:
    path = folder / f"{profile.digest[:12]}.json"
    path.write_bytes(dumps(profile))
    return path


@pytest.fixture
def measured(tmp_path: Path) -> tuple[Machine, Recommendation]:
    machine = machine_a(tmp_path)
    return machine, machine.recommend()


class OnlyCosts(OtherBuild):
    """A machine that must not measure acceptance."""

    def score(self, *arguments):
        raise AssertionError("the draft was replayed")


@pytest.mark.parametrize("with_texts", [False, True])
def test_acceptance_of_one_machine_predicts_another_within_the_replay_rungs_interval(measured, tmp_path, with_texts):
    profile = exported(*measured, with_texts=with_texts)
    b = machine_b(tmp_path)
    b.make = OnlyCosts
    keep(profile, b.data)
    found = b.recommend()
    truth = {one.config: true_speedup(WORLD_B, one.config) for one in found.estimates if one.config.draft}
    held = [one.speedup_low <= truth[one.config] <= one.speedup_high for one in found.estimates if one.config.draft]
    assert sum(held) >= 0.8 * len(held) >= 50
    timed = {draft for draft, curve in found.draft_curves.items() if not curve.guessed}
    exact = [one for one in found.estimates if one.config.draft in timed and one.config.p_min == 0]
    assert exact
    assert all(one.analytic_speedup == pytest.approx(truth[one.config], rel=0.01) for one in exact)
    assert found.best.config.draft == SMALL.content_hash  # A would pick the other
    assert measured[1].best.config.draft == MIDDLE.content_hash
    assert found.build == OtherBuild(WORLD_B).build


def test_a_recommendation_with_imported_acceptance_says_so(measured, tmp_path):
    profile = exported(*measured)
    found = machine_b(tmp_path).recommend(profile=saved(profile, tmp_path))
    (remark,) = [note for note in found.measurement.notes if "imported" in note]
    assert profile.digest[:12] in remark
    assert measured[1].host.cpu in remark
    assert found.origin.profile == profile.digest
    assert found.origin.build == SimulatedEngine(WORLD_A).build


def test_methods_without_a_draft_compete_only_over_texts(measured, tmp_path):
    b = machine_b(tmp_path)
    without = b.recommend(profile=saved(exported(*measured), tmp_path))
    assert not any(one.config.method in METHODS for one in without.estimates)
    assert any("methods without a draft do not compete" in note for note in without.measurement.notes)
    with_texts = b.recommend(profile=saved(exported(*measured, with_texts=True), tmp_path))
    assert not any("methods without a draft" in note for note in with_texts.measurement.notes)


def test_a_profile_without_texts_has_no_token_of_prompts_or_answers(measured):
    profile = exported(*measured)
    assert {token for one in profile.transcripts for token in (*one.prompt_tokens, *one.answer_tokens)} == {1}
    tokens = {token for traces in profile.traces.values() for trace in traces for token in trace.proposal}
    assert tokens <= {0, 1}
    assert all(one.text == "" for one in profile.transcripts)


def test_estimates_over_a_masked_profile_are_those_over_the_texts(measured, tmp_path):
    estimates = []
    for with_texts, name in ((False, "one"), (True, "two")):
        machine = Machine(tmp_path / name, WORLD_B)
        found = machine.recommend(profile=saved(exported(*measured, with_texts=with_texts), tmp_path))
        estimates.append({one.config: one.analytic_speedup for one in found.estimates if one.config.draft})
    assert estimates[0] == estimates[1]


def test_a_draft_that_the_profile_lacks_is_replayed_over_its_texts(tmp_path):
    a = machine_a(tmp_path)
    profile = exported(a, a.recommend((SMALL,)), with_texts=True)
    b = machine_b(tmp_path)
    found = b.recommend(profile=saved(profile, tmp_path))
    assert set(found.traces) == {SMALL.content_hash, MIDDLE.content_hash}
    assert found.traces[SMALL.content_hash] == profile.traces[SMALL.content_hash]


def test_what_used_an_imported_profile_can_be_exported_with_its_origin_and_this_machines_costs(measured, tmp_path):
    profile, b = exported(*measured, with_texts=True), machine_b(tmp_path)
    keep(profile, b.data)
    again = exported(b, b.recommend(), with_texts=True)
    assert again.traces == profile.traces
    assert again.transcripts == profile.transcripts
    assert again.origin == profile.origin
    assert again.merged == (profile.digest,)
    assert [cost.host.cpu for cost in again.costs] == [b.host.cpu]


def test_texts_that_are_not_here_cannot_be_exported(measured, tmp_path):
    profile, b = exported(*measured), machine_b(tmp_path)
    keep(profile, b.data)
    with pytest.raises(FileProblem, match="texts of this recommendation are not on this machine"):
        exported(b, b.recommend(), with_texts=True)


def test_a_recommendation_without_traces_cannot_be_exported(tmp_path):
    with pytest.raises(FileProblem, match="no acceptance traces"):
        exported(machine_a(tmp_path), make_recommendation())


def test_a_draft_that_left_the_race_after_its_replay_is_not_exported(measured):
    machine, rec = measured
    remaining = tuple(one for one in rec.candidates if one.draft.content_hash == SMALL.content_hash)
    profile = exported(machine, dataclasses.replace(rec, candidates=remaining))
    assert [draft.name for draft in profile.drafts] == [SMALL.name]
    assert loads(dumps(profile), "its file") == profile
    with pytest.raises(FileProblem, match="every draft failed"):
        exported(machine, dataclasses.replace(rec, candidates=()))


def test_what_could_not_be_imported_is_not_exported(measured):
    machine, rec = measured
    baseline = dataclasses.replace(rec.baseline, token_s=0.0)
    with pytest.raises(FileProblem, match="token_s of 0"):
        exported(machine, dataclasses.replace(rec, baseline=baseline))


def test_of_imported_profiles_that_fit_the_one_over_most_tokens_is_used(measured, tmp_path):
    large = exported(*measured)
    shorter = machine_a(tmp_path / "again").recommend(max_tokens=48)
    small = exported(machine_a(tmp_path / "again"), shorter)
    b = machine_b(tmp_path)
    keep(large, b.data)
    keep(dataclasses.replace(small, created_at="2999-01-01T00:00:00+00:00"), b.data)
    assert b.recommend().origin.profile == large.digest


def test_without_texts_no_part_of_the_budget_waits_for_a_look_at_depth(measured, tmp_path, monkeypatch):
    """Real runs have what the look would have taken, and the reader is told."""
    profile, kept_s = exported(*measured), []
    searching = study.search

    def seen(*arguments, **named):
        kept_s.append(named["time_left_s"]())
        return searching(*arguments, **named)

    monkeypatch.setattr(study, "search", seen)
    b = machine_b(tmp_path)
    found = b.recommend(profile=saved(profile, tmp_path), context=8192)
    assert kept_s[0] > 3600 * (1 - depth.DEPTH_SHARE / 2)
    assert any("not looked at in a long context" in note for note in found.measurement.notes)


def other(model: Model, **changes) -> Model:
    return dataclasses.replace(model, **changes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: dataclasses.replace(p, target=other(p.target, content_hash="0" * 64)), "different files"),
        (
            lambda p: dataclasses.replace(
                p, target=other(p.target, vocabulary=dataclasses.replace(p.target.vocabulary, pre="llama-bpe"))
            ),
            "different tokenizers.*llama-bpe",
        ),
        (
            lambda p: dataclasses.replace(
                p,
                drafts=tuple(other(d, content_hash="e" * 64) if d.name == SMALL.name else d for d in p.drafts),
                traces={("e" * 64 if d == SMALL.content_hash else d): t for d, t in p.traces.items()},
                costs=(),
            ),
            "different files: Small-0.5B",
        ),
    ],
)
def test_a_profile_of_another_tokenizer_or_file_is_refused_by_name(measured, tmp_path, change, said):
    path = saved(change(exported(*measured)), tmp_path)
    with pytest.raises(FileProblem, match=said):
        machine_b(tmp_path).recommend(profile=path)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"k_max": 32}, "--k-max is 32"),
        ({"max_tokens": 10}, "--max-tokens is 10"),
        ({"workload": Workload("mine", (Prompt((Message("user", "x"),)),), "w2")}, "not in the workload mine"),
    ],
)
def test_a_profile_for_another_question_is_refused_by_name(measured, tmp_path, asked, said):
    path = saved(exported(*measured), tmp_path)
    with pytest.raises(FileProblem, match=said):
        machine_b(tmp_path).recommend(profile=path, **asked)


def test_a_profile_without_texts_must_have_every_draft(tmp_path):
    a = machine_a(tmp_path)
    path = saved(exported(a, a.recommend((SMALL,))), tmp_path)
    with pytest.raises(FileProblem, match=r"no traces of Middle-1\.5B"):
        machine_b(tmp_path).recommend(profile=path)


def test_an_imported_profile_that_does_not_fit_is_named_and_acceptance_is_measured(measured, tmp_path):
    b = machine_b(tmp_path)
    keep(exported(*measured), b.data)
    found = b.recommend(k_max=20)
    assert found.origin.profile == ""
    assert any("imported before, is not used" in note and "--k-max is 20" in note for note in b.notes)


def test_fresh_measures_acceptance_though_a_profile_is_there(measured, tmp_path):
    b = machine_b(tmp_path)
    keep(exported(*measured), b.data)
    assert b.recommend(fresh=True).origin.profile == ""


def test_a_damaged_kept_profile_does_not_end_a_recommendation(measured, tmp_path):
    b = machine_b(tmp_path)
    profile = exported(*measured)
    keep(profile, b.data)
    path = b.data / "profiles" / f"{profile.digest}.json"
    path.write_bytes(path.read_bytes().replace(b"Small", b"Smell"))
    assert b.recommend().origin.profile == ""
    assert any("changed after it was written" in note for note in b.notes)


def test_a_profile_is_kept_once(measured, tmp_path):
    profile = exported(*measured)
    assert keep(profile, tmp_path / "data")
    assert not keep(profile, tmp_path / "data")
    assert kept(tmp_path / "data", print) == [profile]


def test_the_workload_is_matched_by_its_prompts_not_by_its_name(measured, tmp_path):
    renamed = dataclasses.replace(WORKLOAD, name="renamed", prompts=WORKLOAD.prompts[::-1], content_hash="w3")
    found = machine_b(tmp_path).recommend(profile=saved(exported(*measured), tmp_path), workload=renamed)
    assert found.origin.profile
