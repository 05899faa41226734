"""A transaction on an empty database for each test that asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session

from core import db


@pytest.fixture
def session(clean_database: str) -> Iterator[Session]:
    """One open transaction; what must be seen by another one has to be committed with `db.transaction`."""
    assert clean_database
    with db.transaction() as opened:
        yield opened
