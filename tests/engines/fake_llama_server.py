"""A llama-server without a model: it takes exactly the options of one recorded --help, and counts as the real one.

    main("b8672", "")              of a script that is started as a llama-server would be
    main("b11434", "garbage")      the same, but what it answers is nonsense

It appends its process id to the file ``pids`` beside the script.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
END = 2
NAMES = re.compile(r"(?:-\S+, +)*-\S+")
PATTERN = (True, True, False, True)  # which places of a draft are accepted, over and over


def script(folder: Path, build: str, mode: str = "") -> Path:
    """A llama-server as a file: run it with this Python, or directly where files can be."""
    path = folder / "llama-server"
    root = Path(__file__).parents[2]
    path.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(root)!r})\n"
        f"from tests.engines.fake_llama_server import main\nmain({build!r}, {mode!r})\n"
    )
    path.chmod(0o755)
    return path


def main(build: str, mode: str) -> None:
    help_text = (DATA / f"{build}.help.txt").read_text()
    if mode == "mute":
        Fake({}, build, mode).start_child()
        threading.Event().wait()
    if mode == "lacks-a-library":
        sys.exit("error while loading shared libraries: libggml.so")
    if sys.argv[1:] == ["--version"]:
        print((DATA / f"{build}.version.txt").read_text(), end="", file=sys.stderr)
        return
    if mode == "gpu" and sys.argv[1:] == ["--list-devices"]:
        print("Available devices:\n  CUDA0: Example GPU 9000 (24564 MiB, 23028 MiB free)")
        print("  BLAS: OpenBLAS (0 MiB, 0 MiB free)")
        return
    if sys.argv[1:] == ["--help"]:
        print(help_text)
        return
    Fake(options(help_text, sys.argv[1:]), build, mode).serve()


def options(help_text: str, arguments: list[str]) -> dict[str, str]:
    """What was given, under the last name of each option. Ends the process as llama-server does when it knows one
    not, or has removed it."""
    entries = re.findall(r"^(-.*(?:\n .*)*)", help_text, re.MULTILINE)
    known = {name: entry for entry in entries for name in names_of(entry)}
    given: dict[str, str] = {}
    rest = iter(arguments)
    for name in rest:
        entry = known.get(name)
        if entry is None:
            sys.exit(f"error: invalid argument: {name}")
        if "has been removed" in " ".join(entry.split()):
            sys.exit(f'error while handling argument "{name}": the argument has been removed.')
        takes_value = re.match(r" \S", entry[len(NAMES.match(entry)[0]) :]) is not None
        given[names_of(entry)[-1]] = next(rest) if takes_value else ""
    return given


def names_of(entry: str) -> list[str]:
    return [name.strip() for name in NAMES.match(entry)[0].split(",")]


def decode_ms(model: str, b: int) -> float:
    return (2.0 if "Draft" in model else 40.0) * (1 + 0.1 * (b - 1))


class Fake:
    def __init__(self, given: dict[str, str], build: str, mode: str) -> None:
        self.given, self.build, self.mode = given, build, mode
        self.counters = {"drafts": 0, "per_position": [0] * 64}
        self.held: tuple[int, ...] = ()
        with Path(sys.argv[0]).with_name("pids").open("a") as pids:
            pids.write(f"{os.getpid()}\n")

    @property
    def k(self) -> int:
        """How many tokens it drafts a step; 0 when it does not speculate."""
        names_type = self.build == "b11434"
        if self.mode in ("silent", "dropped"):
            return 0
        if self.mode == "eager":
            return 3
        speculates = self.given.get("--spec-type", "none") != "none"
        if not speculates and (names_type or "--model-draft" not in self.given):
            return 0
        longest = {"--spec-draft-n-max", "--draft-max", "--spec-ngram-mod-n-max", "--spec-ngram-simple-size-m"}
        return next((int(value) for name, value in self.given.items() if name in longest), 16)

    def start_child(self) -> None:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        with Path(sys.argv[0]).with_name("pids").open("a") as pids:
            pids.write(f"{child.pid}\n")

    def serve(self) -> None:
        if self.mode == "dropped":
            print("srv load_model: failed to initialize speculative decoding context", file=sys.stderr, flush=True)
        if self.mode == "with-a-child":
            self.start_child()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply(*fake.get(self.path))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.reply(*fake.post(self.path, body))

            def reply(self, status: int, content: str) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(content.encode())

            def log_message(self, *_: object) -> None:
                pass

        class OneOwner(ThreadingHTTPServer):
            allow_reuse_address = False

        try:
            server = OneOwner((self.given["--host"], int(self.given["--port"])), Handler)
        except OSError:
            sys.exit(f"couldn't bind HTTP server socket, port: {self.given['--port']}")
        server.serve_forever()

    def get(self, path: str) -> tuple[int, str]:
        if path == "/health":
            return (503, '{"error": "loading"}') if self.mode == "never-healthy" else (200, '{"status": "ok"}')
        if path == "/v1/models":
            return 200, json.dumps({"data": [{"id": self.given["--alias"]}]})
        assert path == "/metrics"
        if "--metrics" not in self.given:
            return 501, "{}"
        lines = ["# TYPE llamacpp:prompt_tokens_total counter", "llamacpp:prompt_tokens_total 7"]
        if self.build == "b11434":
            lines.append(f"llamacpp:spec_decode_num_drafts_total {self.counters['drafts']}")
            name = "llamacpp:spec_decode_num_accepted_tokens_per_pos_total"
            lines += [f'{name}{{position="{i}"}} {n}' for i, n in enumerate(self.counters["per_position"])]
        return 200, "\n".join(lines) + "\n"

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, str]:
        if path == "/apply-template":
            return 200, json.dumps({"prompt": "".join(f"<{m['role']}>{m['content']}" for m in body["messages"])})
        if path == "/tokenize":
            return 200, json.dumps({"tokens": [ord(c) for c in body["content"]]})
        if path == "/detokenize":
            return 200, json.dumps({"content": "".join(map(chr, body["tokens"]))})
        assert path == "/completion"
        return self.complete(body)

    def complete(self, body: dict[str, Any]) -> tuple[int, str]:
        if self.mode == "dies":
            print("ggml: the last words", file=sys.stderr, flush=True)
            os._exit(7)
        if self.mode == "needs-no-repack" and "--no-repack" not in self.given:
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.mode == "hangs":
            threading.Event().wait()
        if self.mode == "refuses":
            return 400, json.dumps({"error": {"code": 400, "message": "the request exceeds the context"}})
        if self.mode == "garbage":
            return 200, "<html>It works!</html>"
        if self.mode == "other-json":
            return 200, json.dumps({"tokens": "none", "timings": []})
        tokens = [10 + i for i in range(min(body["n_predict"], 40))]
        ended = len(tokens) == 40
        if ended:
            tokens[-1] = END
        timings: dict[str, Any] = {"prompt_n": 5, "prompt_ms": 50.0, "predicted_n": len(tokens), "predicted_ms": 400.0}
        if body["cache_prompt"]:
            timings = self.time(tuple(body["prompt"]), body["n_predict"])
        if self.mode == "miscounts":
            timings["predicted_n"] += 1
        if self.k:
            timings["predicted_ms"] *= 2 if self.mode == "drags" else 1
            drafted, accepted = self.speculate(len(tokens))
            timings |= {"draft_n": drafted, "draft_n_accepted": accepted} if drafted else {}
        reply = {"tokens": tokens, "timings": timings, "stop_type": "eos" if ended else "limit", "content": "…"}
        return 200, json.dumps(reply)

    def time(self, prompt: tuple[int, ...], length: int) -> dict[str, Any]:
        """What is held already is not decoded again; a decode of b tokens takes ``decode_ms(model, b)``."""
        same = next((i for i, pair in enumerate(zip(prompt, self.held, strict=False)) if pair[0] != pair[1]), None)
        known = 0 if self.mode == "cannot-go-on" else min(len(prompt), len(self.held)) if same is None else same
        read = max(1, len(prompt) - known)
        self.held = prompt + tuple(range(10, 10 + length - 1))
        model = self.given["--model"]
        return {
            "prompt_n": read,
            "prompt_ms": decode_ms(model, read),
            "predicted_n": length,
            "predicted_ms": (length - 1) * decode_ms(model, 1),
        }

    def speculate(self, length: int) -> tuple[int, int]:
        emitted, drafted, accepted = 1, 0, 0
        while emitted < length:
            n = min(self.k, length - emitted - 1)
            agreed = next((i for i in range(n) if not PATTERN[(emitted + i) % len(PATTERN)]), n)
            for position in range(agreed):
                self.counters["per_position"][position] += 1
            self.counters["drafts"] += n > 0
            drafted, accepted, emitted = drafted + n, accepted + agreed, emitted + agreed + 1
        return drafted, accepted
