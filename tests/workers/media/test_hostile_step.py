"""A taken-over decoder in the worker's own step: its analysis fails with a code, the next one is done."""

from __future__ import annotations

from uuid import UUID

import pytest

from core import analyses, db
from core.domain import Stage
from core.models import Analysis
from tests.workers.tasks.conftest import SAMPLES, Submit, stages_of, submit
from workers.base import run_step
from workers.media import extract as extraction
from workers.tasks.extract import extract_media

__all__ = ["submit"]
CLIP = SAMPLES / "pkg_face_photo_real_speech.mp4"


def worked(analysis_id: UUID) -> Analysis:
    """The analysis after its first step, run as the queue runs it."""
    run_step(Stage.EXTRACT, str(analysis_id), 0, extract_media)
    with db.read() as session:
        return analyses.load(session, analysis_id)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import ctypes; ctypes.string_at(0)", "decoder_crashed"),
        ("import os\nwhile True: os.fork()", "decoder_crashed"),
        ("import os\nos.kill(os.getppid(), 9)", "decoder_crashed"),
        ("x = []\nwhile True: x.append(bytearray(1 << 26))", "decoder_out_of_memory"),
        ('print(\'{"code": "too_long", "detail": "<script>"}\'); raise SystemExit(3)', "too_long"),
    ],
)
def test_its_analysis_fails_and_the_next_is_done(
    submit: Submit,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    reason: str,
) -> None:
    with monkeypatch.context() as taken_over:
        taken_over.setattr(extraction, "PROGRAM", ("-I", "-c", code))
        failed = worked(submit(CLIP))

    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error["code"] == reason
    following = submit(CLIP)
    assert worked(following).status == "processing"
    assert ("extract", 0, "done", None) in stages_of(following)
