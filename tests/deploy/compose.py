"""Reads Compose files the way Compose does, as far as these need it: overrides and ${VARIABLES}."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
VARIABLE = re.compile(r"\$(?:\$|\{(\w+)(?::?([-?])([^}]*))?\})")


class Missing(Exception):
    """A `${NAME:?…}` that has no value."""


def load(*names: str) -> dict[str, Any]:
    """The named files, later ones laid over earlier ones, not interpolated."""
    merged: Any = {}
    for name in names or ("docker-compose.yml",):
        merged = _over(merged, yaml.safe_load((ROOT / name).read_text()))
    return dict(merged)


def _over(base: Any, extra: Any) -> Any:
    if isinstance(base, dict) and isinstance(extra, dict):
        return base | {key: _over(base.get(key), value) for key, value in extra.items()}
    if isinstance(base, list) and isinstance(extra, list):
        return [*base, *extra]
    return extra


def interpolated(value: Any, environment: Mapping[str, str]) -> Any:
    """`value` with every variable replaced. Raises Missing."""
    if isinstance(value, dict):
        return {key: interpolated(item, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolated(item, environment) for item in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name, operator, word = match.groups()
        if name is None:
            return "$"
        found = environment.get(name, "")
        if not found and operator == "?":
            raise Missing(name)
        return found or (word if operator == "-" else "")

    return VARIABLE.sub(replace, value)


def environment_of(service: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """What the container sees: a variable without a value is handed on, or stays unset."""
    named = interpolated(service.get("environment", {}), environment)
    passed = {key: environment.get(key) if value is None else str(value) for key, value in named.items()}
    return {key: value for key, value in passed.items() if value is not None}


def dotenv(path: Path) -> dict[str, str]:
    """The assignments of a .env file."""
    lines = [line.partition("  # ")[0] for line in path.read_text().splitlines()]
    return dict(line.split("=", 1) for line in lines if re.match(r"\w+=", line))
