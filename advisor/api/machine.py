"""This machine: what it has, which models are on it or can be, and what it does for others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.api.arguments import Note, PathText, kept_in, many_paths, one_path, silent
from advisor.errors import OptionError
from advisor.progress import Progress
from advisor.types import Host

if TYPE_CHECKING:
    from advisor.catalog.matching import LocalModel
    from advisor.catalog.names import ModelRow
    from advisor.catalog.records import HostEntry
    from advisor.checkup import Finding


def probe(*, fresh: bool = False, store: PathText | None = None) -> Host:
    """What this machine is and has: memory, cores, instruction sets, devices, and the bandwidth of reading memory,
    measured once and then remembered; ``fresh`` measures it again. Takes a second or two the first time."""
    from advisor import host
    from advisor.store import data_dir

    with kept_in(store):
        return host.probe(store_dir=data_dir(), fresh=fresh)


def doctor(*, store: PathText | None = None) -> tuple[Finding, ...]:
    """What the advisor needs and what of it is here, with what to do about the rest. Takes a second or two; measures
    nothing, loads no model, asks no network. ``level`` is "ok", "missing" (it works without) or "broken"."""
    from advisor.checkup import examine

    with kept_in(store):
        return examine()


def models(family: str | None = None, *, store: PathText | None = None, note: Note = silent) -> tuple[ModelRow, ...]:
    """The models of the catalogue, the user's own among them; only those of ``family``, such as ``"qwen3"``.

    ``note`` is told which files of the user's own are left out, and why.

    >>> import advisor
    >>> advisor.models("gemma-3")[0].id
    'gemma-3-270m'
    """
    from advisor.catalog.names import list_models
    from advisor.user_catalog import user_catalog

    with kept_in(store):
        return list_models(user_catalog(note), family)


def hosts(*, store: PathText | None = None, note: Note = silent) -> tuple[HostEntry, ...]:
    """The machines and graphics cards that ``recommend(host=...)`` knows, under ``names`` of each.

    ``note`` is told which files of the user's own are left out, and why.

    >>> import advisor
    >>> advisor.hosts()[0].names[0]
    'm1-8gb'
    """
    from advisor.user_catalog import user_catalog

    with kept_in(store):
        return user_catalog(note).hosts


def local_models(
    folders: Sequence[PathText] = (), *, store: PathText | None = None, progress: Progress | None = None
) -> tuple[LocalModel, ...]:
    """The model files in ``folders``, in ~/models and where llama.cpp, LM Studio, Ollama and the Hugging Face cache
    keep theirs, each with its catalogue entry where there is one.

    Reads headers only. FileProblem for a folder that is not there.
    """
    from advisor.catalog.local import find_local
    from advisor.catalog.matching import match_local
    from advisor.user_catalog import user_catalog

    with kept_in(store):
        entries = tuple(user_catalog().entries.values())
        return match_local(find_local(many_paths(folders, "folders"), progress=progress), entries, progress=progress)


def pull(
    name: str,
    folder: PathText | None = None,
    *,
    quant: str | None = None,
    store: PathText | None = None,
    progress: Progress | None = None,
) -> tuple[Path, ...]:
    """Download a model of the catalogue, such as ``"qwen2.5-1.5b-q4_k_m"``, to ``folder`` or the Hugging Face cache.

    Its files, in the order of their parts. A download that stops goes on the next time. Raises OptionError for a name
    or a quantization that is not known, FileProblem where the disk is too full, HubError.
    """
    from advisor.catalog.pull import check_disk
    from advisor.catalog.pull import pull as download
    from advisor.catalog.pull.named import plan_named
    from advisor.user_catalog import user_catalog

    with kept_in(store):
        plan, where = plan_named(name, user_catalog(), quant), one_path(folder)
    check_disk(plan, where)
    return download(plan, where, progress).paths


def run_worker(
    scheduler: str,
    models_dirs: Sequence[PathText] = (),
    *,
    threads: int = 0,
    ready: Callable[[str], None] = silent,
    note: Note = silent,
) -> None:
    """Replay drafts for those who measure with this Dask ``scheduler``, until it is gone or the process is stopped.

    Drafts are looked for in ``models_dirs`` and where programs keep their models. ``threads`` are CPU threads a replay,
    0 for one a core. ``ready`` is told the worker's address once work can come, ``note`` who else can reach it. Only
    for networks that you trust. Raises OptionError where Dask is not installed, ServerProblem where there is no
    scheduler, FileProblem for a folder that is not there.
    """
    from advisor.fleet.station import station
    from advisor.fleet.worker import serve

    if threads < 0:
        raise OptionError(f"--threads: {threads} is below 0.", fix="Give a number of threads, or 0 for one a core.")
    here = station(tuple(many_paths(models_dirs, "models_dirs")), threads)
    here.describe(frozenset())  # a folder that is not there shows now, and headers are read before anyone waits
    serve(scheduler, here, ready=ready, note=note)
