"""What is asked of the target: the built-in prompts, or a file of the user's own.

A workload file is JSON Lines, one ``{"prompt": str}`` or ``{"messages": [{"role", "content"}, ...]}`` per line, each
with an optional ``"category"``; other keys are ignored, so that an existing data set can be used as it is. Or it is
plain text with one prompt per line. Names ending in .jsonl or .json, and files that begin with ``{``, are JSON Lines.

This module knows nothing about tokens or chat templates.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from advisor.errors import OptionError, WorkloadError
from advisor.paths import expanded
from advisor.types import Message, Prompt, Workload

DEFAULT_CATEGORY = "general"
BUILTIN_NAME = "built-in"
MAX_FILE_BYTES = 64 * 1024 * 1024

_ROLES = ("system", "user", "assistant")
_LINE_BREAK = re.compile(r"\r\n|\n|\r")  # not str.splitlines: U+2028 and form feeds may stand inside a prompt
_FORMAT_HELP = (
    'Each line is {"prompt": "..."} or {"messages": [{"role": "user", "content": "..."}]}, '
    'with an optional "category": "..."; or the file is plain text with one prompt per line.'
)


def builtin(categories: Sequence[str] | None = None) -> Workload:
    """The prompts that ship with the advisor, in an order in which every prefix is balanced over the categories."""
    text = importlib.resources.files("advisor").joinpath("workloads", "builtin.jsonl").read_text(encoding="utf-8")
    workload = _workload(BUILTIN_NAME, _parse_json_lines(BUILTIN_NAME, text))
    return select(workload, categories) if categories else workload


def prompts_of(workload: Path | Workload | None) -> Workload:
    """A workload, from its file where it is one; None is the built-in one. Raises as read_workload."""
    if isinstance(workload, Workload):
        return workload
    return builtin() if workload is None else read_workload(expanded(workload))


def read_workload(path: Path) -> Workload:
    """A workload file of the user. Raises WorkloadError naming the file, and the line where there is one."""
    text = _decode(path, _read_bytes(path))
    parse = _parse_json_lines if _is_json_lines(path, text) else _parse_plain_text
    prompts = tuple(parse(str(path), text))
    if not prompts:
        raise WorkloadError(f"The workload {path} has no prompts.", why="The file is empty.", fix=_FORMAT_HELP)
    return _workload(path.name, prompts)


def select(workload: Workload, categories: Sequence[str]) -> Workload:
    """The prompts of some categories only. Raises OptionError for a category that the workload does not have."""
    known = list(dict.fromkeys(prompt.category for prompt in workload.prompts))
    unknown = [category for category in categories if category not in known]
    if unknown:
        raise OptionError(
            f"--category: the workload {workload.name} has no category {unknown[0]!r}.",
            why=f"Its categories are {', '.join(known)}.",
            fix="Give one of these, or leave the option out to use all prompts.",
        )
    return _workload(workload.name, (prompt for prompt in workload.prompts if prompt.category in categories))


def content_hash(prompts: Iterable[Prompt]) -> str:
    """SHA-256 of what is asked, so that a renamed or reformatted file keeps its measurements."""
    canonical = [
        [prompt.category, [[message.role, message.content] for message in prompt.messages]] for prompt in prompts
    ]
    return hashlib.sha256(json.dumps(canonical, separators=(",", ":")).encode("ascii")).hexdigest()


def _workload(name: str, prompts: Iterable[Prompt]) -> Workload:
    kept = tuple(prompts)
    return Workload(name=name, prompts=kept, content_hash=content_hash(kept))


def _read_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise WorkloadError(f"The workload {path} is a directory.", fix="Give a file. " + _FORMAT_HELP)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise WorkloadError(f"The workload {path} does not exist.", fix="Check the path after --workload.") from None
    except (OSError, ValueError) as error:
        raise WorkloadError(
            f"The workload {path} cannot be read.", why=f"{error}.", fix="Check the path and its permissions."
        ) from None
    if len(data) > MAX_FILE_BYTES:
        raise WorkloadError(
            f"The workload {path} is too large.",
            why=f"It has more than {MAX_FILE_BYTES // 1024**2} MiB; a measurement reads a few dozen prompts.",
            fix="Give a sample of it, for example the first 100 lines.",
        )
    return data


def _decode(path: Path, data: bytes) -> str:
    fix = "Save the file as UTF-8 text."
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise WorkloadError(f"The workload {path} is not UTF-8 text.", why="It looks like UTF-16.", fix=fix)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = _line_at(data, error.start)
        raise WorkloadError(
            f"The workload {path} is not UTF-8 text.",
            why=f"Line {line} has the byte 0x{data[error.start]:02x}, which UTF-8 does not allow there.",
            fix=fix,
        ) from None
    if "\0" in text:
        line = _line_at(data, data.index(b"\0"))
        raise WorkloadError(
            f"The workload {path} is a binary file.", why=f"Line {line} contains a zero byte.", fix=_FORMAT_HELP
        )
    return text


def _line_at(data: bytes, offset: int) -> int:
    before = data[:offset]
    return before.replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n") + 1


def _is_json_lines(path: Path, text: str) -> bool:
    return path.suffix.lower() in (".jsonl", ".json") or text.lstrip().startswith("{")


def _numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(_LINE_BREAK.split(text), start=1):
        if line.strip():
            yield number, line.strip()


def _parse_plain_text(_name: str, text: str) -> Iterator[Prompt]:
    for _number, line in _numbered_lines(text):
        yield Prompt(messages=(Message("user", line),), category=DEFAULT_CATEGORY)


def _parse_json_lines(name: str, text: str) -> Iterator[Prompt]:
    for number, line in _numbered_lines(text):
        try:
            yield _prompt(_json_object(line))
        except _Malformed as problem:
            raise WorkloadError(
                f"The workload {name} has a malformed prompt in line {number}.", why=f"{problem}.", fix=_FORMAT_HELP
            ) from None


class _Malformed(Exception):
    """What is wrong with one line, as a sentence without its full stop."""


def _json_object(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise _Malformed(f"It is not a JSON object on one line: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError):  # a number with thousands of digits, or thousands of brackets
        raise _Malformed("It is not JSON that can be read") from None
    if not isinstance(entry, dict):
        raise _Malformed(f"It is {_json_type(entry)} where an object is needed")
    return entry


def _prompt(entry: dict[str, Any]) -> Prompt:
    prompt, messages = entry.get("prompt"), entry.get("messages")
    if (prompt is None) == (messages is None):
        raise _Malformed('It needs either "prompt" or "messages"' + ("" if prompt is None else ", not both"))
    if messages is None:
        return Prompt((Message("user", _text(prompt, '"prompt"')),), _category(entry))
    return Prompt(_messages(messages), _category(entry))


def _messages(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise _Malformed('"messages" must be a list with at least one message')
    messages = tuple(_message(item, f"messages[{index}]") for index, item in enumerate(value))
    if messages[-1].role != "user":
        raise _Malformed(f'The last message has the role "{messages[-1].role}"; the target answers a "user" message')
    return messages


def _message(value: Any, where: str) -> Message:
    if not isinstance(value, dict):
        raise _Malformed(f"{where} is {_json_type(value)} where an object is needed")
    role = value.get("role")
    if role not in _ROLES:
        raise _Malformed(f'{where}: "role" must be one of {", ".join(_ROLES)}')
    return Message(role, _text(value.get("content"), f'{where}: "content"'))


def _category(entry: dict[str, Any]) -> str:
    value = entry.get("category")
    return DEFAULT_CATEGORY if value is None else _text(value, '"category"').strip()


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise _Malformed(f"{what} is {_json_type(value)} where a string is needed")
    if not value.strip():
        raise _Malformed(f"{what} is empty")
    if "\0" in value:
        raise _Malformed(f"{what} contains a zero byte")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise _Malformed(f"{what} contains half of a surrogate pair") from None
    return value


def _json_type(value: Any) -> str:
    if value is None:
        return "missing"
    names = {bool: "true or false", int: "a number", float: "a number", str: "a string", list: "a list"}
    return names.get(type(value), "an object")
