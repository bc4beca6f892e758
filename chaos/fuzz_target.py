"""The header reader under a coverage-guided fuzzer. Run by ``chaos.fuzz``, with libFuzzer's own arguments.

What must hold is what holds for every file (``chaos.reading``); anything else is a finding, which atheris writes down.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["advisor.gguf"]):
    from advisor.gguf import read_model

from chaos.mutations import seeds
from chaos.reading import read_as_promised, this_machine


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="chaos-fuzz-") as name:
        folder = Path(name)
        path, sound = folder / "fuzzed.gguf", folder / "sound.gguf"
        sound.write_bytes(seeds()["llama"])
        target, host = read_model(sound), this_machine(folder)

        def read(content: bytes) -> None:
            path.write_bytes(content)
            read_as_promised(path, target, host)

        atheris.Setup(sys.argv, read)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
