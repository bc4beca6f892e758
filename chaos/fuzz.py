"""A coverage-guided fuzz of the header reader: atheris (libFuzzer for Python), from seeds that are kept here.

atheris has wheels for Linux and needs a Python it was built for; without it this part is skipped, and what remains is
``tests/test_gguf.py``, where hypothesis flips bytes, and the corpus of ``chaos.mutations``.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from advisor.engines.process import child_environment
from chaos.cover import worth_keeping
from chaos.mutations import fuzz_seeds
from chaos.outcome import Outcome

SEEDS = Path(__file__).parent / "seeds"
LONGEST_BYTES = 8192
LIMITS = ("-timeout=2", "-rss_limit_mb=1500", "-malloc_limit_mb=1000", f"-max_len={LONGEST_BYTES}")
WORDS = (
    *("GGUF", "general.architecture", "llama", "gemma3", "cohere2", "mamba", "qwen3next", "clip", "split.count"),
    *("general.alignment", "llama.block_count", "attention.head_count", "attention.head_count_kv", "expert_count"),
    *("nextn_predict_layers", "tokenizer.ggml.tokens", "tokenizer.ggml.model", "token_embd.weight", "blk.0."),
)
WHAT = "coverage-guided fuzz of the header reader"


def fuzz(folder: Path, seconds: int, *, keep: bool = False, seed: int = 1) -> Iterator[Outcome]:
    """``keep`` adds what reached new code to the seeds."""
    if importlib.util.find_spec("atheris") is None:
        yield Outcome(WHAT, 0, skipped="atheris is not installed (pip install atheris)")
        return
    corpus, findings = folder / "corpus", folder / "findings"
    for made in (corpus, findings):
        made.mkdir()
    for name, content in fuzz_seeds().items():
        (corpus / name).write_bytes(content)
    dictionary = folder / "words"
    dictionary.write_text("".join(f'"{word}"\n' for word in WORDS))
    command = [
        *(f"-max_total_time={seconds}", f"-seed={seed}", f"-dict={dictionary}", "-print_final_stats=1", *LIMITS),
        f"-artifact_prefix={findings}/",
        *map(str, (corpus, SEEDS)),
    ]
    done = _run(command, timeout_s=seconds + 120)
    said = _last_words(done.stdout + done.stderr)  # atheris prints the exception to the first, libFuzzer to the second
    found = [f"{path.name}: {said}" for path in sorted(findings.iterdir())]
    if done.returncode and not found:
        found = [f"the fuzzer ended with {done.returncode}: {said}"]
    kept = Path.cwd() / "chaos-findings"
    if any(findings.iterdir()):
        shutil.copytree(findings, kept, dirs_exist_ok=True)
    if keep:
        for path in worth_keeping(corpus.iterdir(), known=SEEDS.iterdir()):
            shutil.copy(path, SEEDS / path.name)
    runs = int(_number(r"number_of_executed_units:\s*(\d+)", done.stderr))
    edges = int(_number(r".*cov: (\d+)", done.stderr))
    yield Outcome(WHAT, runs, tuple(found), f"{seconds} s, {edges} edges of advisor.gguf reached")


def _run(arguments: list[str], *, timeout_s: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "chaos.fuzz_target", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=timeout_s, env=child_environment()
    )


def _number(pattern: str, text: str) -> str:
    """The last match, "0" without one."""
    found: list[str] = re.findall(pattern, text) or ["0"]
    return found[-1]


def _last_words(text: str) -> str:
    """The exception, else what libFuzzer says of a time or memory limit."""
    found = re.search(r"Uncaught Python exception: ===\s*(.+)", text) or re.search(r"ERROR: libFuzzer: (.+)", text)
    return found[1][:300] if found else text[-300:]
