"""What a data directory remembers: ports and secrets, readable by its owner only."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from cli.stack import StackError


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, mode 0600 from its first byte on."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


class State:
    """A small JSON file; every change is on the disk when the call returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)

    def read(self) -> dict[str, Any]:
        """Everything that is remembered; empty at first. Raises StackError when the file is damaged."""
        try:
            found = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        except ValueError:
            found = None
        if not isinstance(found, dict):
            # Starting anew would lock us out of our own database: its password was in here.
            raise StackError(f"{self._path} is damaged; restore it or remove {self._path.parent}")
        return found

    def update(self, **changes: Any) -> None:
        """Remember these too."""
        write_private(self._path, json.dumps({**self.read(), **changes}, indent=2))

    def secret(self, name: str) -> str:
        """The random secret of that name, made at the first call: 32 letters and digits."""
        found = self.read().get(name)
        if not found:
            found = secrets.token_hex(16)
            self.update(**{name: found})
        return str(found)
