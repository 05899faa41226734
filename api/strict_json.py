"""JSON as its specification has it (RFC 8259, and I-JSON's sense): no NaN, nothing twice, nothing endless.

No lone surrogates either, and no number beyond a double. A NUL is JSON, but `jsonb` refuses it: `storable`.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

#: A double has as many before its point; Python refuses to read 4300.
MAX_DIGITS: Final = 309


def storable(value: Any) -> Any:
    """The value itself. Raises ValueError when `jsonb` refuses it."""
    if isinstance(value, str) and "\0" in value:
        raise ValueError("it has a character that cannot be stored")
    if isinstance(value, dict):
        for key, inner in value.items():
            storable(key)
            storable(inner)
    if isinstance(value, list):
        for inner in value:
            storable(inner)
    return value


def parse(text: str, *, depth: int) -> Any:
    """The value, nested no deeper than `depth`. Raises ValueError that says what is wrong with it."""
    try:
        found = json.loads(text, parse_constant=_refuse, parse_int=_whole, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    _check(found, depth, depth)
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError("it has a number that is too large")
    return int(digits)


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two parsers would take two different values of a name that is there twice."""
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("it has a member twice")
    return found


def _check(value: Any, left: int, depth: int) -> None:
    if left < 0:
        raise ValueError(f"it is nested more than {depth} deep")
    if isinstance(value, str) and any("\ud800" <= sign <= "\udfff" for sign in value):
        raise ValueError("it has half a character")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("it has a number that is too large")
    if isinstance(value, dict):
        for key, inner in value.items():
            _check(key, left - 1, depth)
            _check(inner, left - 1, depth)
    if isinstance(value, list):
        for inner in value:
            _check(inner, left - 1, depth)
