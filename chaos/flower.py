"""A picture of Flower's page in the middle of a run."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

#: Milliseconds that the page's own scripts get to fill its table.
SETTLE: Final = 8000
SECONDS: Final = 60


def picture(url: str, target: Path | None, say: Callable[[str], None]) -> None:
    """Write a PNG of the page of workers to `target`; without one, or without chromium, do nothing."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if target is None or browser is None:
        if target is not None:
            say("no chromium here: no picture of Flower")
        return
    with tempfile.TemporaryDirectory(prefix="deepdefend-chaos-browser-") as profile:
        command = [
            browser,
            *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1400,620"),
            f"--user-data-dir={profile}",
            f"--virtual-time-budget={SETTLE}",
            f"--screenshot={target.resolve()}",
            url,
        ]
        try:
            subprocess.run(command, check=True, timeout=SECONDS, capture_output=True)
        except (subprocess.SubprocessError, OSError) as error:
            say(f"no picture of Flower: {error}")
        else:
            say(f"Flower's page is in {target}")
