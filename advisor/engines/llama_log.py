"""What llama.cpp says while it works: its warnings and errors reach the log, whose end a failure quotes.

What it tells about every tensor and buffer does not: it would be all that a killed worker leaves to read.
"""

from __future__ import annotations

import ctypes
import sys

import llama_cpp

WARNING, ERROR, CONTINUED = 3, 4, 5  # of ggml_log_level

_heard = False


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _listen(level: int, text: bytes, _data: ctypes.c_void_p) -> None:
    global _heard
    _heard = _heard if level == CONTINUED else level in (WARNING, ERROR)
    if _heard:
        print(text.decode("utf-8", "replace"), end="", flush=True, file=sys.stderr)


def listen() -> None:
    """For the whole process; llama-cpp-python's own listener tells everything."""
    llama_cpp.llama_log_set(_listen, ctypes.c_void_p(0))
