"""Two small questions to search for: one whose answer is known, and one for real models.

Of the first the model files are holes. The parent's side is the real one (pipeline, study, store, engine, worker
process); only the worker simulates. So processes really die, and a search takes a second. Of the second everything is
real, and a search takes the better part of a minute.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advisor.engines.base import NO_LIMIT
from advisor.engines.llama_cpp_python import LlamaCppPython
from advisor.engines.process import WORKER_MODULE, WorkerProcess
from advisor.engines.simulated import SimulatedDraft, World
from advisor.host import probe
from advisor.pipeline import Request, recommend
from advisor.progress import Progress, Silent
from advisor.testing.gguf_files import llama_tensors, llama_values, write
from advisor.testing.zoo import Recipe, build
from advisor.types import Message, Prompt, Recommendation, Settings, Workload
from advisor.workload import builtin

WORKER = "chaos.simulated_worker"
PATIENCE_S = 4.0  # for a simulated answer: what takes longer hangs
REAL_PATIENCE_S = 20.0

TARGET_S = tuple(0.1 * (1 + 0.03 * (b - 1) + (0.8 if b > 8 else 0.0)) for b in range(1, 30))
# Near enough to each other that real runs must decide.
TRUTHS = {
    "alder": SimulatedDraft(token_s=0.010, row_s=0.0008, match={"": 0.80}),
    "birch": SimulatedDraft(token_s=0.0085, row_s=0.0007, match={"": 0.78}),
    "cedar": SimulatedDraft(token_s=0.007, row_s=0.0006, match={"": 0.75}),
}
WORKLOAD = Workload(
    "chaos",
    tuple(Prompt((Message("user", f"question {i}"),), ("code", "chat")[i % 2]) for i in range(6)),
    content_hash="chaos",
)
SETTINGS = Settings(context=512, max_tokens=48, k_max=6, threads=1, budget_s=600.0)


@dataclass(frozen=True)
class Models:
    target: Path
    drafts: tuple[Path, ...]

    @property
    def request(self) -> Request:
        return Request(self.target, self.drafts, WORKLOAD, SETTINGS)


def make_models(folder: Path) -> Models:
    """One target and a draft for each of TRUTHS, named by their file names; together they take a few kB of disk."""
    folder.mkdir(parents=True, exist_ok=True)
    target = _make(folder / "target.gguf", layers=16)
    return Models(target, tuple(_make(folder / f"{name}.gguf", layers=4 + i) for i, name in enumerate(TRUTHS)))


def _make(path: Path, *, layers: int) -> Path:
    shapes: dict[str, Any] = {"layers": layers, "embedding": 256, "feed_forward": 512}
    values = {**llama_values(**shapes), "general.name": path.stem}
    return write(path, values, llama_tensors(**shapes))


def simulated_world(content_hashes: dict[str, str]) -> World:
    """``content_hashes``: hash of a model -> the stem of its file."""
    drafts = {key: TRUTHS[stem] for key, stem in content_hashes.items() if stem in TRUTHS}
    return World(target_s=TARGET_S, drafts=drafts, answer_length=SETTINGS.max_tokens)


class ImpatientWorker(WorkerProcess):
    """A worker process that is given ``patience_s`` for each answer."""

    def __init__(self, module: str = WORKER, patience_s: float = PATIENCE_S) -> None:
        super().__init__(module)
        self._patience_s = patience_s

    def ask(
        self, call: str, arguments: dict[str, Any], *, timeout_s: float, within_s: float = NO_LIMIT
    ) -> dict[str, Any]:
        return super().ask(call, arguments, timeout_s=min(timeout_s, self._patience_s), within_s=within_s)


def start_engine(extra_buffers: bool, on_remedy: Callable[[], None]) -> LlamaCppPython:
    """The real engine over simulated workers."""
    return LlamaCppPython(
        extra_buffers=extra_buffers, on_remedy=on_remedy, start_worker=lambda _waiting: ImpatientWorker()
    )


def start_real_engine(extra_buffers: bool, on_remedy: Callable[[], None]) -> LlamaCppPython:
    return LlamaCppPython(
        extra_buffers=extra_buffers,
        on_remedy=on_remedy,
        start_worker=lambda _waiting: ImpatientWorker(WORKER_MODULE, REAL_PATIENCE_S),
    )


def search_in(folder: Path, models: Models, progress: Progress | None = None) -> Recommendation:
    """A whole search in this process, its store in ``folder``. Raises as ``recommend``."""
    with _stored_in(folder):
        return recommend(models.request, progress or Silent(), start_engine)


def zoo_request() -> Request:
    """Real models, small enough for a search a minute on one core."""
    target, *drafts = (build(Recipe(layers, "Q8_0")) for layers in (30, 27, 24))
    workload = builtin()
    return Request(
        target,
        tuple(drafts),
        Workload(workload.name, workload.prompts[::4], workload.content_hash),
        Settings(context=1024, max_tokens=32, k_max=4, threads=1, budget_s=60.0),
    )


def _stored_in(folder: Path) -> AbstractContextManager[None]:
    return environment(ADVISOR_DATA_DIR=str(folder), ADVISOR_LOCK_DIR=str(folder.parent))


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Environment variables of this process and its children, for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@dataclass(frozen=True)
class Ground:
    """A folder to work in, the models, and a machine whose bandwidth has been measured once."""

    folder: Path
    models: Models

    @staticmethod
    def prepare(folder: Path) -> Ground:
        probe(store_dir=folder / "probed")
        return Ground(folder, make_models(folder / "models"))

    def data_dir(self, name: str) -> Path:
        """A new data directory that knows this machine."""
        path = self.folder / name
        self.furnish(path / "data")
        return path / "data"

    def furnish(self, data: Path) -> None:
        shutil.copytree(self.folder / "probed", data, dirs_exist_ok=True)

    def search(self, data: Path) -> Recommendation:
        """A search with its store there, made where there is none."""
        self.furnish(data)
        return search_in(data, self.models)

    def search_zoo(self, request: Request, data: Path) -> Recommendation:
        """The same with real models and workers."""
        self.furnish(data)
        with _stored_in(data):
            return recommend(request, Silent(), start_real_engine)


def summary(rec: Recommendation) -> tuple[object, ...]:
    """What two recommendations that mean the same have in common."""
    best = rec.best.config if rec.best else None
    return rec.verdict, best, tuple(sorted(one.draft.name for one in rec.candidates))
