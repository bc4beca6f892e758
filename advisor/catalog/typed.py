"""Plain data from a YAML file as frozen dataclasses, or the first field that does not fit its type.

The types are those of records.py: strings, numbers, booleans, Literal, optional values, tuples, dicts by string, and
dataclasses of these. Done here and not by pydantic because building its validators takes longer than reading the files.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
Location = tuple[str | int, ...]
Check = Callable[[object], Any]


class MisfitError(Exception):
    """``said`` what is wrong, at ``location``: keys and indices from the top of the file."""

    def __init__(self, said: str, location: Location = ()) -> None:
        super().__init__(said)
        self.said, self.location = said, location

    def inside(self, part: str | int) -> MisfitError:
        return MisfitError(self.said, (part, *self.location))


def build(kind: type[T], data: object) -> T:
    """``data`` as ``kind``. Raises MisfitError for an unknown, missing or ill-typed field."""
    annotation: Any = kind
    return cast(T, _check_of(annotation)(data))


@cache
def _check_of(annotation: Any) -> Check:
    if annotation in _SIMPLE:
        return _SIMPLE[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return _one_of(arguments)
    if origin in (Union, types.UnionType):
        return _optional(_check_of(next(one for one in arguments if one is not types.NoneType)))
    if origin is tuple:
        return _list_of(_check_of(arguments[0]))
    if origin is dict:
        return _dict_of(_check_of(arguments[1]))
    return _record(annotation)


def _string(value: object) -> str:
    if isinstance(value, str):
        return value
    raise MisfitError(f"text expected, not {_shown(value)}")


def _integer(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise MisfitError(f"a whole number expected, not {_shown(value)}")


def _number(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise MisfitError(f"a number expected, not {_shown(value)}")


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise MisfitError(f"true or false expected, not {_shown(value)}")


_SIMPLE: Mapping[Any, Check] = {str: _string, int: _integer, float: _number, bool: _boolean}


def _one_of(allowed: tuple[object, ...]) -> Check:
    def check(value: object) -> object:
        if value in allowed:
            return value
        raise MisfitError(f"one of {', '.join(map(str, allowed))} expected, not {_shown(value)}")

    return check


def _optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _list_of(check: Check) -> Check:
    def build_list(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise MisfitError(f"a list expected, not {_shown(value)}")
        return tuple(_at(index, check, one) for index, one in enumerate(value))

    return build_list


def _dict_of(check: Check) -> Check:
    def build_dict(value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise MisfitError(f"names with values expected, not {_shown(value)}")
        return {_string(key): _at(str(key), check, one) for key, one in value.items()}

    return build_dict


def _record(kind: type) -> Check:
    hints = get_type_hints(kind)
    checks = {one.name: _check_of(hints[one.name]) for one in fields(kind)}
    required = [one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING]

    def build_record(value: object) -> object:
        if not isinstance(value, dict):
            raise MisfitError(f"fields such as {required[0]} expected, not {_shown(value)}")
        for name in value:
            if name not in checks:
                raise MisfitError(f"there is no such field{_suggestion(str(name), checks)}", (str(name),))
        for name in required:
            if name not in value:
                raise MisfitError("this field is missing", (name,))
        return kind(**{name: _at(name, checks[name], one) for name, one in value.items()})

    return build_record


def _at(part: str | int, check: Check, value: object) -> Any:
    try:
        return check(value)
    except MisfitError as misfit:
        raise misfit.inside(part) from None


def _suggestion(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _shown(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 40 else text[:39] + "…"
