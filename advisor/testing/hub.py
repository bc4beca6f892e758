"""A model hub on loopback: a folder of files served as Hugging Face serves repositories, for the real client.

    with FakeHub(folder) as hub:            # folder/<owner>/<repository>/<files>
        hub.faults.append(Drop("model.gguf", after_bytes=1000))
        ... a client with HF_ENDPOINT=hub.endpoint ...
    assert hub.requests[-1].range == "bytes=1000-"

With ``cdn=True`` files come, as from the real hub, by a redirect to another host: "localhost" for "127.0.0.1".

What is served: ``/api/models/{repo}`` with and without a revision, its file tree and its refs, and
``/{repo}/resolve/{revision}/{file}`` with ETag, X-Repo-Commit, X-Linked-Size and byte ranges. Every repository has one
revision, ``main``; its commit changes with the names and sizes of its files. Files answer as large files do on the
hub (by their SHA-256). Nothing is proxied, no page is written, no token is checked.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, unquote, urlsplit

BLOCK_BYTES = 1 << 16

_API = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)(?:/(?P<what>revision|tree|refs)(?:/(?P<revision>[^/]+))?)?")
_RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
_CDN = re.compile(r"/cdn/(?P<repo>[^/]+/[^/]+)/(?P<file>.+)")
_RANGE = re.compile(r"bytes=(?P<start>\d+)-(?P<end>\d*)")


@dataclass(frozen=True)
class Drop:
    """The connection breaks after so many bytes of one answer. Used up by that answer."""

    file: str
    after_bytes: int


@dataclass(frozen=True)
class Refuse:
    """Every request for a repository or a file whose path holds ``part`` is refused. 403 is how a gated one answers."""

    part: str
    status: int = 404


@dataclass(frozen=True)
class WrongSize:
    """The listing claims ``extra_bytes`` more for a file than it has. The file itself is served as it is."""

    file: str
    extra_bytes: int


@dataclass(frozen=True)
class Corrupt:
    """The first byte of every answer with this file is changed."""

    file: str


@dataclass(frozen=True)
class Hold:
    """An answer with this file stops after so many bytes until ``release`` is set: a slow hub, without waiting."""

    file: str
    after_bytes: int
    release: threading.Event = field(default_factory=threading.Event)


Fault = Drop | Refuse | WrongSize | Corrupt | Hold


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    range: str = ""
    authorization: str = ""


class FakeHub:
    """The hub of ``folder``, while it is entered as a context manager. ``requests`` is its log, oldest first."""

    def __init__(self, folder: Path, *, cdn: bool = False) -> None:
        self.folder, self.cdn = folder, cdn
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def cdn_endpoint(self) -> str:
        return f"http://localhost:{self._server.server_address[1]}/cdn"

    def __enter__(self) -> FakeHub:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for fault in self.faults:
            if isinstance(fault, Hold):
                fault.release.set()
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()
        self._thread.join()

    def downloads(self, file: str) -> list[Request]:
        """The requests for the content of a file, oldest first."""
        return [one for one in self.requests if one.method == "GET" and one.path.endswith(f"/{file}")]

    def commit(self, repo: str) -> str:
        """The commit of a repository: 40 hexadecimal digits."""
        listed = "\n".join(f"{path} {file.stat().st_size}" for path, file in self.files(repo).items())
        return hashlib.sha1(f"{repo}\n{listed}".encode(), usedforsecurity=False).hexdigest()

    def files(self, repo: str) -> dict[str, Path]:
        """The files of a repository by path, in order; empty for a repository that does not exist."""
        root = self.folder.joinpath(*repo.split("/"))
        found = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else []
        return {path.relative_to(root).as_posix(): path for path in found}

    def claimed_size(self, path: str, file: Path) -> int:
        extra = [fault.extra_bytes for fault in self.faults if isinstance(fault, WrongSize) and fault.file == path]
        return file.stat().st_size + sum(extra)

    def refusal(self, path: str) -> int | None:
        return next((one.status for one in self.faults if isinstance(one, Refuse) and one.part in path), None)

    def take_drop(self, path: str) -> int | None:
        """After how many bytes to break the next answer with this file. It happens once."""
        for fault in self.faults:
            if isinstance(fault, Drop) and fault.file == path:
                self.faults.remove(fault)
                return fault.after_bytes
        return None


class _Server(ThreadingHTTPServer):
    """A server that can also end the connections that clients keep open, as a hub that is gone would."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._open: list[socket.socket] = []

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._open.append(connection)
        return connection, address

    def hang_up(self) -> None:
        for connection in self._open:
            with contextlib.suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        pass

    Handler.hub = hub
    return Handler


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the log is ``FakeHub.requests``."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(
            Request(self.command, path, self.headers.get("Range", ""), self.headers.get("Authorization", ""))
        )
        status = self.hub.refusal(path)
        if status is not None:
            self._fail(status, {401: "RepoNotFound", 403: "GatedRepo", 404: "RepoNotFound"}.get(status, ""))
        elif match := _API.fullmatch(path):
            self._api(match["repo"], match["what"] or "", match["revision"] or "main")
        elif match := _RESOLVE.fullmatch(path):
            self._resolve(match["repo"], match["revision"], match["file"])
        elif match := _CDN.fullmatch(path):
            self._send_file(match["file"], self.hub.files(match["repo"])[match["file"]])
        else:
            self._fail(404, "")

    def _api(self, repo: str, what: str, revision: str) -> None:
        files = self.hub.files(repo)
        commit = self.hub.commit(repo)
        if not files:
            self._fail(404, "RepoNotFound")
        elif revision not in ("main", commit):
            self._fail(404, "RevisionNotFound")
        elif what == "tree":
            self._json([self._tree_entry(path, file) for path, file in files.items()])
        elif what == "refs":
            main = {"name": "main", "ref": "refs/heads/main", "targetCommit": commit}
            self._json({"branches": [main], "converts": [], "tags": []})
        else:
            siblings = [self._sibling(path, file) for path, file in files.items()]
            self._json({"id": repo, "modelId": repo, "sha": commit, "private": False, "tags": [], "siblings": siblings})

    def _sibling(self, path: str, file: Path) -> dict[str, Any]:
        size, digest = self.hub.claimed_size(path, file), _sha256(file)
        lfs = {"sha256": digest, "size": size, "pointerSize": 134}
        return {"rfilename": path, "size": size, "blobId": digest[:40], "lfs": lfs}

    def _tree_entry(self, path: str, file: Path) -> dict[str, Any]:
        size, digest = self.hub.claimed_size(path, file), _sha256(file)
        lfs = {"oid": digest, "size": size, "pointerSize": 134}
        return {"type": "file", "path": path, "size": size, "oid": digest[:40], "lfs": lfs}

    def _resolve(self, repo: str, revision: str, path: str) -> None:
        files, commit = self.hub.files(repo), self.hub.commit(repo)
        if not files:
            self._fail(404, "RepoNotFound")
        elif revision not in ("main", commit):
            self._fail(404, "RevisionNotFound")
        elif path not in files:
            self._fail(404, "EntryNotFound")
        elif self.hub.cdn:
            self.send_response(302)
            self.send_header("Location", f"{self.hub.cdn_endpoint}/{repo}/{quote(path)}")
            self._describe(files[path], commit)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._send_file(path, files[path], commit)

    def _describe(self, file: Path, commit: str) -> None:
        self.send_header("ETag", f'"{_sha256(file)}"')
        self.send_header("X-Linked-Etag", f'"{_sha256(file)}"')
        self.send_header("X-Linked-Size", str(file.stat().st_size))
        self.send_header("X-Repo-Commit", commit)

    def _send_file(self, path: str, file: Path, commit: str = "") -> None:
        size = file.stat().st_size
        span = _RANGE.fullmatch(self.headers.get("Range", ""))
        start = int(span["start"]) if span else 0
        end = min(int(span["end"]) + 1, size) if span and span["end"] else size
        if start >= max(end, 1):
            self._fail(416, "")
            return
        self.send_response(206 if span else 200)
        self.send_header("Content-Length", str(end - start))
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Accept-Ranges", "bytes")
        self._describe(file, commit)
        if span:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.end_headers()
        if self.command == "GET":
            self._send_content(path, file, start, end)

    def _send_content(self, path: str, file: Path, start: int, end: int) -> None:
        drop_after = self.hub.take_drop(path)
        stop = end if drop_after is None else min(end, start + drop_after)
        try:
            with file.open("rb") as source:
                source.seek(start)
                self._copy(source.read, path, stop - start)
            self.wfile.flush()
        except ConnectionError:
            self.close_connection = True
        if stop < end:
            self.close_connection = True

    def _copy(self, read: Callable[[int], bytes], path: str, length: int) -> None:
        faults = [fault for fault in self.hub.faults if isinstance(fault, Hold | Corrupt) and fault.file == path]
        hold = next((fault for fault in faults if isinstance(fault, Hold)), None)
        mask = 0xFF if any(isinstance(fault, Corrupt) for fault in faults) else 0
        sent = 0
        while sent < length:
            if hold is not None and sent == hold.after_bytes:
                self.wfile.flush()
                hold.release.wait()
            limit = hold.after_bytes if hold is not None and sent < hold.after_bytes else length
            block = bytearray(read(min(BLOCK_BYTES, limit - sent, length - sent)))
            if not sent:
                block[0] ^= mask
            self.wfile.write(block)
            sent += len(block)

    def _json(self, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _fail(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code or "refused")
        self.send_header("Content-Length", "0")
        self.end_headers()


def _sha256(path: Path) -> str:
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _digest(path: Path, _size: int, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
