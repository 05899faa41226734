"""There is one door out: whoever else could dial a stranger's URL is known by name."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[3]
CLIENTS = {"aiohttp", "asyncio.streams", "ftplib", "http.client", "httpcore2", "httpx", "httpx2", "requests"}
CLIENTS |= {"smtplib", "socket", "telnetlib", "urllib.request", "urllib3", "websockets"}
#: module -> what it calls instead, none of it named by a stranger.
KNOWN = {
    "api/broker.py": "our own broker",
    "core/fusion/narrators/gemini.py": "Google, or the operator's proxy",
    "core/urls.py": "the resolver",
    "workers/detectors/hub.py": "the model hub",
    "workers/outbound/dial.py": "checked addresses",
    "workers/outbound/exchange.py": "what dial.py gives it",
}


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_nobody_else_dials() -> None:
    modules = [path for room in ("api", "core", "workers") for path in (ROOT / room).rglob("*.py")]
    dialling = {str(path.relative_to(ROOT)) for path in modules if imported(path) & CLIENTS}
    assert dialling == set(KNOWN)


def test_the_guard_stands_at_the_door() -> None:
    """Whoever opens an exchange has parsed the URL; the exchange itself resolves and checks."""
    assert "core.urls.parse" in imported(ROOT / "workers/outbound/fetching.py")
    assert "core.urls.parse" in imported(ROOT / "workers/outbound/posting.py")
    assert "core.urls.resolve" in imported(ROOT / "workers/outbound/exchange.py")
    assert "socket.getaddrinfo" not in (ROOT / "workers/outbound/dial.py").read_text()
    assert "create_connection" not in (ROOT / "workers/outbound/dial.py").read_text()
