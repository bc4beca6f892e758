"""An HTTP server in this process that answers as it is told."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, bytes] | Callable[[Any], None]


@dataclass
class Fake:
    """``answers`` by path; a callable gets the handler. ``asked``: (path, headers) of every request so far."""

    url: str
    answers: dict[str, Answer]
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    stop: Callable[[], None] = lambda: None


@contextlib.contextmanager
def serving(answers: dict[str, Answer], port: int = 0) -> Iterator[Fake]:
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fake.asked.append((self.path, dict(self.headers)))
            answer = fake.answers.get(self.path, (404, b"{}"))
            if callable(answer):
                self.done = done
                answer(self)
                return
            status, content = answer
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            pass  # whoever asked has hung up, which some tests are about

    server = Server(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    fake = Fake(f"http://127.0.0.1:{server.server_port}", answers)

    def stop() -> None:
        done.set()
        server.shutdown()
        server.server_close()
        thread.join()

    fake.stop = stop
    try:
        yield fake
    finally:
        stop()


def never_ends(handler: Any) -> None:
    """A byte now and then, for as long as anybody listens."""
    handler.send_response(200)
    handler.end_headers()
    while not handler.done.wait(0.02):
        handler.wfile.write(b"#")
        handler.wfile.flush()


def says_nothing(handler: Any) -> None:
    handler.done.wait()


def hangs_up(handler: Any) -> None:
    handler.connection.close()


def too_much(handler: Any) -> None:
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        while not handler.done.is_set():
            handler.wfile.write(b"llamacpp:x 1\n" * 100_000)


def redirects(handler: Any) -> None:
    handler.send_response(302)
    handler.send_header("Location", "/elsewhere")
    handler.end_headers()
