"""The JSON schemas of the catalogue files, generated from their types.

    python -m advisor.catalog.schema          writes models_catalog/schema/*.json

Editors use them for completion and checks: every catalogue file names its schema in the first line.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from advisor.catalog.load import shipped_folder
from advisor.catalog.records import Family, Hosts, Tokenizers

KINDS: Mapping[str, type] = {"family.json": Family, "tokenizers.json": Tokenizers, "hosts.json": Hosts}
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_text(kind: type) -> str:
    """The schema of files that hold a ``kind``, as it is written to disk."""
    from pydantic import TypeAdapter

    schema = {"$schema": DIALECT, **TypeAdapter(kind).json_schema()}
    _tidy(schema)
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def write(folder: Path) -> list[Path]:
    """Writes every schema into ``folder`` and says which files they are."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, kind in KINDS.items():
        paths.append(folder / name)
        paths[-1].write_text(schema_text(kind), encoding="utf-8", newline="\n")
    return paths


def _tidy(node: Any) -> None:
    """Closes every record, because the reader refuses unknown fields; descriptions lose their code's indentation."""
    if isinstance(node, dict):
        if isinstance(node.get("properties"), dict):
            node["additionalProperties"] = False
        if isinstance(node.get("description"), str):
            node["description"] = inspect.cleandoc(node["description"])
        # A field may be called "title", so only texts are pydantic's own titles.
        if isinstance(node.get("title"), str):
            del node["title"]
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _tidy(child)


if __name__ == "__main__":
    for path in write(shipped_folder() / "schema"):
        print(path)
