"""Workers on hosts of their own, with a network between them and the machine that asks."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.fleet.asking import digest
from tests.fleet.cluster import ROOT, cluster, wait_for
from tests.fleet.namespaces import missing, separate_hosts
from tests.machines import machine_a, models

__all__ = ["models"]
pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "namespaces can be made")
LONGEST_S = 120


def test_workers_on_two_other_hosts_replay_as_one_process_does_over_a_network_that_is_warned_of(models, tmp_path):
    alone = machine_a(tmp_path / "alone").recommend()
    with separate_hosts(2) as (hub, others), cluster(hub.inside) as dask:
        workers = [
            dask.simulated_worker(kind, dask.seen_from(one.hub), one.inside)
            for kind, one in zip(("poor", "half"), others, strict=True)
        ]
        scheduler = dask.seen_from(others[0].hub)
        asking = subprocess.run(
            [*hub.inside, sys.executable, "-m", "tests.fleet.asking", str(tmp_path / "asking"), scheduler],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST_S,
        )
        assert asking.returncode == 0, asking.stderr
        for worker in workers:
            wait_for(worker, "replaying")  # each has one of the drafts
    found = json.loads(asking.stdout.splitlines()[-1])
    assert found["digest"] == digest(alone)
    (warning,) = found["notes"]
    assert scheduler in warning
    assert "run code on every machine" in warning
