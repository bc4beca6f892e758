"""A worker that does not read, or that answers with something else than a message: by environment."""

import os
import sys
import threading

if __name__ == "__main__":
    if os.environ["ODD"] == "nonsense":
        sys.stdout.buffer.write(b"\0\0\0\4nope")
        sys.stdout.buffer.flush()
    threading.Event().wait()
