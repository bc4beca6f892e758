"""What llama.cpp itself says it takes. Run as ``python -m chaos.logged_buffers MODEL SETTINGS``.

SETTINGS is a JSON list of [context, micro-batch, outputs]. Prints, for each, the log that names the sizes of the
buffers, as a JSON list. On the CPU, without extra buffer types, which would hold weights a second time.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from advisor.engines.process import child_environment

Setting = tuple[int, int, int]
"""(context, micro-batch, outputs)"""

LONGEST_S = 300.0


def logs_of(path: Path, settings: Sequence[Setting]) -> list[str]:
    """One log a setting, from a child process. Raises CalledProcessError when it cannot load the model."""
    command = [sys.executable, "-m", "chaos.logged_buffers", str(path), json.dumps(settings)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=LONGEST_S, env=child_environment()
    )
    logs: list[str] = json.loads(done.stdout.splitlines()[-1])
    return logs


def mebibytes_in(log: str, buffer: str) -> float:
    """The sum of all buffers of that name: "model", "KV", "compute", "output"."""
    return sum(float(size) for size in re.findall(rf"{buffer} buffer size = +([\d.]+) MiB", log))


def _print_logs(path: str, settings: Sequence[Setting]) -> None:
    import llama_cpp

    lines: list[str] = []

    @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
    def listen(_level: int, text: bytes, _data: object) -> None:
        lines.append(text.decode("utf-8", "replace"))

    llama_cpp.llama_log_set(listen, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    options = llama_cpp.llama_model_default_params()
    options.n_gpu_layers, options.use_extra_bufts = 0, False
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), options)
    if not model:
        sys.exit("".join(lines)[-2000:])
    loaded, logs = "".join(lines), []
    for context, ubatch, outputs in settings:
        lines.clear()
        asked = llama_cpp.llama_context_default_params()
        asked.n_ctx, asked.n_batch, asked.n_ubatch = context, max(2048, ubatch), ubatch
        asked.n_outputs_max = asked.n_outputs_max_per_seq = outputs
        asked.swa_full = False  # as in llama-server
        opened = llama_cpp.llama_init_from_model(model, asked)
        logs.append(loaded + "".join(lines))
        llama_cpp.llama_free(opened)
    print(json.dumps(logs))


if __name__ == "__main__":
    _print_logs(sys.argv[1], json.loads(sys.argv[2]))
