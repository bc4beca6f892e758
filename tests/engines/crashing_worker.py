"""The real worker, but opening a model crashes while extra buffers are on (or always, or hangs: by environment)."""

import os
import sys
import threading
from typing import Any

from advisor.engines.worker import Session, serve


class CrashingSession(Session):
    def open(self, role: str, path: str, options: dict[str, Any]) -> dict[str, Any]:
        if os.environ.get("HANG"):
            threading.Event().wait()
        if options["extra_buffers"] or os.environ.get("CRASH_ALWAYS"):
            print("the last words of the engine", file=sys.stderr, flush=True)
            os.abort()
        return super().open(role, path, options)


if __name__ == "__main__":
    serve(CrashingSession())
