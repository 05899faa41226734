"""Connections to the database of a stack that the product knows nothing of."""

from __future__ import annotations

from typing import Any

import psycopg2
import psycopg2.extras

Row = dict[str, Any]


def connect(url: str) -> Any:
    """A connection that commits each statement. Raises psycopg2.OperationalError while it is away."""
    connection = psycopg2.connect(url, connect_timeout=5, application_name="chaos")
    connection.autocommit = True
    return connection


def rows(url: str, query: str, *values: Any) -> list[Row]:
    """What the database answers. Raises psycopg2.OperationalError while it is away."""
    connection = connect(url)
    try:
        with connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            cursor.execute(query, values or None)
            return [dict(row) for row in cursor.fetchall()]
    finally:
        connection.close()
