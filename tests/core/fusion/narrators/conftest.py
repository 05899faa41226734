from __future__ import annotations

from collections.abc import Iterator

import pytest

from core.fusion.narrators import openai_compatible
from core.fusion.narrators.narrate import _circuit


@pytest.fixture(autouse=True)
def no_memory_of_other_tests() -> Iterator[None]:
    """Breakers and liked formats belong to the process: each test begins with a fresh one."""
    _circuit.cache_clear()
    openai_compatible._LIKED.clear()
    yield
    _circuit.cache_clear()
