"""Profiles as files: equal content has one address, changed content is noticed, and merging does not mind the order."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from advisor.cli import app
from advisor.errors import FileProblem
from advisor.profiles.kept import keep, path_of
from advisor.profiles.merge import merge
from advisor.profiles.record import MeasuredCost, Profile, content_digest, dumps, loads
from advisor.store import save_last
from advisor.testing.builders import make_curve, make_host, make_model, make_recommendation
from advisor.types import Build, Origin, Sampling, Trace, Transcript

TARGET = make_model(path="")
DRAFTS = {name: make_model(name, "Q8_0", path="") for name in ("Draft-A", "Draft-B", "Draft-C")}


def make_origin(answers: str = "one", **changes) -> Origin:
    fields = {
        "host": make_host(),
        "build": Build("simulated", "1"),
        "workload": "built-in",
        "workload_hash": "w1",
        "sampling": Sampling(),
        "prompts": ("p1", "p2"),
        "answers": (f"{answers}-1", f"{answers}-2"),
        "max_tokens": 32,
        "k_max": 8,
    }
    return Origin(**{**fields, **changes})


def make_profile(*names: str, answers: str = "one", cpu: str = "CPU 1", texts: bool = True, **changes) -> Profile:
    drafts = tuple(DRAFTS[name] for name in names)
    transcripts = tuple(Transcript("code", (5, 6), (7, 8, 9), False, "text", f"p{i}") for i in (1, 2))
    traces = tuple(Trace(t.category, t.answer_tokens, (7, 3, 9), (0.9, 0.5, 0.7), {1: (0.5, 0.4)}) for t in transcripts)
    cost = MeasuredCost(
        host=make_host(cpu=cpu),
        build=Build("simulated", "1"),
        threads=2,
        repack_off=False,
        token_s=0.05,
        target_curve=make_curve(0.05),
        draft_curves={draft.content_hash: make_curve(0.004) for draft in drafts},
    )
    profile = Profile(
        target=TARGET,
        drafts=drafts,
        origin=make_origin(answers, **changes),
        transcripts=transcripts,
        traces={draft.content_hash: traces for draft in drafts},
        costs=(cost,),
        advisor="0.1.0",
        created_at="2025-01-15T09:30:00+00:00",
    )
    return profile if texts else profile.masked()


def test_a_profile_survives_its_file():
    profile = make_profile("Draft-A", "Draft-B")
    assert loads(dumps(profile), "file") == profile
    assert json.loads(dumps(profile))["sha256"] == profile.digest


def test_the_digest_is_of_the_content_not_of_its_layout():
    document = json.loads(dumps(make_profile("Draft-A")))
    laid_out = json.dumps(document, indent=4, sort_keys=False).encode()
    assert loads(laid_out, "file").digest == document["sha256"]


def rewritten(change) -> bytes:
    document = json.loads(dumps(make_profile("Draft-A")))
    change(document)
    return json.dumps(document).encode()


def with_hash(change):
    def changed(document):
        change(document["profile"])
        document["sha256"] = content_digest(document["profile"])

    return changed


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"not json", "not a profile"),
        (b"[1]", "does not name its schema"),
        (rewritten(lambda d: d.update(schema="draft-advisor/recommendation/1")), "recommendation/1"),
        (rewritten(lambda d: d.update(schema="draft-advisor/profile/2")), "newer version of advisor"),
        (rewritten(lambda d: d["profile"]["target"].update(quant="Q4_0")), "changed after it was written"),
        (rewritten(lambda d: d.update(sha256="0" * 64)), "changed after it was written"),
        (rewritten(lambda d: d.pop("sha256")), "changed after it was written"),
        (rewritten(with_hash(lambda p: p.pop("traces"))), "not a Profile record: traces"),
        (rewritten(with_hash(lambda p: p["transcripts"].pop())), "do not belong together"),
        (rewritten(with_hash(lambda p: p["drafts"].clear())), "do not belong together"),
        (rewritten(with_hash(lambda p: next(iter(p["traces"].values()))[0].update(chance=[0.5]))), "belong together"),
        (rewritten(with_hash(lambda p: p["costs"][0].update(token_s=0))), "costs of CPU 1 have a token_s of 0"),
    ],
)
def test_what_is_no_whole_profile_of_this_version_is_refused_by_name(content, said):
    with pytest.raises(FileProblem, match=said):
        loads(content, "some-file")


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_no_flipped_bit_changes_a_profile_unnoticed(at, bit):
    profile = make_profile("Draft-A")
    content = bytearray(dumps(profile))
    content[at % len(content)] ^= 1 << bit
    try:
        found = loads(bytes(content), "file")
    except FileProblem:
        return
    assert found == profile


def test_merging_joins_drafts_over_the_same_answers_and_all_costs():
    one, two = make_profile("Draft-A", "Draft-B"), make_profile("Draft-B", "Draft-C", cpu="CPU 2")
    merged, left_out = merge([one, two])
    assert {draft.name for draft in merged.drafts} == set(DRAFTS)
    assert {cost.host.cpu for cost in merged.costs} == {"CPU 1", "CPU 2"}
    assert left_out == ()
    assert merged.merged == tuple(sorted((one.digest, two.digest)))
    assert loads(dumps(merged), "file") == merged


def test_of_other_answers_only_the_costs_are_taken():
    one, two = make_profile("Draft-A", "Draft-B"), make_profile("Draft-A", answers="two", cpu="CPU 2")
    merged, left_out = merge([one, two])
    assert left_out == (two,)
    assert merged.origin.answers == one.origin.answers
    assert merged.traces.keys() == one.traces.keys()
    assert {cost.host.cpu for cost in merged.costs} == {"CPU 1", "CPU 2"}


def test_texts_are_kept_only_where_all_have_them():
    with_texts, without = make_profile("Draft-A"), make_profile("Draft-B", texts=False)
    merged, _ = merge([with_texts, without])
    assert not merged.origin.has_texts
    assert all(set(trace.answer_tokens) == {1} for traces in merged.traces.values() for trace in traces)


@given(
    st.lists(
        st.builds(
            make_profile,
            st.sampled_from(sorted(DRAFTS)),
            answers=st.sampled_from(["one", "two"]),
            cpu=st.sampled_from(["CPU 1", "CPU 2"]),
            texts=st.booleans(),
        ),
        min_size=1,
        max_size=3,
    )
)
@settings(max_examples=20, deadline=None)
def test_the_order_of_a_merge_does_not_matter(profiles):
    digests = {merge(order)[0].digest for order in itertools.permutations(profiles)}
    assert len(digests) == 1


def test_a_profile_merged_with_itself_is_itself():
    profile = make_profile("Draft-A")
    assert merge([profile, profile])[0] == profile


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"workload_hash": "w2", "workload": "mine"}, "other prompts"),
        ({"sampling": Sampling(temperature=0.8)}, "temperature"),
        ({"max_tokens": 64}, "up to .* tokens"),
    ],
)
def test_profiles_of_other_settings_are_not_merged(change, said):
    with pytest.raises(FileProblem, match=said):
        merge([make_profile("Draft-A"), make_profile("Draft-B", **change)])


def test_profiles_of_other_targets_are_not_merged():
    other = dataclasses.replace(make_profile("Draft-A"), target=make_model("Another-7B", path=""))
    with pytest.raises(FileProblem, match="different files"):
        merge([make_profile("Draft-A"), other])


def run(*arguments):
    return CliRunner().invoke(app, ["profile", *map(str, arguments)])


def test_the_commands_export_merge_import_and_list(tmp_path: Path):
    rec = make_recommendation()
    lengths = [len(trace.answer_tokens) for trace in next(iter(rec.traces.values()))]
    assert lengths
    save_last(dataclasses.replace(rec, origin=make_origin()))
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    exported = run("export", "-o", one)
    assert exported.exit_code == 0, exported.output
    assert run("export").stdout == one.read_text()
    save_last(dataclasses.replace(rec, origin=make_origin(), host=make_host(cpu="CPU 2")))
    assert run("export", "-o", two).exit_code == 0
    both = tmp_path / "both.json"
    assert run("merge", one, two, "-o", both).exit_code == 0
    assert "Imported" in run("import", both).stderr
    assert "Known already" in run("import", both).stderr
    listed = run("list").stdout
    assert rec.target.label in listed
    assert "CPU 2" in listed


def test_importing_what_was_changed_exits_2_and_keeps_nothing(tmp_path: Path):
    path = tmp_path / "changed.json"
    path.write_bytes(rewritten(lambda d: d["profile"].update(advisor="9")))
    refused = run("import", path)
    assert refused.exit_code == 2
    assert "changed after it was written" in refused.stderr
    assert "No profile is kept here" in run("list").stdout


def test_one_bad_file_among_the_kept_ones_is_named_and_hides_no_other(tmp_path: Path, data_directory: Path):
    good, other = make_profile("Draft-A"), make_profile("Draft-B")
    assert keep(good, data_directory)
    assert keep(other, data_directory)
    bad = path_of(other.digest, data_directory)
    bad.write_bytes(dumps(other)[:-9])
    listed = run("list")
    assert listed.exit_code == 0
    assert good.digest in listed.stdout
    assert other.digest not in listed.stdout
    assert str(bad) in listed.stderr.replace("\n", "")
    assert "It is not JSON" in listed.stderr
    assert keep(other, data_directory)  # importing it again mends it
    assert other.digest in run("list").stdout


def test_a_missing_profile_exits_2(tmp_path: Path):
    assert run("import", tmp_path / "none.json").exit_code == 2
