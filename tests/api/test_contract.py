"""The API against its own OpenAPI document, by schemathesis: every route, every check.

Without its pytest plugin, which leans on pytest's inside: Hypothesis draws the cases in the test itself.
"""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.result import Ok

from api.app import create_app
from tests.api.conftest import make_key

load_all_checks()
#: How this API refuses; 414 is the bound of the query, 431 that of the headers.
REFUSALS = [400, 401, 403, 404, 405, 406, 408, 409, 411, 413, 414, 415, 422, 429, 431]
CONFIG = schemathesis.Config.from_dict(
    {"checks": {"negative_data_rejection": {"expected-statuses": [str(status) for status in REFUSALS]}}}
)
DOCUMENT = schemathesis.openapi.from_dict(create_app().openapi(), config=CONFIG)
OPERATIONS = [found.ok() for found in DOCUMENT.get_all_operations() if isinstance(found, Ok)]
#: What is drawn for each route and mode.
EXAMPLES = 15
#: Why a request that fits the schema may be refused all the same: what no schema can say.
BEYOND_SCHEMA = {
    "invalid_cursor",  # it is signed
    "file_too_large",  # a setting of the server
    "unsafe_url",  # the guard
    "no_webhook_secret",  # depends on what the owner has
    "invalid_metadata",  # JSON inside a string
    "empty_file",
    "not_found",
    "upload_not_found",
    "conflict",
    "endpoint_exists",
    "idempotency_mismatch",  # short keys are drawn twice
}


def accepted(_context: Any, response: Any, case: Case[Any]) -> None:
    """In place of `positive_data_acceptance`, which knows the schema alone."""
    if case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE:
        assert response.status_code < 400 or response.json()["code"] in BEYOND_SCHEMA


def checks() -> list[Any]:
    """Every check there is."""
    return [check for check in CHECKS.get_all() if check.__name__ != "positive_data_acceptance"] + [accepted]


def drawn() -> list[tuple[Any, GenerationMode]]:
    """Each route with what fits its schema, and, where it takes anything at all, with what does not."""
    return [
        (operation, mode)
        for operation in OPERATIONS
        for mode in GenerationMode
        if mode is GenerationMode.POSITIVE or operation.body or list(operation.iter_parameters())
    ]


@pytest.mark.parametrize(("operation", "mode"), drawn(), ids=lambda part: getattr(part, "label", str(part)))
@pytest.mark.usefixtures("clean_database", "parts_go")
def test_every_answer_is_as_documented(
    address: tuple[str, int], operation: Any, mode: GenerationMode
) -> None:
    url = "http://{}:{}".format(*address)
    headers = {"Authorization": f"Bearer {make_key('alice')}"}

    @given(case=operation.as_strategy(generation_mode=mode))
    @hypothesis_settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    def holds(case: Case[Any]) -> None:
        case.call_and_validate(base_url=url, headers=headers, checks=checks())

    holds()


def test_every_route_is_drawn() -> None:
    documented = [
        f"{method.upper()} {path}"
        for path, operations in create_app().openapi()["paths"].items()
        for method in operations
    ]
    assert sorted(operation.label for operation in OPERATIONS) == sorted(documented)
    assert len(CHECKS.get_all_names()) >= 14
