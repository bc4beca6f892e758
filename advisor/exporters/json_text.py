"""A recommendation as the JSON document that ``advisor recommend --format json`` prints, for programs and for later."""

from __future__ import annotations

from advisor.exporters.deployment import Deployment
from advisor.exporters.llama_server import command
from advisor.report.json_document import document, dumps


def text(deployment: Deployment) -> str:
    return (
        dumps(document(deployment.rec, command=command(deployment.rec, deployment.dialect, deployment.program))) + "\n"
    )
