"""The small fields of a submission: options, terms and metadata."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from core.domain import Options, Terms
from core.errors import InvalidOption

Model = TypeVar("Model", bound=BaseModel)
#: Bytes a field may have. Metadata is for the caller's own ids and notes, not for documents.
FIELD_BOUNDS: Final[dict[str, int]] = {
    "interval_seconds": 32,
    "frames_per_interval": 32,
    "lane": 32,
    "deadline_seconds": 32,
    "retention_hours": 32,
    "webhook_url": 2048,
    "metadata": 16 * 1024,
}
METADATA_DEPTH = 8
#: A double has as many before its point; Python refuses to read 4300.
MAX_DIGITS = 309


def options_of(fields: Mapping[str, str]) -> Options:
    """The submitter's choices. Raises InvalidOption with one entry per wrong field."""
    return _chosen(Options, fields)


def terms_of(fields: Mapping[str, str]) -> Terms:
    """How the submitter wants to be served. Raises InvalidOption with one entry per wrong field."""
    return _chosen(Terms, fields)


def _chosen(model: type[Model], fields: Mapping[str, str]) -> Model:
    chosen = {name: fields[name] for name in model.model_fields if name in fields}
    try:
        return model.model_validate(chosen)
    except ValidationError as error:
        wrong = [
            {"location": ["body", str(item["loc"][0])], "message": item["msg"], "type": item["type"]}
            for item in error.errors()
        ]
        raise InvalidOption("an option is out of its bounds", errors=wrong) from error


def metadata_of(text: str | None) -> dict[str, Any]:
    """The caller's own JSON object. Raises InvalidOption for what PostgreSQL or JSON cannot hold."""
    if text is None:
        return {}
    try:
        found = json.loads(text, parse_constant=_refuse, parse_int=_whole)
        _check(found, METADATA_DEPTH)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InvalidOption(f"`metadata`: {why}", code="invalid_metadata", field="metadata") from error
    if not isinstance(found, dict):
        raise InvalidOption("`metadata`: it is not a JSON object", code="invalid_metadata", field="metadata")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError("it has a number that is too large")
    return int(digits)


def _check(value: Any, depth: int) -> None:
    """Raise ValueError for what `jsonb` refuses: NUL, lone surrogates, numbers beyond a double."""
    if depth < 0:
        raise ValueError(f"it is nested more than {METADATA_DEPTH} deep")
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= sign <= "\udfff" for sign in value)):
        raise ValueError("it has a character that cannot be stored")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("it has a number that is too large")
    if isinstance(value, dict):
        for key, inner in value.items():
            _check(key, depth - 1)
            _check(inner, depth - 1)
    if isinstance(value, list):
        for inner in value:
            _check(inner, depth - 1)
