"""Bad files: every mutant read in a child with limits on time and memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from advisor.engines.process import WorkerProcess
from advisor.errors import EngineCrash, EngineError, EngineTimeout
from advisor.types import to_json
from chaos.mutations import Mutant, seeds
from chaos.outcome import Outcome
from chaos.reader_worker import MEMORY_BYTES
from chaos.reading import this_machine

LONGEST_S = 2.0


def bad_files(folder: Path, mutants: Iterable[Mutant]) -> Iterator[Outcome]:
    lost: list[str] = []
    verdicts: Counter[str] = Counter()
    slowest_s, most_bytes = 0.0, 0
    target, path = folder / "sound.gguf", folder / "mutant.gguf"
    target.write_bytes(seeds()["llama"])
    reader: WorkerProcess | None = None
    for mutant in mutants:
        path.write_bytes(mutant.content)
        reader = reader or _reader(target, folder)
        try:
            reply = reader.ask("read", {"path": str(path)}, timeout_s=LONGEST_S)
        except EngineError as error:
            lost.append(f"{mutant.name}: {error.what}")
            if isinstance(error, EngineCrash | EngineTimeout):
                reader.kill()
                reader = None
            continue
        verdicts[reply["verdict"]] += 1
        slowest_s = max(slowest_s, reply["seconds"])
        most_bytes = max(most_bytes, reply["more_bytes"])
        if reply["more_bytes"] > MEMORY_BYTES:
            lost.append(f"{mutant.name}: it took {reply['more_bytes'] >> 20} MiB")
    if reader is not None:
        reader.close()
    note = (
        f"{verdicts['refused']} refused with offset and field, {verdicts['accepted']} accepted; "
        f"slowest {slowest_s:.2f} s, most memory {most_bytes >> 20} MiB"
    )
    yield Outcome("a damaged model file is read", verdicts.total() + len(lost), tuple(lost), note)


def _reader(target: Path, folder: Path) -> WorkerProcess:
    reader = WorkerProcess("chaos.reader_worker")
    host = to_json(this_machine(folder)).decode()
    reader.ask("prepare", {"target": str(target), "host": host}, timeout_s=60)
    return reader
