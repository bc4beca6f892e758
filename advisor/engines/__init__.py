"""What can run a model. A new engine is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable

from advisor.engines.base import Engine, Runner


def _llama_cpp_python(extra_buffers: bool, on_remedy: Callable[[], None]) -> Engine:
    from advisor.engines.llama_cpp_python import LlamaCppPython

    return LlamaCppPython(extra_buffers=extra_buffers, on_remedy=on_remedy)


def _llama_server(path: str = "") -> StartRunner:
    """The llama-server at ``path``, else the one that is found. Raises FileProblem when there is none."""
    from advisor.engines.find_server import find_server
    from advisor.engines.llama_server import LlamaServer

    program = find_server(path)
    return lambda extra_buffers, on_remedy: LlamaServer(program, extra_buffers=extra_buffers, on_remedy=on_remedy)


StartEngine = Callable[[bool, Callable[[], None]], Engine]
"""(extra_buffers, on_remedy) -> a new engine. ``on_remedy`` is called when extra buffers had to be switched off."""

ENGINES: dict[str, StartEngine] = {"llama-cpp-python": _llama_cpp_python}

StartRunner = Callable[[bool, Callable[[], None]], Runner]
"""As StartEngine, for what can only run."""

RUNNERS: dict[str, Callable[[str], StartRunner]] = {"llama-server": _llama_server}
"""By name: what finds the program at a path ("" where it usually is) and knows how to start it."""
