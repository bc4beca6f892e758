"""One HTTP request with an end: in time, however slowly bytes arrive, and in size."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Mapping


class EndlessAnswer(Exception):
    """The answer is longer than it may be."""


def call(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str],
    timeout_s: float,
    longest_bytes: int,
) -> tuple[int, bytes]:
    """(status, content) over a connection that is not open yet, and is closed after it.

    TimeoutError after ``timeout_s`` all in all from the moment it is connected; EndlessAnswer, OSError, HTTPException
    for what else goes wrong. Redirections are answers like others.
    """
    connection.connect()
    stream = connection.sock
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        with contextlib.suppress(OSError):
            stream.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(timeout_s, expire)
    timer.daemon = True
    timer.start()
    try:
        connection.request(method, path, body, dict(headers))
        with connection.getresponse() as response:  # may own the socket by now
            content = response.read(longest_bytes + 1)
        if expired.is_set():
            raise TimeoutError
        if len(content) > longest_bytes:
            raise EndlessAnswer("an answer without an end")
        return response.status, content
    except (OSError, http.client.HTTPException) as error:
        if expired.is_set():
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()
        connection.close()


def error_message(content: bytes, longest: int = 200) -> str:
    """What a server says in an error document of OpenAI's form, as llama-server does, else how its answer begins."""
    try:
        return str(json.loads(content)["error"]["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return content[:longest].decode("utf-8", "replace")
