"""The real llama-server out of the package xllamacpp, in a child process: native code can end it, and xllamacpp has no
way to stop one.

`python -m benchmarks.real_server` reads a Setup as JSON from a line of stdin, prints the server's address and serves
until stdin ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advisor.types import Config, from_json, to_json

TIMEOUT_S = 900
FIELDS = {"ngram_size": "size_n", "k": "size_m", "ngram_min_hits": "min_hits"}
MOD_FIELDS = {"ngram_size": "n_match", "n_min": "n_min", "k": "n_max"}
DRAFT_FIELDS = {"k": "n_max", "n_min": "n_min", "p_min": "p_min"}
DRAFTS = "llamacpp:spec_decode_num_drafts_total"
ALONE = Config("", 0, method="none")


@dataclass(frozen=True)
class Setup:
    """A server of ``model``, speculating as ``config`` says, with the file ``draft`` where its method needs one.

    ``forced``: how often each place of a draft is accepted, unconditional and not increasing, one number for each of k;
    then what the draft proposes does not matter and the text means nothing, while every decode is real.
    """

    model: str
    config: Config = ALONE
    context: int = 1024
    threads: int = 2
    draft: str = ""
    forced: tuple[float, ...] = ()


@dataclass(frozen=True)
class Answer:
    """``speculated`` counts the steps that verified a draft; ``decode_s`` is the time after the first token."""

    prompt_tokens: tuple[int, ...]
    answer_tokens: tuple[int, ...]
    ended: bool
    drafted: int
    accepted: int
    speculated: int
    decode_s: float


class RealServer:
    """One running server. RuntimeError with the end of its log where it does not start."""

    def __init__(self, setup: Setup) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the server
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.real_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=Path(__file__).parent.parent,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(to_json(setup) + b"\n")
        self._process.stdin.flush()
        self._address = self._process.stdout.readline().decode().strip()
        if not self._address.startswith("http"):
            self.close()

    def __enter__(self) -> RealServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Raises RuntimeError where the server had ended by itself."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        ended = self._process.poll()
        self._process.stdin.close()
        self._process.stdout.close()
        code = self._process.wait(timeout=TIMEOUT_S)
        self._log.seek(0)
        said = self._log.read().decode(errors="replace")[-2000:]
        self._log.close()
        if ended is not None or code or not self._address:
            raise RuntimeError(f"the server ended with {code}: {said}")

    def tokenize(self, prompt: str) -> tuple[int, ...]:
        """The chat template over one message of the user."""
        text = self._post("/apply-template", {"messages": [{"role": "user", "content": prompt}]})["prompt"]
        body = {"content": text, "add_special": True, "parse_special": True}
        return tuple(self._post("/tokenize", body)["tokens"])

    def answer(self, prompt_tokens: tuple[int, ...], max_tokens: int) -> Answer:
        """Greedy, from an empty context."""
        before = self._speculated()
        request = {
            "prompt": prompt_tokens,
            "n_predict": max_tokens,
            "temperature": 0,
            "return_tokens": True,
            "cache_prompt": False,
        }
        done = self._post("/completion", request)
        timings = done["timings"]
        return Answer(
            prompt_tokens,
            tuple(done["tokens"]),
            done["stop_type"] == "eos",
            timings.get("draft_n", 0),
            timings.get("draft_n_accepted", 0),
            self._speculated() - before,
            timings["predicted_ms"] / 1000,
        )

    def _speculated(self) -> int:
        with urllib.request.urlopen(f"{self._address}/metrics", timeout=TIMEOUT_S) as response:
            for line in response.read().decode().splitlines():
                if line.startswith(DRAFTS):
                    return int(line.split()[1])
        return 0

    def _post(self, path: str, body: object) -> dict[str, Any]:
        header = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._address + path, json.dumps(body).encode(), header)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            answer: dict[str, Any] = json.load(response)
            return answer


def _serve(setup: Setup) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = setup.model
    params.n_ctx, params.n_parallel, params.endpoint_metrics = setup.context, 1, True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = setup.threads
    params.no_extra_bufts = True  # llama.cpp's AMX kernels crash on some virtual machines
    params.cache_ram_mib = 0
    _speculate(params.speculative, setup, xllamacpp.common_speculative_type)
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)  # the server's threads cannot be stopped


def _speculate(speculative: Any, setup: Setup, types: Any) -> None:
    config = setup.config
    name = config.method.replace("-", "_")
    speculative.types = [getattr(types, f"COMMON_SPECULATIVE_TYPE_{name.upper()}")]
    if config.method == "none":
        return
    if config.method == "draft-simple":
        settings, fields = speculative.draft, DRAFT_FIELDS
        settings.mparams.path = setup.draft
        for parameters in (settings.cpuparams, settings.cpuparams_batch):
            parameters.n_threads = setup.threads
        speculative.synth_rates = list(setup.forced)
    else:
        settings, fields = getattr(speculative, name), MOD_FIELDS if config.method == "ngram-mod" else FIELDS
    for ours, theirs in fields.items():
        setattr(settings, theirs, getattr(config, ours))


if __name__ == "__main__":
    _serve(from_json(Setup, sys.stdin.readline()))
