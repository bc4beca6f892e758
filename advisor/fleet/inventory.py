"""The machines of a fleet, from a YAML file.

hosts:
  - name: workstations
    host: rtx-4090              # a machine of the catalogue, as in --host
    count: 3                    # how many of them there are; 1 where it is left out
  - name: build server
    probe: build-server.json    # what `advisor probe --format json` printed there; relative to this file
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from advisor.catalog.load import Catalog
from advisor.catalog.names import host_named
from advisor.catalog.records import HostEntry
from advisor.errors import FileProblem
from advisor.paths import expanded
from advisor.predict.places import named_host
from advisor.report.json_document import HOST_SCHEMA
from advisor.types import Host, from_json

EXAMPLE = "Write `hosts:`, a list of entries with `name:`, either `host: NAME` or `probe: FILE`, and `count:` if many."


@dataclass(frozen=True)
class Place:
    """One kind of machine: ``count`` of them. ``entry`` is the catalogue's, None for a probed one."""

    name: str
    host: Host
    entry: HostEntry | None = None
    count: int = 1


@with_config(ConfigDict(extra="forbid", strict=True))
@dataclass(frozen=True)
class _Written:
    """An entry as the file has it."""

    name: str
    host: str = ""
    probe: str = ""
    count: int = 1


def read_inventory(path: Path, catalog: Catalog) -> tuple[Place, ...]:
    """Raises FileProblem naming the file and the entry, OptionError for a host that the catalogue does not know."""
    written = [_entry(item, number, path) for number, item in enumerate(_items(path), start=1)]
    names = [one.name for one in written]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise FileProblem(f"{path}: two hosts are called {twice}.", fix="Give each a name of its own.")
    return tuple(_place(one, path, catalog) for one in written)


def _items(path: Path) -> list[Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise FileProblem(f"The inventory {path} cannot be read.", why=f"{error}.", fix="Check the path.") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise FileProblem(f"The inventory {path} is not YAML.", why=f"{error}.", fix=EXAMPLE) from None
    hosts = content.get("hosts") if isinstance(content, dict) else None
    if not isinstance(hosts, list) or not hosts:
        raise FileProblem(f"The inventory {path} lists no hosts.", fix=EXAMPLE)
    return hosts


def _entry(item: Any, number: int, path: Path) -> _Written:
    try:
        one = TypeAdapter(_Written).validate_json(json.dumps(item if isinstance(item, dict) else {}, default=str))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise FileProblem(f"{path}: host {number}: {field}: {first['msg']}.", fix=EXAMPLE) from None
    if bool(one.host) == bool(one.probe):
        raise FileProblem(f"{path}: {one.name} needs `host` or `probe`, and not both.", fix=EXAMPLE)
    if not one.name or one.count < 1:
        raise FileProblem(f"{path}: host {number} needs a name, and a count of 1 or more.", fix=EXAMPLE)
    return one


def _place(one: _Written, path: Path, catalog: Catalog) -> Place:
    if one.host:
        entry, memory_gib = host_named(one.host, catalog)
        return Place(one.name, named_host(entry, memory_gib), entry, one.count)
    return Place(one.name, _probed(path.parent / expanded(one.probe)), None, one.count)


def _probed(path: Path) -> Host:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict) or document.get("schema") != HOST_SCHEMA:
            raise ValueError(f"its schema is not {HOST_SCHEMA}")
    except (OSError, ValueError, RecursionError) as error:
        raise FileProblem(
            f"{path} is not a saved probe.",
            why=f"{error}.",
            fix=f"Make it on that machine: advisor probe --format json > {path.name}",
        ) from None
    return from_json(Host, json.dumps(document.get("host")))
