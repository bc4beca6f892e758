"""A recommendation as a llama-cli command line, for a chat in the terminal.

Its flags are llama-server's (llama.cpp's tools/cli/README.md). Which of the older builds let llama-cli speculate was
not looked at, so none of them is written for.
"""

from __future__ import annotations

from advisor.errors import OptionError
from advisor.exporters.deployment import Deployment, remarks
from advisor.exporters.llama_server import commented, flags

PROGRAM = "llama-cli"
SCRIPT = True


def text(deployment: Deployment) -> str:
    if not deployment.dialect.spec_flags:
        raise OptionError(
            f"{PROGRAM} of this build is not known to speculate.",
            why=f"It speaks as builds before b8981 do (b{deployment.dialect.build}); only later ones were looked at.",
            fix="Update llama.cpp, or export to llama-server.",
        )
    rec = deployment.rec
    argv = [PROGRAM, *flags(rec, deployment.config, deployment.dialect, serves=False)]
    return commented(argv, remarks(rec), windows=deployment.windows)
