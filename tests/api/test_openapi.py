from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import httpx2
import pytest

from api.app import create_app
from api.form import FIELD_BOUNDS
from core.domain import Options
from core.report import Report

METHODS = {"get", "post", "put", "patch", "delete"}
OPEN = {"/healthz", "/readyz", "/metrics"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app().openapi()


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    ]


def test_it_is_served_as_it_is_made(http: httpx2.Client, document: dict[str, Any]) -> None:
    assert http.get("/openapi.json", headers={"Authorization": ""}).json() == document


def test_every_call_of_this_version_is_there(document: dict[str, Any]) -> None:
    assert {(method, path) for path, method, _ in operations(document)} == {
        ("post", "/v1/analyses"),
        ("get", "/v1/analyses"),
        ("get", "/v1/analyses/{analysis_id}"),
        ("post", "/v1/analyses/{analysis_id}/cancel"),
        ("post", "/v1/analyses/{analysis_id}/stability"),
        ("delete", "/v1/analyses/{analysis_id}"),
        ("post", "/v1/analyses/{analysis_id}/hold"),
        ("delete", "/v1/analyses/{analysis_id}/hold"),
        ("get", "/v1/erasures/{analysis_id}"),
        ("get", "/v1/audit"),
        ("get", "/v1/analyses/{analysis_id}/intervals"),
        ("get", "/v1/analyses/{analysis_id}/feedback"),
        ("post", "/v1/analyses/{analysis_id}/feedback"),
        ("get", "/v1/analyses/{analysis_id}/report.html"),
        ("get", "/v1/analyses/{analysis_id}/tracks"),
        ("get", "/v1/analyses/{analysis_id}/tracks/{track}.jpg"),
        ("get", "/v1/analyses/{analysis_id}/frames/{interval}.jpg"),
        ("get", "/v1/analyses/{analysis_id}/intervals/{interval}/faces/{number}.jpg"),
        ("get", "/v1/analyses/{analysis_id}/intervals/{interval}/heatmaps/{number}.jpg"),
        ("get", "/v1/analyses/{analysis_id}/spectrogram.png"),
        ("post", "/v1/uploads"),
        ("get", "/v1/uploads/{upload_id}"),
        ("delete", "/v1/uploads/{upload_id}"),
        ("post", "/v1/uploads/{upload_id}/complete"),
        ("post", "/v1/webhook-endpoints"),
        ("get", "/v1/webhook-endpoints"),
        ("get", "/v1/webhook-endpoints/{endpoint_id}"),
        ("patch", "/v1/webhook-endpoints/{endpoint_id}"),
        ("delete", "/v1/webhook-endpoints/{endpoint_id}"),
        ("post", "/v1/webhook-endpoints/{endpoint_id}/rotate-secret"),
        ("post", "/v1/webhook-endpoints/{endpoint_id}/test"),
        ("get", "/v1/webhook-endpoints/{endpoint_id}/deliveries"),
        ("get", "/v1/webhook-endpoints/{endpoint_id}/deliveries/{delivery_id}"),
        ("post", "/v1/webhook-endpoints/{endpoint_id}/deliveries/{delivery_id}/redeliver"),
        ("get", "/v1/stats"),
        ("get", "/v1/detectors"),
        *(("get", path) for path in OPEN),
    }


def test_every_call_under_v1_needs_a_key_and_says_so(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        keyed = path.startswith("/v1/")
        assert operation.get("security") == ([{"ApiKey": []}] if keyed else None)
        asked = {"401", "403", "429"} & set(operation["responses"])
        assert asked == ({"401", "403", "429"} if keyed else {"401"} if path == "/metrics" else set())
    assert document["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"


def test_every_refusal_is_a_problem_document(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) < 400 or (path, status) == ("/readyz", "503"):
                continue
            assert response["content"] == {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            }


def test_every_reference_leads_somewhere_and_frameworks_words_are_gone(document: dict[str, Any]) -> None:
    text = str(document)
    schemas = document["components"]["schemas"]
    for name in set(re.findall(r"#/components/schemas/([A-Za-z0-9_\[\]-]+)", text)):
        assert name in schemas
    assert set(re.findall(r"'\$ref': '(.*?)[^/]*'", text)) == {"#/components/schemas/"}
    assert not {"HTTPValidationError", "ValidationError"} & set(schemas)


def test_every_operation_has_a_name_and_words(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z_]+", name) for name in names)
    assert all(operation["description"] for _, _, operation in operations(document))


def test_the_upload_form_is_described_from_what_is_enforced(document: dict[str, Any]) -> None:
    body = document["paths"]["/v1/analyses"]["post"]["requestBody"]
    schemas = body["content"]["multipart/form-data"]["schema"]["oneOf"]
    sources = {"file", "upload_id", "source_url"}
    assert [schema["required"] for schema in schemas] == [
        [name] for name in ("file", "upload_id", "source_url")
    ]
    schema = schemas[0]
    assert set(schema["properties"]) == {"file", *FIELD_BOUNDS} - sources | {"file"}
    assert schema["additionalProperties"] is False
    interval = schema["properties"]["interval_seconds"]
    assert (interval["minimum"], interval["maximum"]) == (1, 5)
    assert interval["default"] == Options().interval_seconds


def test_the_report_is_described_by_its_own_model(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["Analysis"]["properties"]["report"]["anyOf"][0] == {"$ref": "#/components/schemas/Report"}
    assert set(schemas["Report"]["properties"]) == set(Report.model_fields)
    assert all("description" in schemas[name] for name in ("Analysis", "Interval", "Problem"))


def test_importing_the_api_needs_no_settings_and_loads_no_worker() -> None:
    """In a fresh interpreter: this one has imported everything already."""
    program = (
        "import sys, api.app\n"
        "unwanted = {'torch', 'celery', 'workers', 'cv2', 'google.genai'} & set(sys.modules)\n"
        "print(sorted(unwanted))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PATH": "/usr/bin"}
    )
    assert ran.stdout.strip() == "[]"
