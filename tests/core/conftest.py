"""A transaction on an empty database for each test that asks, and an owner of files in a bucket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session

from core import db
from core.keys import Caller
from tests.core.eraser import empty_bucket
from tests.core.factories import create_caller


@pytest.fixture
def session(clean_database: str) -> Iterator[Session]:
    """One open transaction; what must be seen by another one has to be committed with `db.transaction`."""
    assert clean_database
    with db.transaction() as opened:
        yield opened


@pytest.fixture
def owner(clean_database: str, bucket: str) -> Caller:
    """The owner of everything, beside an empty database and a bucket without our objects."""
    assert clean_database
    assert bucket
    empty_bucket()
    with db.transaction() as session:
        return create_caller(session, "newsroom")
