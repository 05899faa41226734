"""Settings for one test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from core.config import settings


@pytest.fixture
def set_webhooks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Change `DEEPDEFEND_WEBHOOKS__…` for one test."""

    def change(**variables: Any) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(f"DEEPDEFEND_WEBHOOKS__{name.upper()}", str(value))
        settings.cache_clear()

    yield change
    monkeypatch.undo()
    settings.cache_clear()
