"""The real llama-server out of the package xllamacpp, answering prompts one after the other.

`python -m benchmarks.real_server` reads a Job as JSON from stdin and writes the Answers as JSON to stdout. It is a
child process because native code can end it, and one server each because xllamacpp has no way to stop one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advisor.types import Config, from_json, to_json

TIMEOUT_S = 900
FIELDS = {"ngram_size": "size_n", "k": "size_m", "ngram_min_hits": "min_hits"}
MOD_FIELDS = {"ngram_size": "n_match", "n_min": "n_min", "k": "n_max"}
DRAFTS = "llamacpp:spec_decode_num_drafts_total"


@dataclass(frozen=True)
class Job:
    """Greedy answers of ``model`` to the user's ``prompts``, speculating as ``config`` says."""

    model: str
    config: Config
    prompts: tuple[str, ...]
    max_tokens: int
    context: int
    threads: int


@dataclass(frozen=True)
class Answer:
    """``speculated`` counts the steps that verified a draft."""

    prompt_tokens: tuple[int, ...]
    answer_tokens: tuple[int, ...]
    ended: bool
    drafted: int
    accepted: int
    speculated: int


@dataclass(frozen=True)
class Answers:
    answers: tuple[Answer, ...]


def ask(job: Job) -> tuple[Answer, ...]:
    """One server's answers. RuntimeError with the end of its log when it does not give them."""
    command = [sys.executable, "-m", "benchmarks.real_server"]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, input=to_json(job), capture_output=True, timeout=TIMEOUT_S, cwd=root, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the server ended with {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}")
    return from_json(Answers, done.stdout.splitlines()[-1]).answers


def _serve(job: Job) -> Answers:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = job.model
    params.n_ctx, params.n_parallel, params.endpoint_metrics = job.context, 1, True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = job.threads
    params.no_extra_bufts = True  # llama.cpp's AMX kernels crash on some virtual machines
    params.cache_ram_mib = 0
    _speculate(params.speculative, job.config, xllamacpp.common_speculative_type)
    server = xllamacpp.Server(params)
    return Answers(tuple(_answer(server.listening_address, prompt, job.max_tokens) for prompt in job.prompts))


def _speculate(speculative: Any, config: Config, types: Any) -> None:
    name = config.method.replace("-", "_")
    speculative.types = [getattr(types, f"COMMON_SPECULATIVE_TYPE_{name.upper()}")]
    settings = getattr(speculative, name)
    for ours, theirs in (MOD_FIELDS if config.method == "ngram-mod" else FIELDS).items():
        setattr(settings, theirs, getattr(config, ours))


def _answer(address: str, prompt: str, max_tokens: int) -> Answer:
    message = {"role": "user", "content": prompt}
    text = _post(address, "/apply-template", {"messages": [message]})["prompt"]
    tokens = _post(address, "/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]
    before = _speculated(address)
    request = {
        "prompt": tokens,
        "n_predict": max_tokens,
        "temperature": 0,
        "return_tokens": True,
        "cache_prompt": False,
    }
    done = _post(address, "/completion", request)
    timings = done["timings"]
    return Answer(
        tuple(tokens),
        tuple(done["tokens"]),
        done["stop_type"] == "eos",
        timings.get("draft_n", 0),
        timings.get("draft_n_accepted", 0),
        _speculated(address) - before,
    )


def _speculated(address: str) -> int:
    with urllib.request.urlopen(f"{address}/metrics", timeout=TIMEOUT_S) as response:
        for line in response.read().decode().splitlines():
            if line.startswith(DRAFTS):
                return int(line.split()[1])
    return 0


def _post(address: str, path: str, body: object) -> dict[str, Any]:
    request = urllib.request.Request(address + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


if __name__ == "__main__":
    sys.stdout.buffer.write(to_json(_serve(from_json(Job, sys.stdin.buffer.read()))) + b"\n")
