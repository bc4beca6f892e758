"""The models and prompts of the benchmarks. What is synthetic about the models is said in advisor/testing/zoo.py."""

from __future__ import annotations

from pathlib import Path

from advisor.testing.zoo import DEMO_TARGET, Recipe, build, demo_models
from advisor.types import Message, Prompt, Workload

# draftbench measures one draft length; the usual ones are swept here.
SWEPT_K = (1, 2, 4, 8, 12, 16)

# Pairs that win, lose and lie between, for comparing predictions with runs.
COMPARED_DRAFTS = (Recipe(29, "Q8_0"), Recipe(29, "Q4_0"), Recipe(27, "Q5_0"), Recipe(24, "Q8_0"), Recipe(30, "Q8_0"))

# Where only counts are compared the original depth does: its text is that of the larger targets. In F32 a batch gives
# what single decodes give but for the last bits, so that texts hardly ever part at near-ties.
REPLAYED_TARGET = Recipe(30, "F32")
REPLAYED_DRAFTS = (Recipe(29, "Q8_0"), Recipe(27, "Q5_0"), Recipe(24, "Q8_0"), Recipe(30, "Q2_K"))

# As in draftbench: three prompts, up to 1024 tokens each. These are of a kind at which a 135M model writes that much.
LONG_TOKENS, LONG_CONTEXT = 1024, 2048
_LONG_PROMPTS = (
    (
        "code",
        "Write a complete Python module with a class named Inventory: add, remove, find, list, save to JSON, load from "
        "JSON, statistics, a command-line interface and unit tests. Write all of the code.",
    ),
    ("json", "Write a JSON object that maps each number from 1 to 200 to its square."),
    ("prose", "Write a very long story about a sailor who travels around the world."),
)


def long_answers() -> Workload:
    prompts = tuple(Prompt((Message("user", text),), category) for category, text in _LONG_PROMPTS)
    return Workload("three long answers", prompts, content_hash="long-answers-1")


def long_answers_jsonl() -> str:
    """The same as a file for --workload."""
    import json

    return "".join(json.dumps({"prompt": text, "category": category}) + "\n" for category, text in _LONG_PROMPTS)


def swept_models() -> tuple[Path, tuple[Path, ...]]:
    """The target and the twelve drafts of the sweep: those of the demo."""
    return demo_models()


def compared_models() -> tuple[Path, tuple[Path, ...]]:
    return build(DEMO_TARGET), tuple(build(recipe) for recipe in COMPARED_DRAFTS)


def replayed_models() -> tuple[Path, tuple[Path, ...]]:
    return build(REPLAYED_TARGET), tuple(build(recipe) for recipe in REPLAYED_DRAFTS)
