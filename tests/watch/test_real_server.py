"""A watch of the real llama-server on real models: under a changing workload and through a restart."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from advisor import commands_watch
from advisor.cli import app
from advisor.engines import server_process
from advisor.engines.find_server import PACKAGED
from advisor.engines.server_process import Deadlines, Server
from advisor.server_reader import ServerReader, address
from advisor.store import save_last
from advisor.testing.zoo import Recipe, build
from advisor.types import Recommendation
from advisor.watch import View, Watcher
from tests.watch.test_judgement import recommended

pytestmark = pytest.mark.alone

K = 3
GREEDY: dict[str, Any] = {"temperature": 0.0}
RANDOM: dict[str, Any] = {"temperature": 5.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 1}  # any token at all
SPECULATES = ["--spec-type", "draft-simple", "--spec-draft-n-max", str(K)]


def start(*flags: str) -> Server:
    """The target in Q8_0."""
    target = build(Recipe(30, "Q8_0"))
    common = ["-m", str(target), "-c", "1024", "-np", "1", "-t", "1", "--no-repack", "--cache-ram", "0"]
    return Server.start(PACKAGED, [*common, *flags], Deadlines(), load_s=60.0)


def draft() -> list[str]:
    return ["-md", str(build(Recipe(29, "Q8_0"))), "-td", "1"]


def ask(server: Server, tokens: int, how: dict[str, Any]) -> dict[str, Any]:
    prompt = "Here is a list of the planets of the solar system, with one sentence about each of them:\n"
    body = {"prompt": prompt, "n_predict": tokens, "ignore_eos": True, "cache_prompt": False, **how}
    timings: dict[str, Any] = server.post("/completion", body)["timings"]
    return timings


def pairing() -> Recommendation:
    """Break-even at (1.8 - 1) / 3, about 27 % accepted."""
    rec = recommended(K, speedup=2.8 / 1.8, acceptance_rate=0.6, tokens_per_step=2.8)
    return dataclasses.replace(rec, target=dataclasses.replace(rec.target, path=str(build(Recipe(30, "Q8_0")))))


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Server]]:
    """Every server of a test: all have the port of the first."""
    port = server_process._free_port()
    monkeypatch.setattr(server_process, "_free_port", lambda: port)
    started: list[Server] = []
    yield started
    for server in started:
        server.stop()


def test_a_watch_follows_the_workload_and_a_restart(servers: list[Server]) -> None:
    servers.append(start("--metrics", *draft(), *SPECULATES))
    url = f"http://127.0.0.1:{servers[0].port}"
    now = [0.0]
    watcher = Watcher(ServerReader(address(url)), pairing(), lambda: now[0])

    def look() -> View:
        now[0] += 5
        return watcher.look()

    first = look()
    assert (first.judgement.state, first.judgement.warnings) == ("waiting", ())
    assert first.reading is not None
    assert first.reading.slots is not None
    assert first.reading.slots.speculates is True

    timings = ask(servers[0], 120, GREEDY)
    pays = look()
    assert pays.live is not None
    assert (pays.live.drafted, pays.live.accepted) == (timings["draft_n"], timings["draft_n_accepted"])
    assert pays.live.tokens == 120
    assert pays.live.tokens_per_second == pytest.approx(120 / timings["predicted_ms"] * 1e3, rel=0.01)
    assert sum(pays.live.accepted_per_position) == pays.live.accepted
    assert len(pays.live.by_position) == K
    assert pays.judgement.state == "pays"

    for _ in range(2):
        ask(servers[0], 80, RANDOM)
        look()
    below = look()
    assert below.judgement.state == "below-break-even"
    assert below.judgement.advice
    assert below.live is not None
    assert below.live.acceptance_rate is not None
    assert below.live.acceptance_rate < 0.1
    assert below.since_start is not None
    assert below.since_start.tokens == 280

    servers[0].stop()
    gone = look()
    assert gone.problem is not None
    assert "not reachable" in gone.problem.what

    servers.append(start("--metrics", *draft(), *SPECULATES, "--spec-synth-rates", "0.9,0.8,0.7"))
    ask(servers[1], 120, GREEDY)
    again = look()
    assert again.problem is None
    assert again.restarts == 1
    assert again.live is not None
    assert again.live.tokens == 120, "what the first server counted is not in it"
    assert again.live.by_position == pytest.approx((0.9, 0.8, 0.7), abs=0.25)
    assert again.judgement.state in ("pays", "too-few")


def test_the_command_follows_the_real_server_through_a_restart(
    servers: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happens to the server happens in the pauses between two looks."""
    synthetic = ["--metrics", *draft(), *SPECULATES, "--spec-synth-rates"]
    servers.append(start(*synthetic, "0.1,0.05,0"))
    url = f"http://127.0.0.1:{servers[0].port}"
    save_last(pairing())

    def events() -> Iterator[None]:
        ask(servers[0], 80, GREEDY)
        yield
        servers[0].stop()
        yield
        servers.append(start(*synthetic, "0.9,0.8,0.7"))
        ask(servers[1], 160, GREEDY)
        yield
        raise KeyboardInterrupt

    pauses = events()
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _seconds: next(pauses))
    monkeypatch.setattr(commands_watch, "time", clock)
    found = CliRunner().invoke(app, ["watch", "--url", url])
    assert found.exit_code == 130, found.stderr
    text = " ".join(found.stdout.split())
    told = ("Waiting for", "warning: Acceptance is", "not reachable", "Speculation pays", "started again 1 time")
    shown = [text.index(part) for part in told]
    assert shown == sorted(shown)


def test_the_command_on_the_real_server(servers: list[Server]) -> None:
    servers.append(start("--metrics", *draft(), *SPECULATES, "--spec-synth-rates", "0.1,0.05,0"))
    url = f"http://127.0.0.1:{servers[0].port}"
    save_last(pairing())
    ask(servers[0], 80, GREEDY)
    found = CliRunner().invoke(app, ["watch", "--url", url, "--once", "--format", "json"])
    said = json.loads(found.stdout)
    assert found.exit_code == 1
    assert said["judgement"]["state"] == "below-break-even"
    assert said["live"]["drafted"] >= 150
    assert said["live"]["acceptance_rate"] < 0.2


def test_the_real_server_without_speculation_and_without_metrics(servers: list[Server]) -> None:
    save_last(pairing())
    servers.append(start("--metrics"))
    url = f"http://127.0.0.1:{servers[0].port}"
    ask(servers[0], 110, GREEDY)
    found = CliRunner().invoke(app, ["watch", "--url", url, "--once", "--format", "json"])
    said = json.loads(found.stdout)
    assert (found.exit_code, said["judgement"]["state"]) == (1, "not-drafting")
    assert "runs without speculation" in said["judgement"]["warnings"][0]
    assert said["live"]["tokens_per_step"] == 1.0
    servers[0].stop()

    servers.append(start())
    found = CliRunner().invoke(app, ["watch", "--url", url, "--once"])
    assert found.exit_code == 2
    assert "does not publish its counters" in found.stderr
    assert "--metrics" in found.stderr
