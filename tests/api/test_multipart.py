from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.multipart import FormReader, boundary_of
from core.errors import DeepDefendError, InvalidOption, MalformedUpload, UnsupportedMedia
from tests.api.server import BOUNDARY, form, part

BOUNDS = {"note": 10, "other": 10}


class Read:
    """A form that has been read, in pieces of some size."""

    def __init__(self, body: bytes, piece: int = 1 << 20) -> None:
        self.file = bytearray()
        self.reader = FormReader(BOUNDARY.encode(), BOUNDS, self.file.extend)
        for start in range(0, len(body), piece):
            self.reader.feed(body[start : start + piece])
        self.reader.finish()


def refused(body: bytes) -> DeepDefendError:
    with pytest.raises(DeepDefendError) as caught:
        Read(body)
    return caught.value


@given(
    content=st.binary(max_size=3000)
    | st.lists(st.sampled_from([b"\r", b"\n", b"--", BOUNDARY.encode()])).map(b"".join),
    note=st.text(alphabet=st.characters(codec="ascii"), max_size=10),
    piece=st.integers(1, 500),
)
def test_the_file_comes_out_as_it_went_in_however_it_is_cut(content: bytes, note: str, piece: int) -> None:
    if f"\r\n--{BOUNDARY}".encode() in b"\r\n" + content or f"\r\n--{BOUNDARY}" in f"\r\n{note}":
        return
    read = Read(form(part("note", note), part("file", content, filename="a.mp4")), piece)
    assert bytes(read.file) == content
    assert read.reader.fields == {"note": note}
    assert read.reader.filename == "a.mp4"


@given(junk=st.binary(max_size=400), piece=st.integers(1, 50))
def test_junk_is_refused_and_never_breaks_the_reader(junk: bytes, piece: int) -> None:
    with pytest.raises((MalformedUpload, InvalidOption)):
        Read(junk, piece)


@given(cut=st.integers(0, 400))
def test_a_form_cut_short_is_malformed(cut: int) -> None:
    whole = form(part("note", "n"), part("file", b"x" * 200, filename="a"))
    end = len(whole) - len("--\r\n")  # the last two hyphens make the boundary the closing one
    with pytest.raises(MalformedUpload):
        Read(whole[: min(cut, end)])


def test_an_epilogue_and_a_part_without_content_type_are_fine() -> None:
    read = Read(form(part("file", b"abc", filename="")) + b"trailing words")
    assert bytes(read.file) == b"abc"
    assert read.reader.filename == ""


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "malformed_upload"),
        (b"just words", "malformed_upload"),
        (form(), "missing_source"),
        (form(part("note", "n")), "missing_source"),
        (form(part("file", b"x")), "not_a_file"),
        (form(part("surprise", "x")), "unknown_field"),
        (form(part("note", "a"), part("note", "b")), "duplicate_field"),
        (form(part("file", b"a", filename="a"), part("file", b"b", filename="b")), "duplicate_field"),
        (form(part("note", "x" * 11)), "field_too_large"),
        (form(part("note", b"\xff\xfe"), part("file", b"a", filename="a")), "invalid_option"),
        (
            form(part("file", b"YQ==", filename="a", headers=["Content-Transfer-Encoding: base64"])),
            "malformed_upload",
        ),
        (
            form(part("file", b"a", filename="a", headers=[f"X-{n}: 1" for n in range(20)])),
            "malformed_upload",
        ),
        (form(part("file", b"a", filename="n" * 5000)), "malformed_upload"),
        (form(f"--{BOUNDARY}\r\nContent-Type: text/plain\r\n\r\nx\r\n".encode()), "malformed_upload"),
        (
            form(f'--{BOUNDARY}\r\nContent-Disposition: attachment; name="file"\r\n\r\nx\r\n'.encode()),
            "malformed_upload",
        ),
    ],
)
def test_each_wrong_form_has_its_code(body: bytes, code: str) -> None:
    assert refused(body).code == code


def test_an_unknown_field_is_named_but_not_repeated_at_length() -> None:
    error = refused(form(part("x" * 500, "v")))
    assert error.extra["field"] == "x" * 64
    assert error.extra["known"] == ["file", "note", "other"]


def test_an_identity_transfer_encoding_is_taken() -> None:
    read = Read(form(part("file", b"abc", filename="a", headers=["Content-Transfer-Encoding: Binary"])))
    assert bytes(read.file) == b"abc"


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data; charset=utf-8; boundary="a b"', b"a b"),
    ],
)
def test_the_boundary_is_found(content_type: str, boundary: bytes) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize("content_type", ["", "application/json", "multipart/mixed; boundary=a", "video/mp4"])
def test_another_type_is_unsupported(content_type: str) -> None:
    with pytest.raises(UnsupportedMedia):
        boundary_of(content_type)


@pytest.mark.parametrize("rest", ["", "; boundary=", "; boundary=" + "b" * 71, "; boundary*=utf-8''a"])
def test_a_boundary_must_be_usable(rest: str) -> None:
    with pytest.raises(MalformedUpload):
        boundary_of(f"multipart/form-data{rest}")
