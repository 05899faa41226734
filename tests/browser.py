"""A real Chromium without a window, driven over the DevTools protocol; tests skip where there is none."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

#: Seconds that a page may take before a test gives up.
PATIENCE = 60


class Page:
    """One tab. `events` holds what it told of itself: requests, console, exceptions."""

    def __init__(self, socket: ClientConnection, session: str) -> None:
        self._socket, self._session, self._number = socket, session, 0
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        self._number += 1
        self._send(self._number, method, params)
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE))
            if message.get("id") == self._number:
                assert "error" not in message, message
                return dict(message["result"])
            self.events.append(message)

    def _send(self, number: int, method: str, params: dict[str, Any]) -> None:
        self._socket.send(
            json.dumps({"id": number, "method": method, "params": params, "sessionId": self._session})
        )

    def open(self, address: str) -> None:
        """Go there; returns once the page is loaded."""
        self.events.clear()
        assert "errorText" not in self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete'")

    def see(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Be a screen of that size, as a phone is one."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def run(self, script: str) -> Any:
        """The value of an expression in the page; promises are awaited."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, script: str) -> None:
        """Wait for the page itself until the expression is true."""
        tick = threading.Event()
        for _ in range(PATIENCE * 10):
            if self.run(f"Boolean({script})"):
                return
            tick.wait(0.1)
        pytest.fail(f"{script} never came true; the page says: {self.run('document.body.innerText')}")

    def choose(self, selector: str, path: Path) -> None:
        """Choose a file, as a person does in the dialog."""
        node = self.call("DOM.getDocument")["root"]["nodeId"]
        found = self.call("DOM.querySelector", nodeId=node, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=found, files=[str(path)])

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press and let go of one key."""
        shared = {"key": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **shared)
        self.call("Input.dispatchKeyEvent", type="keyUp", **shared)

    def shoot(self, path: Path, *, whole: bool = True) -> None:
        """A screenshot as PNG."""
        found = self.call(
            "Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._clip(whole)
        )
        path.write_bytes(b64decode(found["data"]))

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def requests(self) -> list[str]:
        """Addresses that it asked for since `open`."""
        self.call("Page.getLayoutMetrics")  # what is under way has been told by now
        sent = [event["params"] for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return [found["request"]["url"] for found in sent]

    def complaints(self) -> list[str]:
        """What its console holds: errors, warnings, exceptions, broken policies."""
        told = []
        for event in self.events:
            found = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                told.append(str(found["exceptionDetails"]))
            if event["method"] == "Log.entryAdded" and found["entry"]["level"] in {"error", "warning"}:
                told.append(found["entry"]["text"])
            if event["method"] == "Runtime.consoleAPICalled" and found["type"] in {
                "error",
                "warning",
                "assert",
            }:
                told.append(str(found["args"]))
        return told

    def overflow(self) -> int:
        """Pixels by which the page is wider than its screen."""
        return int(self.run("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """A browser with an empty profile in `folder`, gone when the block ends."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("there is no chromium on this machine")
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--remote-debugging-port=0",
    ]
    quiet = ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder}"]
    process = subprocess.Popen(
        [program, *options, *quiet, "about:blank"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        with connect(_address(process), max_size=None, proxy=None) as socket:
            yield Page(socket, _attach(socket))
    finally:
        process.kill()
        process.communicate()


def _address(process: subprocess.Popen[str]) -> str:
    """Where the DevTools listen."""
    assert process.stderr is not None
    for line in process.stderr:
        if "DevTools listening on " in line:
            return line.rpartition(" ")[2].strip()
    raise AssertionError("chromium did not start")


def _attach(socket: ClientConnection) -> str:
    """The session of a new tab."""
    made = _ask(socket, 1, "Target.createTarget", url="about:blank")
    return str(_ask(socket, 2, "Target.attachToTarget", targetId=made["targetId"], flatten=True)["sessionId"])


def _ask(socket: ClientConnection, number: int, method: str, **params: Any) -> dict[str, Any]:
    socket.send(json.dumps({"id": number, "method": method, "params": params}))
    while True:
        message = json.loads(socket.recv(timeout=PATIENCE))
        if message.get("id") == number:
            return dict(message["result"])
