"""The llama-server inside the package xllamacpp as a command: ``advisor-llama-server -m FILE …``, which is
``python -m advisor.engines.packaged_server -m FILE …``.

It takes llama-server's own options, those that this project uses, refuses others as llama-server does, and lists them
under ``--help`` in llama-server's layout. So everything that runs a llama-server runs this one too. It is native code:
start it as a process of its own.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Setter = Callable[[Any, str], None]
PORT = 8080  # llama-server's own default; xllamacpp's is any free one
BUILD_PART = 2  # xllamacpp numbers its releases year.month.build


@dataclass(frozen=True)
class Option:
    """``names`` and ``value`` as llama-server shows them; ``value`` "" takes none. ``default`` names the parameter
    whose initial value is shown."""

    names: tuple[str, ...]
    value: str
    set: Setter
    default: str = ""


def _attribute(path: str, convert: Callable[[str], Any] = int) -> Setter:
    """Sets params.a.b for the path "a.b"."""

    def setter(params: Any, value: str) -> None:
        *parents, last = path.split(".")
        for parent in parents:
            params = getattr(params, parent)
        setattr(params, last, convert(value))

    return setter


def _number(names: str, path: str, convert: Callable[[str], Any] = int) -> Option:
    return Option(tuple(names.split()), "N", _attribute(path, convert), default=path)


def _threads(path: str) -> Setter:
    def setter(params: Any, value: str) -> None:
        owner = params
        for part in filter(None, path.split(".")):
            owner = getattr(owner, part)
        owner.cpuparams.n_threads = owner.cpuparams_batch.n_threads = int(value)

    return setter


def _types(params: Any, value: str) -> None:
    import xllamacpp

    params.speculative.types = [
        getattr(xllamacpp.common_speculative_type, f"COMMON_SPECULATIVE_TYPE_{name.upper().replace('-', '_')}")
        for name in value.split(",")
    ]


def _cache_type(path: str) -> Setter:
    def setter(params: Any, value: str) -> None:
        import xllamacpp

        _attribute(path, lambda name: getattr(xllamacpp.ggml_type, f"GGML_TYPE_{name.upper()}"))(params, value)

    return setter


def _layers(value: str) -> int:
    return {"auto": -1, "all": -2}.get(value) or int(value)


def _switch(path: str, value: bool) -> Setter:
    setter = _attribute(path, lambda _text: value)
    return lambda params, _value: setter(params, "")


def _ngram_map(name: str) -> list[Option]:
    parts = {"size-n": "size_n", "size-m": "size_m", "min-hits": "min_hits"}
    owner = f"speculative.{name.replace('-', '_')}"
    return [_number(f"--spec-{name}-{flag}", f"{owner}.{field}") for flag, field in parts.items()]


METHODS = (
    "none,draft-simple,draft-eagle3,draft-mtp,draft-dflash,draft-dspark,"
    "ngram-simple,ngram-map-k,ngram-map-k4v,ngram-mod,ngram-cache"
)
OPTIONS = [
    Option(("-m", "--model"), "FNAME", _attribute("model.path", str)),
    Option(("-a", "--alias"), "STRING", _attribute("model_alias", lambda name: {name})),
    Option(("--host",), "HOST", _attribute("hostnames", lambda host: [host])),
    Option(("--port",), "PORT", _attribute("port"), default="port"),
    _number("-c --ctx-size", "n_ctx"),
    _number("-np --parallel", "n_parallel"),
    Option(("-t", "--threads"), "N", _threads("")),
    Option(("-ngl", "--gpu-layers", "--n-gpu-layers"), "N", _attribute("n_gpu_layers", _layers)),
    Option(("-ctk", "--cache-type-k"), "TYPE", _cache_type("cache_type_k")),
    Option(("-ctv", "--cache-type-v"), "TYPE", _cache_type("cache_type_v")),
    Option(("-nr", "--no-repack"), "", _switch("no_extra_bufts", True)),
    _number("-cram --cache-ram", "cache_ram_mib"),
    Option(("--metrics",), "", _switch("endpoint_metrics", True)),
    _number("--temp --temperature", "sampling.temp", float),
    _number("--top-k", "sampling.top_k"),
    _number("--top-p", "sampling.top_p", float),
    _number("--min-p", "sampling.min_p", float),
    Option(("--spec-draft-model", "-md", "--model-draft"), "FNAME", _attribute("speculative.draft.mparams.path", str)),
    Option(("--spec-draft-threads", "-td", "--threads-draft"), "N", _threads("speculative.draft")),
    Option(
        ("--spec-draft-ngl", "-ngld", "--gpu-layers-draft", "--n-gpu-layers-draft"),
        "N",
        _attribute("speculative.draft.n_gpu_layers", _layers),
    ),
    Option(
        ("--spec-draft-type-k", "-ctkd", "--cache-type-k-draft"),
        "TYPE",
        _cache_type("speculative.draft.cache_type_k"),
    ),
    Option(
        ("--spec-draft-type-v", "-ctvd", "--cache-type-v-draft"),
        "TYPE",
        _cache_type("speculative.draft.cache_type_v"),
    ),
    _number("--spec-draft-n-max", "speculative.draft.n_max"),
    _number("--spec-draft-n-min", "speculative.draft.n_min"),
    _number("--spec-draft-p-min --draft-p-min", "speculative.draft.p_min", float),
    Option(
        ("--spec-draft-sampling",),
        "{greedy,probabilistic}",
        _attribute("speculative.draft.probabilistic", lambda value: value == "probabilistic"),
    ),
    Option(
        ("--spec-synth-rates",),
        "P0,P1,...",
        _attribute("speculative.synth_rates", lambda rates: [float(rate) for rate in rates.split(",")]),
    ),
    Option(("--spec-type",), METHODS, _types),
    _number("--spec-ngram-mod-n-match", "speculative.ngram_mod.n_match"),
    _number("--spec-ngram-mod-n-min", "speculative.ngram_mod.n_min"),
    _number("--spec-ngram-mod-n-max", "speculative.ngram_mod.n_max"),
    *_ngram_map("ngram-simple"),
    *_ngram_map("ngram-map-k"),
    *_ngram_map("ngram-map-k4v"),
]
BY_NAME: Mapping[str, Option] = {name: option for option in OPTIONS for name in option.names}


def run() -> None:
    """The program ``advisor-llama-server``."""
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # the server's threads do not end by themselves


def main(arguments: list[str]) -> int:
    if importlib.util.find_spec("xllamacpp") is None:
        print("error: the package xllamacpp is missing. Run: pip install 'draft-advisor[server]'", file=sys.stderr)
        return 2
    if "--version" in arguments:
        version = importlib.metadata.version("xllamacpp")
        print(f"version: xllamacpp-{version} (build {version.split('.')[BUILD_PART]}, commit unknown)")
        return 0
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.port = PORT
    if "--help" in arguments:
        print("\n".join(_help(option, params) for option in OPTIONS))
        return 0
    try:
        _apply(params, arguments)
        server = xllamacpp.Server(params)
    except (ValueError, RuntimeError, AttributeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"server is listening on {server.listening_address}", flush=True)
    threading.Event().wait()  # until it is killed
    return 0


def _apply(params: Any, arguments: list[str]) -> None:
    """Raises ValueError for an option that it does not know, or one without its value."""
    rest = iter(arguments)
    options: list[tuple[Option, str]] = []
    for name in rest:
        if name not in BY_NAME:
            raise ValueError(f"invalid argument: {name}")
        value = next(rest, None) if BY_NAME[name].value else ""
        if value is None:
            raise ValueError(f"expected value for argument: {name}")
        options.append((BY_NAME[name], value))
    # the draft runs on as many threads as the target unless told; only llama-server's own parser does that by itself
    given = {name for option, _value in options for name in option.names}
    if "-t" in given and "-td" not in given:
        options += [(BY_NAME["-td"], value) for option, value in options if "-t" in option.names]
    for option, value in options:
        option.set(params, value)


def _help(option: Option, params: Any) -> str:
    head = f"{', '.join(option.names)} {option.value}".rstrip()
    default = params
    for part in filter(None, option.default.split(".")):
        default = getattr(default, part)
    return f"{head}\n{'':40}see llama-server" + (f" (default: {default:g})" if option.default else "")


if __name__ == "__main__":
    run()
