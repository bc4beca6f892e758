"""A document as YAML below a comment. ASCII: what a name of a file holds cannot drive a terminal or end a string."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

LONGEST_LINE = 1 << 20  # no line is folded: a path is one word


class _Blocks(yaml.SafeDumper):
    """Writes text of several lines as a block, where YAML can."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Blocks.add_representer(str, _text)


def yaml_text(document: Mapping[str, Any], lines: Sequence[str]) -> str:
    comment = "".join(f"# {line}".rstrip() + "\n" for line in lines)
    return comment + yaml.dump(document, Dumper=_Blocks, sort_keys=False, allow_unicode=False, width=LONGEST_LINE)
