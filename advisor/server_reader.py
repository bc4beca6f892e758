"""A llama-server that somebody else runs, asked over HTTP or HTTPS. It is only read, and nothing it says is trusted.

No proxy and no redirection is followed: what is asked goes to the address that was given, and nowhere else.
"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from advisor.errors import OptionError, ServerProblem
from advisor.http_call import EndlessAnswer, call, error_message
from advisor.server_metrics import samples

ANSWER_S = 30.0  # a server answers between two decodes, and a decode of a long prompt takes a while
LONGEST_ANSWER_BYTES = 4 << 20
QUOTED = 120
PORTS = {"http": 80, "https": 443}
HOW_TO_ENABLE = "Start llama-server with --metrics."


@dataclass(frozen=True)
class Address:
    """``prefix`` is what stands before /metrics, "" or "/some/path"."""

    scheme: str
    host: str
    port: int
    prefix: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.prefix}"


def address(url: str) -> Address:
    """Raises OptionError for what is not the address of an HTTP server."""
    fix = "Write it as http://127.0.0.1:8080."
    if not url.isascii() or not url.isprintable() or " " in url:
        raise OptionError(f"--url: {url!r} is not an address.", why="It has characters that no URL has.", fix=fix)
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode("ascii")
    except ValueError:
        raise OptionError(f"--url: {url!r} is not an address.", fix=fix) from None
    if parts.scheme not in PORTS or not host:
        raise OptionError(f"--url: {url!r} is not an http or https address.", fix=fix)
    if parts.username is not None or parts.query or parts.fragment:
        raise OptionError("--url: only a scheme, a host, a port and a path can be given.", fix=fix)
    return Address(parts.scheme, host, PORTS[parts.scheme] if port is None else port, parts.path.rstrip("/"))


class ServerReader:
    """``api_key`` is sent where it is not ""."""

    def __init__(self, server: Address, *, api_key: str = "", answer_s: float = ANSWER_S) -> None:
        self.server, self._api_key, self._answer_s = server, api_key, answer_s

    def metrics(self) -> dict[str, float]:
        """The samples of ``/metrics``. Raises ServerProblem, which says whether trying again can help."""
        status, content = self._get("/metrics")
        text = content.decode("utf-8", "replace")
        if status != 200:
            raise self._refused(status, content)
        try:
            found = samples(text)
        except ValueError as error:
            raise self.nonsense(str(error)) from None
        if not found:
            raise self.nonsense(text)
        return found

    def slots(self) -> Any:
        """What ``/slots`` says, None where it is off or says nothing that can be read."""
        return self._json("/slots")

    def model_path(self) -> str:
        """The model file that is served, "" where the server does not tell."""
        properties = self._json("/props")
        path = properties.get("model_path") if isinstance(properties, dict) else None
        return path if isinstance(path, str) else ""

    def model_parameters(self) -> int:
        """How many the served model has, 0 where the server does not tell."""
        listing = self._json("/v1/models")
        models = listing.get("data") if isinstance(listing, dict) else None
        meta = models[0].get("meta") if isinstance(models, list) and models and isinstance(models[0], dict) else None
        count = meta.get("n_params") if isinstance(meta, dict) else None
        return count if isinstance(count, int) and not isinstance(count, bool) and count > 0 else 0

    def nonsense(self, said: str) -> ServerProblem:
        """The error for an answer of ``/metrics`` that is not a llama-server's."""
        return ServerProblem(
            f"{self.server} answers /metrics, but not as llama.cpp's llama-server does.",
            why=f"It said: {_quoted(said)}",
            fix="Check the address; only a llama-server can be watched.",
        )

    def _json(self, path: str) -> Any:
        try:
            status, content = self._get(path)
            return json.loads(content) if status == 200 else None
        except (ServerProblem, ValueError, RecursionError):
            return None

    def _get(self, path: str) -> tuple[int, bytes]:
        kind = http.client.HTTPSConnection if self.server.scheme == "https" else http.client.HTTPConnection
        connection = kind(self.server.host, self.server.port, timeout=self._answer_s)
        headers = {"Accept": "*/*"} | ({"Authorization": f"Bearer {self._api_key}"} if self._api_key else {})
        try:
            return call(
                connection,
                "GET",
                self.server.prefix + path,
                headers=headers,
                timeout_s=self._answer_s,
                longest_bytes=LONGEST_ANSWER_BYTES,
            )
        except TimeoutError:
            raise ServerProblem(
                f"{self.server} did not answer within {self._answer_s:g} s.",
                why="It may be reading a long prompt, or hang.",
                fix="Check the address and the server's log.",
            ) from None
        except EndlessAnswer:
            raise ServerProblem(
                f"{self.server} answers {path} with more than {LONGEST_ANSWER_BYTES >> 20} MiB.",
                why="A llama-server says much less there.",
                fix="Check the address; only a llama-server can be watched.",
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise ServerProblem(
                f"{self.server} is not reachable.",
                why=f"{_quoted(str(error)) or type(error).__name__}.",
                fix="Check that the server runs, and its address and port.",
            ) from None

    def _refused(self, status: int, content: bytes) -> ServerProblem:
        said = _quoted(error_message(content, longest=4 * QUOTED))
        if status == 501:
            return ServerProblem(
                f"{self.server} does not publish its counters.", why=f"It said: {said}", fix=HOW_TO_ENABLE
            )
        if status in (401, 403):
            return ServerProblem(
                f"{self.server} wants an API key ({status}).",
                why=f"It said: {said}",
                fix="Name a file that holds one: --api-key-file FILE.",
            )
        if status == 503:
            return ServerProblem(f"{self.server} is not ready ({status}).", why=f"It said: {said}")
        return ServerProblem(
            f"{self.server} has no /metrics ({status}).",
            why=f"It said: {said}",
            fix=f"Check the address. {HOW_TO_ENABLE}",
        )


def _quoted(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= QUOTED else f"{words[:QUOTED]}…"
