"""Every place that lists the settings, made from core/config.py so that none can differ from it.

`python -m deploy.settings_text` rewrites the marked parts of docs/operations.md, .env.example and
docker-compose.yml; a test compares. The reason beside a setting is its comment in the code.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from core.config import Settings

ROOT = Path(__file__).parents[1]
BEGIN, END = "settings: begin", "settings: end"
#: What docker-compose.yml sets itself, gives to one service only, or leaves to the image.
COMPOSED = frozenset(
    {
        "DEEPDEFEND_ENVIRONMENT",
        "DEEPDEFEND_DATABASE_URL",
        "DEEPDEFEND_BROKER_URL",
        "DEEPDEFEND_SECRET_KEY",
        "DEEPDEFEND_S3__ENDPOINT_URL",
        "DEEPDEFEND_S3__ACCESS_KEY_ID",
        "DEEPDEFEND_S3__SECRET_ACCESS_KEY",
        "DEEPDEFEND_MODELS__DIR",
        "DEEPDEFEND_TEMP_DIR",
        "GOOGLE_API_KEY",
    }
)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One environment variable."""

    name: str
    default: str  #: as it would be written in .env; empty for none
    required: bool
    why: str  #: the comment beside it in the code


def settings() -> Iterator[Setting]:
    """Every variable that `Settings` reads, in the order of the code."""
    return _walk(Settings, "DEEPDEFEND_")


def _walk(model: type[BaseModel], prefix: str) -> Iterator[Setting]:
    comments = _comments(model)
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _walk(kind, f"{prefix}{name.upper()}__")
            continue
        yield Setting(
            name=str(field.validation_alias or f"{prefix}{name.upper()}"),
            default=_written(field),
            required=field.default is PydanticUndefined,
            why=comments.get(name, ""),
        )


def _written(field: FieldInfo) -> str:
    """The default as a person would write it in .env; ISO 8601 for durations."""
    default: Any = field.default
    if default is None or default is PydanticUndefined:
        return ""
    if isinstance(default, timedelta):
        text: str = TypeAdapter(timedelta).dump_python(default, mode="json")
        return text
    if isinstance(default, Path):
        return str(default).replace(str(Path.home()), "${HOME}", 1)
    if isinstance(default, tuple):
        return json.dumps(default)
    if isinstance(default, bool):
        return str(default).lower()
    return str(default.value if isinstance(default, Enum) else default)


def _comments(model: type[BaseModel]) -> dict[str, str]:
    """The comment on a field's own line, else the one on the line above; inherited fields too."""
    found: dict[str, str] = {}
    for base in model.__bases__:
        if base is not BaseModel and issubclass(base, BaseModel) and base.__module__ == model.__module__:
            found |= _comments(base)
    lines = inspect.getsource(model).splitlines()
    for node in ast.parse("\n".join(lines)).body[0].body:  # type: ignore[attr-defined]
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            beside = lines[(node.end_lineno or node.lineno) - 1].partition("  # ")[2]
            above = lines[node.lineno - 2].strip()
            found[node.target.id] = beside or (above[2:] if above.startswith("# ") else "")
    return found


def table() -> str:
    """A Markdown table."""
    rows = ["| variable | default | why |", "|---|---|---|"]
    for setting in settings():
        default = "**required**" if setting.required else f"`{setting.default}`" if setting.default else ""
        rows.append(f"| `{setting.name}` | {default} | {setting.why} |")
    return "\n".join(rows)


def example() -> str:
    """Commented lines of .env.example; those that Compose sets itself are for other deployments."""
    lines = []
    for setting in settings():
        if setting.name == "DEEPDEFEND_SECRET_KEY":
            continue  # filled in above, not commented out
        why = f"  # {setting.why}" if setting.why else ""
        lines.append(f"#{setting.name}={setting.default}{why}")
    return "\n".join(lines)


def passed() -> str:
    """The variables that docker-compose.yml hands on from .env, unset when they are not there."""
    return "\n".join(f"  {setting.name}:" for setting in settings() if setting.name not in COMPOSED)


#: Which text goes where.
PLACES: dict[str, Callable[[], str]] = {
    "docs/operations.md": table,
    ".env.example": example,
    "docker-compose.yml": passed,
}


def updated(document: str, text: str) -> str:
    """The document with `text` between its marker lines. Raises ValueError when one is missing."""
    lines = document.splitlines()
    marks = [[n for n, line in enumerate(lines) if mark in line] for mark in (BEGIN, END)]
    if [len(found) for found in marks] != [1, 1]:
        raise ValueError(f"the document needs one line with '{BEGIN}' and one with '{END}'")
    return "\n".join([*lines[: marks[0][0] + 1], text, *lines[marks[1][0] :], ""])


def main() -> int:
    """Rewrite every place."""
    for name, text in PLACES.items():
        path = ROOT / name
        path.write_text(updated(path.read_text(), text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
