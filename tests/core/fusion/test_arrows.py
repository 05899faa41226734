"""Fusion is pure code: importing all of it loads no web framework, no queue, no model and no SDK."""

from __future__ import annotations

import subprocess
import sys

FOREIGN = ["torch", "fastapi", "celery", "sqlalchemy", "numpy", "google.genai", "httpx2"]


def test_importing_fusion_and_the_report_loads_nothing_heavy() -> None:
    program = (
        "import sys, core.report, core.fusion.verdict, core.fusion.narrators;"
        f"print([name for name in {FOREIGN} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
