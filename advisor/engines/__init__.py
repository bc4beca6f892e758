"""What can run a model. A new engine is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from advisor.engines.base import Engine, Runner
from advisor.types import Device


def _llama_cpp_python(extra_buffers: bool, on_remedy: Callable[[], None]) -> Engine:
    from advisor.engines.llama_cpp_python import LlamaCppPython

    return LlamaCppPython(extra_buffers=extra_buffers, on_remedy=on_remedy)


def _llama_server(path: str = "") -> FoundRunner:
    """The llama-server at ``path``, else the one that is found. Raises FileProblem when there is none."""
    from advisor.engines.find_server import devices, find_server
    from advisor.engines.llama_server import LlamaServer
    from advisor.engines.server_process import Deadlines

    program = find_server(path)
    return FoundRunner(
        lambda extra_buffers, on_remedy: LlamaServer(program, extra_buffers=extra_buffers, on_remedy=on_remedy),
        devices(program, within_s=Deadlines().speak_s),
    )


StartEngine = Callable[[bool, Callable[[], None]], Engine]
"""(extra_buffers, on_remedy) -> a new engine. ``on_remedy`` is called when extra buffers had to be switched off."""

ENGINES: dict[str, StartEngine] = {"llama-cpp-python": _llama_cpp_python}

StartRunner = Callable[[bool, Callable[[], None]], Runner]
"""As StartEngine, for what can only run."""


@dataclass(frozen=True)
class FoundRunner:
    """``devices``: what it can offload to, None where it does not say."""

    start: StartRunner
    devices: tuple[Device, ...] | None = None


RUNNERS: dict[str, Callable[[str], FoundRunner]] = {"llama-server": _llama_server}
"""By name: what finds the program at a path ("" where it usually is) and knows how to start it."""
