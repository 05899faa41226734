"""The whole product on one machine without Docker: servers from wheels under one supervisor."""

from __future__ import annotations


class StackError(Exception):
    """The stack cannot run here; the message is one line for a person."""
