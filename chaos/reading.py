"""What must hold for any file at all: it is accepted, and then nothing that uses it breaks, or refused as promised."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from advisor.errors import AdvisorError, GGUFError
from advisor.gguf import read_model, read_token_texts
from advisor.host import Sources, probe
from advisor.memory import memory_use
from advisor.prune import judge
from advisor.report.json_document import dumps
from advisor.tokenizer import incompatibility
from advisor.types import Host, Model, from_json, to_json

CONTEXT = 4096
AT_THE_START = ("magic", "header")  # fields that byte 0 is the place of

Verdict = Literal["accepted", "refused"]


class BrokenPromise(Exception):
    """A file was neither accepted nor refused as promised."""


def this_machine(folder: Path) -> Host:
    """Without its bandwidth: measuring that takes seconds and a gigabyte."""
    return probe(store_dir=folder, sources=Sources(read_bandwidth=lambda _available, _threads, _cache: None))


def read_as_promised(path: Path, target: Model, host: Host) -> Verdict:
    """Raises BrokenPromise; whatever else it raises is a broken promise as well."""
    try:
        model = read_model(path)
    except GGUFError as error:
        _check_error(error, path.stat().st_size)
        return "refused"
    _use(model, target, host)
    return "accepted"


def _check_error(error: GGUFError, file_bytes: int) -> None:
    if not (error.what and error.why and error.fix):
        raise BrokenPromise(f"the error does not say what, why and what to do: {error!r}")
    if not error.field:
        raise BrokenPromise(f"the error names no field: {error}")
    if not 0 <= error.offset <= file_bytes or (error.offset == 0 and error.field not in AT_THE_START):
        raise BrokenPromise(f"the error of {error.field} has offset {error.offset} in {file_bytes} bytes: {error.why}")


def _use(model: Model, target: Model, host: Host) -> None:
    """What the advisor does with the header of a file that it has accepted."""
    for role in ("target", "draft"):
        if memory_use(model, CONTEXT, outputs=17, role=role, on_gpu=False).total_bytes < model.weights_bytes:
            raise BrokenPromise("a model takes less memory than its weights")
    try:
        texts, size = len(read_token_texts(Path(model.path))), model.vocabulary.size
        if texts != size and (size or not model.draft_only):  # a part's list of tokens may be of no tokenizer
            raise BrokenPromise("the vocabulary has another size than its texts")
        incompatibility(target, model)
        judge(target, model, host, CONTEXT, k_max=16)
    except AdvisorError as error:
        if not model.draft_only:  # a part of a model need not have a vocabulary
            raise BrokenPromise(f"accepted, and refused later: {error.what}") from error
    if from_json(Model, to_json(model)) != model:
        raise BrokenPromise("its record does not survive JSON")
    dumps({"name": model.name, "architecture": model.architecture})
