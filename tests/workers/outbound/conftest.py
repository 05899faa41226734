"""A trap, a name server that lies, and policies that allow the trap's port but not its address."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from core.config import SourceUrlSettings
from tests.workers.outbound import zone as names
from tests.workers.outbound.hostile import ADDRESSES
from tests.workers.outbound.trap import Trap


@pytest.fixture(scope="module")
def trap() -> Iterator[Trap]:
    """Listens on every address of this machine."""
    with Trap() as it:
        yield it


@pytest.fixture(scope="module")
def name_server() -> Iterator[names.Zone]:
    """Knows the hostile names."""
    with names.Zone() as it:
        for name, addresses in ADDRESSES.items():
            it.add(name, addresses)
        yield it


@pytest.fixture
def zone(name_server: names.Zone, monkeypatch: pytest.MonkeyPatch) -> names.Zone:
    """Every name is asked of the name server, which has not been asked for any yet."""
    name_server.asked.clear()
    names.use(monkeypatch, name_server)
    return name_server


def policy(*networks: str, ports: tuple[int, ...] = (80, 443), **more: object) -> SourceUrlSettings:
    """Settings that allow these networks and ports, for `post` and for `fetch`."""
    return SourceUrlSettings.model_validate({"allowed_networks": networks, "allowed_ports": ports} | more)
