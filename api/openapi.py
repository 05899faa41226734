"""What the OpenAPI document says beyond what FastAPI derives: problems, the form, the words."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.errors import PROBLEM_JSON
from api.form import FIELD_BOUNDS
from api.schemas import Problem
from core.domain import Options, Terms
from core.idempotency import PATTERN
from core.report import Report

DESCRIPTION: Final = """\
Tells how likely a video or a sound file is a deepfake, interval by interval, and why.

Send a file to `POST /v1/analyses`, follow `Location` until `status` is `completed`, `failed` or
`canceled`, and read `report`. What could not be measured is `null` with a reason, never a number.
Errors are `application/problem+json` with a stable `code`.
"""
PROBLEMS: Final[dict[int, str]] = {
    400: "The request is malformed: `invalid_cursor`, `malformed_upload`, `invalid_idempotency_key`.",
    401: "No valid API key: `unauthorized`.",
    403: "The key lacks the scope: `forbidden`.",
    404: "There is no such thing, or it is not yours: `not_found`.",
    408: "The sender went silent: `upload_stalled`.",
    409: "It is not in a state that allows this: `conflict`, `idempotency_in_progress`.",
    413: "Too large: `file_too_large`, `body_too_large`.",
    415: "Not a multipart form: `unsupported_media_type`.",
    422: "A parameter or field is wrong: `invalid_parameter`, `invalid_option`, `idempotency_mismatch`, …",
    500: "A fault of the server: `internal_error`.",
    503: "A part of the server is away: `database_unavailable`, `storage_unavailable`.",
}
RETRY_AFTER: Final = {"schema": {"type": "integer"}, "description": "Seconds."}
REPLAYED: Final = {
    "schema": {"type": "string", "enum": ["true"]},
    "description": "The answer is that of the first request with this Idempotency-Key.",
}
ETAG: Final = {"schema": {"type": "string"}, "description": "Version, for If-None-Match."}

CHALLENGE: Final = {"schema": {"type": "string"}, "description": "How to authenticate (RFC 6750)."}
PROBLEM_HEADERS: Final[dict[int, dict[str, Any]]] = {
    401: {"headers": {"WWW-Authenticate": CHALLENGE}},
    403: {"headers": {"WWW-Authenticate": CHALLENGE}},
    409: {"headers": {"Retry-After": RETRY_AFTER}},
    503: {"headers": {"Retry-After": RETRY_AFTER}},
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route: these problems, and those that any call may meet."""
    return {
        status: {"model": Problem, "description": PROBLEMS[status], **PROBLEM_HEADERS.get(status, {})}
        for status in sorted({*statuses, 500, 503})
    }


#: Not a parameter of the route: FastAPI would answer a malformed key with 422, and take one of two.
IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": PATTERN},
    "description": (
        "A quoted string (RFC 8941; bare too) of 1 to 255 visible ASCII characters, new for each wish. "
        "The same key and payload give the first answer again, another payload 422, and while the first "
        "request is running 409. Only accepted requests are kept, for 24 hours unless the server is set "
        "otherwise."
    ),
}


def submission() -> dict[str, Any]:
    """`openapi_extra=` of the upload: FastAPI must not parse that request, so it cannot describe it."""
    options = Options.model_json_schema()["properties"] | _plain(Terms.model_json_schema())
    properties = {
        "file": {
            "type": "string",
            "format": "binary",
            "description": "The video or sound; with a file name.",
        },
        **options,
        "metadata": {
            "type": "string",
            "contentMediaType": "application/json",
            "maxLength": FIELD_BOUNDS["metadata"],
            "description": "A JSON object of yours, given back unchanged.",
        },
    }
    schema = {"type": "object", "required": ["file"], "additionalProperties": False, "properties": properties}
    return {
        "parameters": [IDEMPOTENCY_KEY],
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}},
    }


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Properties of a model as form fields: a field that is not wanted is left out, never null."""
    lane = schema.pop("$defs", {}).get("Lane", {})
    properties = {}
    for name, field in schema["properties"].items():
        kinds = [kind for kind in field.pop("anyOf", []) if kind.get("type") != "null"]
        merged = {**field, **(kinds[0] if kinds else {})}
        if "$ref" in merged:
            merged = {"type": "string", "enum": lane["enum"], "default": field["default"]}
        elif merged.get("default", "") is None:
            del merged["default"]
        properties[name] = merged
    return properties


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, made once."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title,
            version=app.version,
            description=DESCRIPTION,
            routes=app.routes,
            tags=app.openapi_tags,
        )
        for path in made["paths"].values():
            for operation in path.values():
                _retype(operation["responses"])
        _describe_report(made["components"]["schemas"])
        app.openapi_schema = made
    return app.openapi_schema


def _describe_report(schemas: dict[str, Any]) -> None:
    """The report is passed on as it was stored, so an old one stays readable; its schema is today's."""
    report = Report.model_json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
    for name, schema in (report.pop("$defs") | {"Report": report}).items():
        schemas.setdefault(name, schema)
    described = schemas["Analysis"]["properties"]["report"]
    described["anyOf"] = [{"$ref": "#/components/schemas/Report"}, {"type": "null"}]


def _retype(responses: dict[str, Any]) -> None:
    """FastAPI files every model under application/json; problems have their own type."""
    for response in responses.values():
        content = response.get("content", {})
        schema = content.get("application/json", {}).get("schema", {})
        if schema.get("$ref", "").endswith("/Problem"):
            content[PROBLEM_JSON] = content.pop("application/json")
