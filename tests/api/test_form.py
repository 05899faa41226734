from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from api.form import FIELD_BOUNDS, metadata_of, options_of
from core import db
from core.domain import Options, Terms
from core.errors import InvalidOption


def test_options_come_from_their_fields_and_default_without_them() -> None:
    assert options_of({}) == Options()
    assert options_of({"interval_seconds": "1.5", "frames_per_interval": "3", "metadata": "{}"}) == Options(
        interval_seconds=1.5, frames_per_interval=3
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"interval_seconds": "0.99"},
        {"interval_seconds": "5.01"},
        {"interval_seconds": "nan"},
        {"interval_seconds": "inf"},
        {"interval_seconds": ""},
        {"interval_seconds": "two"},
        {"frames_per_interval": "0"},
        {"frames_per_interval": "26"},
        {"frames_per_interval": "2.5"},
    ],
)
def test_an_option_out_of_bounds_is_named(fields: dict[str, str]) -> None:
    with pytest.raises(InvalidOption) as caught:
        options_of(fields)
    assert [wrong["location"] for wrong in caught.value.extra["errors"]] == [["body", next(iter(fields))]]


@pytest.mark.parametrize(
    "sent",
    [
        "[]", "1", '"a"', "null", "", "{", "{'a': 1}", '{"a": NaN}', '{"a": Infinity}', '{"a": 1e999}',
        r'{"a": "\u0000"}', r'{"\u0000": 1}', r'{"a": ["\ud800"]}', '{"a": ' + "9" * 5000 + "}",
        '{"a":' * 9 + "1" + "}" * 9, "[" * 8000, '{"a":' * 3000,
    ],
)  # fmt: skip
def test_metadata_that_cannot_be_kept_is_refused(sent: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        metadata_of(sent)
    assert caught.value.code == "invalid_metadata"


def test_a_number_that_is_too_long_is_told_in_our_own_words() -> None:
    with pytest.raises(InvalidOption, match="it has a number that is too large"):
        metadata_of('{"a": ' + "9" * 5000 + "}")
    assert metadata_of('{"a": -' + "9" * 300 + "}") == {"a": -int("9" * 300)}


def test_no_metadata_is_an_empty_object() -> None:
    assert metadata_of(None) == {}


def same_numbers(value: object) -> object:
    """JSON has one kind of number: 5.7e16 may come back as 57000000000000000."""
    return json.loads(json.dumps(value), parse_int=float)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(sent=st.dictionaries(st.text(), JSON, max_size=4))
def test_what_is_taken_can_be_stored(database: str, sent: dict[str, object]) -> None:
    """Whatever `metadata_of` lets through, PostgreSQL keeps: no fault of ours on strange input."""
    assert database
    try:
        taken = metadata_of(json.dumps(sent))
    except InvalidOption:
        return
    with db.transaction() as session:
        kept = session.execute(
            text("SELECT CAST(:value AS jsonb)"), {"value": json.dumps(taken)}
        ).scalar_one()
    assert same_numbers(kept) == same_numbers(taken)


def test_the_bounds_are_those_of_the_options() -> None:
    named = {"upload_id", "source_url"}
    assert set(FIELD_BOUNDS) == {*Options.model_fields, *Terms.model_fields, "metadata", *named}
