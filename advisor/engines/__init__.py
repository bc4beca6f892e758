"""What can run a model. A new engine is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable

from advisor.engines.base import Engine


def _llama_cpp_python(extra_buffers: bool, on_remedy: Callable[[], None]) -> Engine:
    from advisor.engines.llama_cpp_python import LlamaCppPython

    return LlamaCppPython(extra_buffers=extra_buffers, on_remedy=on_remedy)


StartEngine = Callable[[bool, Callable[[], None]], Engine]
"""(extra_buffers, on_remedy) -> a new engine. ``on_remedy`` is called when extra buffers had to be switched off."""

ENGINES: dict[str, StartEngine] = {"llama-cpp-python": _llama_cpp_python}
