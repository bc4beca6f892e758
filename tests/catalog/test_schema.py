"""The JSON schemas beside the catalogue are those of its types, and the files obey them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from advisor.catalog import schema
from advisor.catalog.load import shipped_folder

FILES = sorted(shipped_folder().glob("*.yaml"))
FIRST_LINE = "# yaml-language-server: $schema="


def stored(name: str) -> Any:
    return json.loads((shipped_folder() / "schema" / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", schema.KINDS)
def test_the_stored_schema_is_up_to_date(name: str) -> None:
    assert stored(name) == json.loads(schema.schema_text(schema.KINDS[name])), "run python -m advisor.catalog.schema"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_obeys_the_schema_it_names(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    first = text.splitlines()[0]
    assert first.startswith(FIRST_LINE)
    named = path.parent / first.removeprefix(FIRST_LINE)
    jsonschema.Draft202012Validator(stored(named.name)).validate(yaml.safe_load(text))


def test_a_misspelt_field_breaks_the_schema() -> None:
    family = yaml.safe_load((shipped_folder() / "smollm3.yaml").read_text(encoding="utf-8"))
    family["models"][0]["shape"]["layer"] = family["models"][0]["shape"].pop("layers")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(family, stored("family.json"))


def test_writing_makes_the_stored_files(tmp_path: Path) -> None:
    written = schema.write(tmp_path / "schema")
    assert sorted(path.name for path in written) == sorted(schema.KINDS)
    assert all(json.loads(path.read_text(encoding="utf-8")) == stored(path.name) for path in written)
