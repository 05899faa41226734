from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.filenames import MAX_FILENAME, display_name


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("clip.mp4", "clip.mp4"),
        ("/etc/passwd", "passwd"),
        (r"C:\Users\me\clip.mp4", "clip.mp4"),
        ("../../clip.mp4", "clip.mp4"),
        ("a\r\nSet-Cookie: x.mp4", "a Set-Cookie: x.mp4"),
        ("in\0voice.mp4", "invoice.mp4"),
        ("gpj.\u202e4pm.exe", "gpj.4pm.exe"),
        ("  two   words .mp4 ", "two words .mp4"),
        ("Zoe\u0308.mov", "Zo\u00eb.mov"),
        ("\u4f60\u597d.mp4", "\u4f60\u597d.mp4"),
        ("", None),
        ("..", None),
        ("folder/", None),
        ("\u200b", None),
    ],
)
def test_a_file_name_is_for_reading_only(sent: str, shown: str | None) -> None:
    assert display_name(sent) == shown


def test_a_long_name_keeps_its_extension() -> None:
    assert display_name("x" * 400 + ".mp4") == "x" * (MAX_FILENAME - 4) + ".mp4"
    assert display_name("x" * 400 + "." + "y" * 40) == "x" * MAX_FILENAME
    assert display_name("x" * 400) == "x" * MAX_FILENAME


@given(sent=st.text(max_size=600))
def test_no_name_escapes_or_controls(sent: str) -> None:
    shown = display_name(sent)
    if shown is None:
        return
    assert 0 < len(shown) <= MAX_FILENAME
    assert not {"/", "\\"} & set(shown)
    assert not any(unicodedata.category(sign).startswith("C") for sign in shown)
