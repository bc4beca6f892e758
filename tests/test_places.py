"""The pick's draft in other places: found where it is faster there, in the simulated engine, whose truth is known."""

from __future__ import annotations

import dataclasses

from advisor import pipeline, places
from advisor.engines.simulated import SimulatedEngine
from advisor.errors import EngineCrash
from advisor.exporters import llama_server
from advisor.prune import draft_in_ram, prune
from advisor.testing.builders import make_gpu_host, make_host
from tests.test_pipeline import SERVER, SMALL, TARGET, WORLD, ask, ask_server, models

__all__ = ["models"]


def changed(world, **facts):
    return dataclasses.replace(
        world, drafts={name: dataclasses.replace(one, **facts) for name, one in world.drafts.items()}
    )


def placement(found):
    return next(one.placement for one in found.candidates if one.draft.content_hash == found.best.config.draft)


def test_a_draft_that_threads_hinder_gets_half_of_them(models):
    crowded = changed(WORLD, per_thread_s=0.002)
    found = ask(crowded)
    assert placement(found).draft_threads == 4
    command = llama_server.command(found)
    assert command[command.index("-t") + 1] == "8"
    assert command[command.index("-td") + 1] == "4"
    assert found.best.evidence == "measured"
    again = ask(crowded)
    assert again.measurement.from_store
    assert placement(again) == placement(found)


def test_where_it_makes_no_difference_nothing_moves(models):
    found = ask(WORLD)
    assert placement(found).draft_threads == 0
    assert "-td" not in llama_server.command(found)


def test_a_draft_that_is_faster_beside_the_gpu_is_put_there(models, monkeypatch):
    monkeypatch.setattr(pipeline, "probe", lambda *, store_dir, fresh=False: make_gpu_host())
    found = ask_server([], changed(SERVER, beside_s=0.006))
    layers = placement(found).target_gpu_layers
    assert layers > placement(found).draft_gpu_layers == 0
    command = llama_server.command(found)
    assert (command[command.index("-ngl") + 1], command[command.index("-ngld") + 1]) == (str(layers), "0")
    memory = next(one.memory for one in found.candidates if one.draft.content_hash == found.best.config.draft)
    assert memory[0].draft.total_bytes == 0 < memory[1].draft.total_bytes


def test_a_place_in_which_the_engine_fails_is_none(models):
    class Fails(SimulatedEngine):
        def open(self, role, model, options):
            if role == "draft" and options.threads == 4 and options.sequences == 1:
                raise EngineCrash("The engine process died (SIGKILL).", signal_name="SIGKILL")
            super().open(role, model, options)

    found = ask(changed(WORLD, per_thread_s=0.002), make=Fails)
    assert placement(found).draft_threads == 0


def test_beside_a_gpu_there_must_be_room(models):
    host = make_gpu_host()
    (on_gpu,), _ = prune(TARGET, [SMALL], host, 4096, k_max=16)
    beside = draft_in_ram(TARGET, on_gpu, host, 4096, k_max=16)
    assert (beside.placement.target_gpu_layers, beside.placement.draft_gpu_layers) == (-1, 0)
    in_ram = next(one.needed_bytes for one in on_gpu.memory if one.device == "CPU")
    tight = make_gpu_host(ram_available_bytes=int(1.06 * in_ram) + (512 << 20))
    (still,), _ = prune(TARGET, [SMALL], tight, 4096, k_max=16)
    assert still.placement == on_gpu.placement
    assert draft_in_ram(TARGET, on_gpu, tight, 4096, k_max=16) is None


def test_without_a_gpu_there_is_no_place_beside(models):
    (candidate,), _ = prune(TARGET, [SMALL], make_host(), 4096, k_max=16)
    assert draft_in_ram(TARGET, candidate, make_host(), 4096, k_max=16) is None
    assert places.alternatives(TARGET, candidate, make_host(), 4096, k_max=16, threads=1) == []
    (fewer,) = places.alternatives(TARGET, candidate, make_host(), 4096, k_max=16, threads=6)
    assert fewer.placement.draft_threads == 3
