"""What the OpenAPI document says beyond what FastAPI derives: problems, the form, the words."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from api.authentication import PROTECTED
from api.errors import PROBLEM_JSON
from api.form import FIELD_BOUNDS
from api.schemas import Problem
from api.sources import FILE, SOURCE_URL, SOURCES, UPLOAD_ID
from api.upload_schemas import Completion, NewUpload
from core.domain import A_URL, Options, Terms
from core.idempotency import PATTERN
from core.report import Report

DESCRIPTION: Final = """\
Tells how likely a video or a sound file is a deepfake, interval by interval, and why.

Send a file to `POST /v1/analyses`, follow `Location` until `status` is `completed`, `failed` or
`canceled`, and read `report`. What could not be measured is `null` with a reason, never a number.
Errors are `application/problem+json` with a stable `code`.
"""
PROBLEMS: Final[dict[int, str]] = {
    400: "The request is malformed: `invalid_cursor`, `malformed_upload`, `malformed_json`, …",
    401: "No valid API key: `unauthorized`.",
    403: "The key lacks the scope: `forbidden`.",
    404: "There is no such thing, or it is not yours: `not_found`.",
    408: "The sender is too slow: `upload_stalled`, `body_timeout`.",
    409: "It is not in a state that allows this: `conflict`, `no_report`, `idempotency_in_progress`, …",
    410: "The picture has been erased: `picture_erased`.",
    413: "Too large: `file_too_large`, `body_too_large`.",
    414: "The query is too long: `uri_too_long`.",
    415: "The body has a type or encoding that this call does not take: `unsupported_media_type`.",
    422: "A parameter or field is wrong: `invalid_parameter`, `invalid_option`, `idempotency_mismatch`, …",
    429: "Slower, please: `quota_exceeded`, `too_many_in_flight`, `too_many_open_uploads`, …",
    431: "The headers are too large: `headers_too_large`.",
    500: "A fault of the server: `internal_error`.",
    503: "A part of the server is away or full: `database_unavailable`, `storage_unavailable`, `disk_full`, "
    "`server_busy`, …",
}
#: Bounds of any request (api.bounds), and faults of any answer.
ANYWHERE: Final = frozenset({400, 408, 413, 414, 431, 500, 503})
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
    429: {"headers": {"Retry-After": RETRY_AFTER}},
    503: {"headers": {"Retry-After": RETRY_AFTER}},
}
#: Of every answer to a known key.
QUOTA_HEADERS: Final[dict[str, Any]] = {
    "RateLimit-Policy": {
        "schema": {"type": "string"},
        "description": "The quotas of a key (draft-ietf-httpapi-ratelimit-headers).",
    },
    "RateLimit": {
        "schema": {"type": "string"},
        "description": "What is left of those that this call counts for.",
    },
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route: these problems, and those that any call, or any with a key, may meet."""
    keyed = {429} if 401 in statuses else set()  # noqa: PLR2004 - HTTP's own number
    return {
        status: {"model": Problem, "description": PROBLEMS[status], **PROBLEM_HEADERS.get(status, {})}
        for status in sorted({*statuses, *keyed, *ANYWHERE})
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
    named = {
        UPLOAD_ID: {
            "type": "string",
            "format": "uuid",
            "description": "Of a completed upload (`POST /v1/uploads`) that no analysis has used.",
        },
        SOURCE_URL: {
            "type": "string",
            **A_URL,
            "maxLength": FIELD_BOUNDS[SOURCE_URL],
            "description": "The server fetches it, when its turn has come: only from public addresses.",
        },
    }
    words = {"description": "A JSON object of yours, given back unchanged."}
    form = {
        FILE: {"type": "string", "format": "binary", "description": "The video or sound; with a file name."},
        **named,
        **_plain(Options.model_json_schema()),
        **_plain(Terms.model_json_schema()),
        "metadata": {
            "type": "string",
            "contentMediaType": "application/json",
            "maxLength": FIELD_BOUNDS["metadata"],
            **words,
        },
    }
    members = {
        **named,
        **_inlined(Options.model_json_schema())["properties"],
        **_inlined(Terms.model_json_schema())["properties"],
        "metadata": {"type": "object", **words},
    }
    content = {
        "multipart/form-data": {"schema": _one_of(form, SOURCES)},
        "application/json": {"schema": _one_of(members, tuple(named))},
    }
    return {"parameters": [IDEMPOTENCY_KEY], "requestBody": {"required": True, "content": content}}


def _one_of(properties: dict[str, Any], sources: tuple[str, ...]) -> dict[str, Any]:
    """An object with exactly one of its sources: whole objects, since not every reader combines them."""
    return {
        # Known to readers that look no deeper: this one is a file and not text.
        **({"properties": {FILE: properties[FILE]}} if FILE in properties else {}),
        "oneOf": [
            {
                "type": "object",
                "title": source,
                "required": [source],
                "additionalProperties": False,
                "properties": {
                    name: schema
                    for name, schema in properties.items()
                    if name == source or name not in sources
                },
            }
            for source in sources
        ],
    }


def begun_upload() -> dict[str, Any]:
    """`openapi_extra=` of a new upload: its body is read by our own strict reader."""
    return {"parameters": [IDEMPOTENCY_KEY], **json_body(NewUpload, required=True)}


def completion() -> dict[str, Any]:
    """`openapi_extra=` of a completion."""
    return json_body(Completion, required=False)


def json_body(model: type[BaseModel], *, required: bool) -> dict[str, Any]:
    """`requestBody` of a route that reads its body itself, strictly (api.body)."""
    schema = _inlined(model.model_json_schema())
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without references: `$defs` of its own mean nothing inside an OpenAPI document."""
    named = schema.pop("$defs", {})

    def inline(value: Any) -> Any:
        if isinstance(value, list):
            return [inline(item) for item in value]
        if not isinstance(value, dict):
            return value
        target = named.get(str(value.get("$ref", "")).rpartition("/")[2], {})
        return {name: inline(inner) for name, inner in {**target, **value}.items() if name != "$ref"}

    found: dict[str, Any] = inline(schema)
    return found


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Properties of a model as form fields: a field that is not wanted is left out, never null."""
    properties = {}
    for name, field in _inlined(schema)["properties"].items():
        kinds = [kind for kind in field.pop("anyOf", []) if kind.get("type") != "null"]
        merged = {**field, **(kinds[0] if kinds else {})}
        if merged.get("default", "") is None:
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
        for path, operations in made["paths"].items():
            for operation in operations.values():
                _retype(operation["responses"])
                if path.startswith(PROTECTED):
                    _tell_quotas(operation["responses"])
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


def _tell_quotas(responses: dict[str, Any]) -> None:
    """A call that asks for a key says what is left of its quotas on every answer but a 401."""
    for status, response in responses.items():
        if status != "401":
            response["headers"] = QUOTA_HEADERS | response.get("headers", {})


def _retype(responses: dict[str, Any]) -> None:
    """FastAPI files every model under application/json; problems have their own type."""
    for response in responses.values():
        content = response.get("content", {})
        schema = content.get("application/json", {}).get("schema", {})
        if schema.get("$ref", "").endswith("/Problem"):
            content[PROBLEM_JSON] = content.pop("application/json")
