"""Downloads one quantization of a catalogue model: first a plan with sizes, then the files.

    plan = plan_pull(entry, "Q4_K_M", entry.repositories[0])     # one request, nothing downloaded
    check_disk(plan)                                            # FileProblem when it cannot fit
    pulled = pull(plan, progress=progress)

Files go to the Hugging Face cache, where llama.cpp and other programs find them, or to a folder as
<owner>/<repository>/<file>, which is LM Studio's layout. A download that stops leaves ``<file>.<digest>.incomplete``
beside its final place; the next pull of the same content goes on from there. huggingface_hub talks to the hub, but
its own downloader is not used: that of recent versions deletes what it has when it is interrupted.

    plan        which files, from one listing of the repository
    places      where each goes, and what is there already
    download    the files, whole or not at all
    meter       how far it is
    failures    everything the hub, the network and the disk can do, as errors for people

This package knows nothing about what is in the files.
"""

from __future__ import annotations

from advisor.catalog.pull.download import LocalPull, pull
from advisor.catalog.pull.places import check_disk, free_bytes, missing_bytes
from advisor.catalog.pull.plan import PullFile, PullPlan, plan_pull

__all__ = ["LocalPull", "PullFile", "PullPlan", "check_disk", "free_bytes", "missing_bytes", "plan_pull", "pull"]
