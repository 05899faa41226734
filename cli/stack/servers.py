"""The three servers of a stack, under one name to import."""

from __future__ import annotations

from cli.stack.postgres import PostgresServer
from cli.stack.s3 import S3Server
from cli.stack.valkey import ValkeyServer

__all__ = ["PostgresServer", "S3Server", "ValkeyServer"]
