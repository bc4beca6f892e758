"""One table for many machines, and the pairing that is best where all must run the same."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from advisor.catalog.load import load
from advisor.cli import app
from advisor.engines.base import RolloutOptions
from advisor.engines.simulated import SimulatedDraft, SimulatedEngine, World
from advisor.errors import FileProblem, OptionError
from advisor.fleet.inventory import read_inventory
from advisor.fleet.pairing import best_shared
from advisor.predict.question import catalogue_model
from advisor.profiles.kept import keep
from advisor.profiles.record import MeasuredCost, Profile
from advisor.report.json_document import host_document
from advisor.testing.builders import TARGET_S, make_curve, make_estimate, make_host
from advisor.types import Build, Config, Estimate, Host
from tests.profiles.test_files import make_profile

TARGET = "qwen2.5-14b-q8"


def estimates(**lows: float) -> dict[Config, Estimate]:
    found = [make_estimate(name, low / 0.96) for name, low in lows.items()]
    return {one.config: one for one in found}


def test_the_shared_pairing_has_the_best_geometric_mean_of_lower_ends():
    shared = best_shared([estimates(a=2.0, b=1.3, c=1.9), estimates(a=0.7, b=1.3, d=3.0)], [1, 1])
    assert shared.config.draft == "b"  # a would give sqrt(2.0 * 0.7), c and d do not run everywhere
    assert math.exp(shared.score) == pytest.approx(1.3)
    assert math.exp(shared.own_score) == pytest.approx(math.sqrt(2.0 * 3.0))
    assert [one.config.draft for one in shared.on] == ["b", "b"]


def test_a_machine_for_which_every_pairing_loses_runs_the_target_alone_by_itself():
    shared = best_shared([estimates(a=2.0), estimates(a=0.7)], [1, 1])
    assert math.exp(shared.own_score) == pytest.approx(math.sqrt(2.0 * 1.0))


def test_machines_count_as_often_as_there_are():
    machines = [estimates(a=2.0, b=1.3), estimates(a=0.7, b=1.3)]
    assert best_shared(machines, [5, 1]).config.draft == "a"


def test_no_pairing_is_shared_where_the_target_alone_is_better_or_nothing_runs_everywhere():
    assert best_shared([estimates(a=1.2), estimates(a=0.6)], [1, 1]) is None
    assert best_shared([estimates(a=1.2), estimates(b=1.6)], [1, 1]) is None
    assert best_shared([], []) is None


def written(folder: Path, text: str) -> Path:
    path = folder / "hosts.yaml"
    path.write_text(text)
    return path


def test_an_inventory_has_named_and_probed_machines(tmp_path):
    probed = make_host(cpu="Probed CPU")
    (tmp_path / "box.json").write_text(json.dumps(host_document(probed)))
    text = "hosts:\n- {name: cards, host: rtx-4090, count: 3}\n- {name: box, probe: box.json}\n"
    cards, box = read_inventory(written(tmp_path, text), load())
    assert (cards.name, cards.count, cards.entry.id) == ("cards", 3, "rtx-4090")
    assert (box.host, box.entry, box.count) == (probed, None, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hosts: []", "lists no hosts"),
        ("- a", "lists no hosts"),
        ("hosts: [", "not YAML"),
        ("hosts: [{host: rtx-4090}]", "host 1: name"),
        ("hosts: [{name: a, host: rtx-4090, cuont: 2}]", "host 1: cuont"),
        ("hosts: [{name: a, host: rtx-4090, count: two}]", "host 1: count"),
        ("hosts: [{name: a, host: rtx-4090, count: 0}]", "count of 1 or more"),
        ("hosts: [{name: a}]", "needs `host` or `probe`"),
        ("hosts: [{name: a, host: rtx-4090, probe: b.json}]", "needs `host` or `probe`"),
        ("hosts: [{name: a, host: rtx-4090}, {name: a, host: l4}]", "two hosts are called a"),
        ("hosts: [{name: a, probe: none.json}]", "not a saved probe"),
        ("hosts: ['a']", "host 1: name"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
    ],
)
def test_what_is_wrong_with_an_inventory_is_named(tmp_path, text, said):
    with pytest.raises(FileProblem, match=said):
        read_inventory(written(tmp_path, text), load())


def test_a_host_that_the_catalogue_does_not_know_is_named(tmp_path):
    with pytest.raises(OptionError, match="rtx-4091"):
        read_inventory(written(tmp_path, "hosts: [{name: a, host: rtx-4091}]"), load())


def fleet(inventory: Path, *more: str) -> Result:
    return CliRunner().invoke(app, ["fleet", "--inventory", str(inventory), "--target", TARGET, *more])


MIXED = """
hosts:
- {name: macs, host: m4-max-128gb, count: 2}
- {name: card, host: rtx-4090}
- {name: small card, host: rtx-3060-12gb}
"""


def test_every_host_has_a_row_and_all_have_one_pairing(tmp_path):
    result = fleet(written(tmp_path, MIXED), "--format", "json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert [host["name"] for host in document["hosts"]] == ["macs", "card", "small card"]
    able = [host for host in document["hosts"] if host.get("best")]
    assert len(able) >= 2
    for host in able:
        assert host["best"]["evidence"] == "prior"
        assert host["shared"]["speedup_low"] <= host["best"]["speedup_low"] * 1.011  # ties go to less memory
    assert document["shared"]["draft"]
    text = fleet(written(tmp_path, MIXED))
    assert text.exit_code == 0
    assert "If one pairing must serve all" in text.stdout.replace("\n", " ")
    assert "macs (2)" in text.stdout


def test_the_own_pick_of_a_host_is_that_of_recommend(tmp_path):
    document = json.loads(fleet(written(tmp_path, MIXED), "--format", "json").stdout)
    arguments = ["recommend", "--target", TARGET, "--host", "rtx-4090", "--format", "json"]
    alone = json.loads(CliRunner().invoke(app, arguments).stdout)["recommendation"]
    card = document["hosts"][1]["best"]
    assert (card["draft"], card["quant"]) == (alone["draft"], alone["quant"])
    assert card["speedup_low"] == pytest.approx(alone["speedup_low"], rel=0.011)


def test_a_host_on_which_the_target_does_not_run_says_why_and_is_left_out(tmp_path):
    inventory = written(tmp_path, "hosts: [{name: tiny, host: m1-8gb}, {name: card, host: rtx-4090}]")
    document = json.loads(fleet(inventory, "--format", "json").stdout)
    assert document["hosts"][0]["verdict"] == "does-not-run"
    assert "GiB" in document["hosts"][0]["detail"]
    assert document["shared"]


def test_an_imported_profile_with_the_costs_of_a_host_answers_for_it(tmp_path, data_directory, qwen_profile):
    """Replayed acceptance and measured costs take the place of the prior, for the drafts that the profile has."""
    host, (draft,) = qwen_profile.costs[0].host, qwen_profile.drafts
    keep(qwen_profile, data_directory)
    (tmp_path / "box.json").write_text(json.dumps(host_document(host)))
    inventory = written(tmp_path, "hosts: [{name: box, probe: box.json}, {name: card, host: rtx-4090}]")
    document = json.loads(fleet(inventory, "--format", "json").stdout)
    box, card = document["hosts"]
    assert box["profile"]
    assert box["best"]["evidence"] == "replay"
    assert (box["best"]["draft"], box["best"]["quant"]) == (draft.name, "Q8_0")
    assert box["baseline_tokens_per_second"] == pytest.approx(10)
    assert card["profile"] is None
    assert document["shared"]["k"]


def box_with(profile: Profile, host: Host, tmp_path: Path, data_directory: Path, *more: str) -> dict[str, Any]:
    """The row of this host where the profile is imported."""
    keep(profile, data_directory)
    (tmp_path / "box.json").write_text(json.dumps(host_document(host)))
    inventory = written(tmp_path, "hosts: [{name: box, probe: box.json}]")
    return json.loads(fleet(inventory, "--format", "json", *more).stdout)["hosts"][0]


@pytest.fixture
def qwen_profile() -> Profile:
    catalog = load()
    target = catalogue_model(catalog, catalog.entries["qwen2.5-14b"], "Q8_0")
    draft = catalogue_model(catalog, catalog.entries["qwen2.5-0.5b"], "Q8_0")
    return profile_on(make_host(fingerprint="0123456789abcdef"), target, draft)


def test_of_several_builds_the_one_that_was_asked_for_counts_else_the_newest(tmp_path, data_directory, qwen_profile):
    (cost,) = qwen_profile.costs
    of_build = [
        dataclasses.replace(cost, build=Build("llama-server", f"b{number}", number), token_s=token_s)
        for number, token_s in ((11400, 0.1), (11500, 0.05), (11300, 0.2))
    ]
    profile = dataclasses.replace(qwen_profile, costs=tuple(of_build))
    newest = box_with(profile, cost.host, tmp_path, data_directory)
    assert newest["costs_of"] == "llama-server b11500"
    assert newest["baseline_tokens_per_second"] == pytest.approx(20)
    asked = box_with(profile, cost.host, tmp_path, data_directory, "--llama-build", "b11300")
    assert asked["costs_of"] == "llama-server b11300"
    assert asked["baseline_tokens_per_second"] == pytest.approx(5)
    other = box_with(profile, cost.host, tmp_path, data_directory, "--llama-build", "b11200")
    assert other["profile"] is other["costs_of"] is None
    text = fleet(tmp_path / "hosts.yaml").stdout.replace("\n", " ")
    assert "b11500" in text


def test_only_answers_of_the_category_that_was_asked_for_count(tmp_path, data_directory, qwen_profile):
    """The second answer is of another kind, and every sixth proposal in it is wrong as well."""
    (draft,) = qwen_profile.traces
    first, second = qwen_profile.traces[draft]
    proposal = tuple(3 if at % 6 == 0 else token for at, token in enumerate(second.proposal))
    refused = dataclasses.replace(second, category="chat", proposal=proposal)
    profile = dataclasses.replace(qwen_profile, traces={draft: (first, refused)})
    host = profile.costs[0].host
    code, chat, both = (
        box_with(profile, host, tmp_path, data_directory, *more)["best"]["speedup"]
        for more in (("--category", "code"), ("--category", "chat"), ("--category", "code", "--category", "chat"))
    )
    assert code > both > chat
    assert box_with(profile, host, tmp_path, data_directory, "--category", "math")["profile"] is None


def profile_on(host, target, draft) -> Profile:
    world = World(TARGET_S, {draft.content_hash: SimulatedDraft(0.002, {"": 0.9})})
    engine = SimulatedEngine(world)
    engine.open("draft", draft, None)
    empty = make_profile("Draft-A")
    answers = [dataclasses.replace(one, answer_tokens=tuple(range(100, 160))) for one in empty.transcripts]
    rollout = RolloutOptions(0.4, 16, 8)
    curve = dataclasses.replace(
        make_curve(0.1), anchor_s=(0.1, 0.1), rounds_s={b: (TARGET_S[b - 1],) * 2 for b in range(1, 18)}
    )
    cheap = dataclasses.replace(curve, rounds_s=dict.fromkeys(range(1, 18), (0.002,) * 2))
    cost = MeasuredCost(
        host=host,
        build=Build("simulated", "1"),
        threads=8,
        repack_off=False,
        token_s=0.1,
        target_curve=curve,
        draft_curves={draft.content_hash: cheap},
    )
    return dataclasses.replace(
        empty,
        target=dataclasses.replace(target, path="", paths=()),
        drafts=(draft,),
        origin=dataclasses.replace(empty.origin, k_max=16, max_tokens=64),
        transcripts=tuple(answers),
        traces={draft.content_hash: tuple(engine.score(one, rollout) for one in answers)},
        costs=(cost,),
    )


def test_a_category_or_a_file_that_is_not_known_exits_2(tmp_path):
    assert fleet(written(tmp_path, MIXED), "--category", "poetry").exit_code == 2
    assert fleet(tmp_path / "none.yaml").exit_code == 2
