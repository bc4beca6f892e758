"""Every exporter through the suite that a new one has to pass."""

from __future__ import annotations

import re

from advisor.exporters import EXPORTERS
from advisor.testing.exporters import ExporterConformance


class TestLlamaServer(ExporterConformance):
    name = "llama-server"


class TestLlamaCli(ExporterConformance):
    name = "llama-cli"


class TestLlamaSwap(ExporterConformance):
    name = "llama-swap"


class TestDockerCompose(ExporterConformance):
    name = "docker-compose"


class TestSystemd(ExporterConformance):
    name = "systemd"
    comment = re.compile(r"# [\w ._,:+%/=~-]*", re.ASCII)  # names a folder in the user's home


class TestLmStudio(ExporterConformance):
    name = "lm-studio"
    refuses = frozenset({"ngram", "repack"})


class TestMlxLm(ExporterConformance):
    name = "mlx-lm"
    refuses = frozenset({"ngram", "repack"})


class TestVllm(ExporterConformance):
    name = "vllm"
    refuses = frozenset({"repack"})


class TestLlamaCppPython(ExporterConformance):
    name = "llama-cpp-python"
    refuses = frozenset({"draft", "repack"})


class TestJson(ExporterConformance):
    name = "json"


def test_every_exporter_is_tested() -> None:
    assert {kind.name for kind in ExporterConformance.__subclasses__()} >= set(EXPORTERS)
