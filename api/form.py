"""The small fields of a submission: options, terms and metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from api import strict_json
from api.sources import SOURCE_BOUNDS
from core.domain import Options, Terms
from core.errors import InvalidOption

Model = TypeVar("Model", bound=BaseModel)
#: Bytes a field may have. Metadata is for the caller's own ids and notes, not for documents.
FIELD_BOUNDS: Final[dict[str, int]] = {
    "interval_seconds": 32,
    "frames_per_interval": 32,
    "operating_point": 32,
    "stability": 16,
    "lane": 32,
    "deadline_seconds": 32,
    "retention_hours": 32,
    "webhook_url": 2048,
    "metadata": 16 * 1024,
    **SOURCE_BOUNDS,
}
METADATA_DEPTH = 8


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
        raise out_of_bounds(error) from error


def typed(model: type[Model], members: Mapping[str, Any]) -> Model:
    """The members of a JSON object that are the model's; see `strictly`."""
    return strictly(model, {name: members[name] for name in model.model_fields if name in members})


def strictly(model: type[Model], members: Mapping[str, Any]) -> Model:
    """A JSON object as the model, each member of its own type: "2" is no number, and true is not 1.

    Raises InvalidOption with one entry per wrong member.
    """
    try:
        return model.model_validate_json(json.dumps(_with_integers(members)), strict=True)
    except ValidationError as error:
        raise out_of_bounds(error) from error


def _with_integers(value: Any) -> Any:
    """JSON has one kind of number: 5.0 is the integer 5."""
    if isinstance(value, dict):
        return {name: _with_integers(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_integers(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def out_of_bounds(error: ValidationError) -> InvalidOption:
    """What is wrong and where, without echoing what was sent."""
    wrong = [
        {"location": ["body", *map(str, item["loc"])], "message": item["msg"], "type": item["type"]}
        for item in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return InvalidOption("an option is out of its bounds", errors=wrong)


def metadata_of(text: str | None) -> dict[str, Any]:
    """The caller's own JSON object. Raises InvalidOption for what PostgreSQL or JSON cannot hold."""
    if text is None:
        return {}
    try:
        return metadata_object(strict_json.parse(text, depth=METADATA_DEPTH))
    except ValueError as error:
        raise _invalid_metadata(str(error)) from error


def metadata_object(found: Any) -> dict[str, Any]:
    """The same when it came as JSON already, with its bound in bytes of JSON."""
    if not isinstance(found, dict):
        raise _invalid_metadata("it is not a JSON object")
    try:
        strict_json.storable(found)
    except ValueError as error:
        raise _invalid_metadata(str(error)) from error
    if len(json.dumps(found, ensure_ascii=False).encode()) > FIELD_BOUNDS["metadata"]:
        limit = FIELD_BOUNDS["metadata"]
        raise InvalidOption(
            "`metadata` is too long", code="field_too_large", field="metadata", limit_bytes=limit
        )
    return found


def _invalid_metadata(why: str) -> InvalidOption:
    return InvalidOption(f"`metadata`: {why}", code="invalid_metadata", field="metadata")
