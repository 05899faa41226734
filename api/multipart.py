"""A multipart form with at most one file, read in whatever pieces it arrives (RFC 7578).

Sync and pure: bytes in, the file's bytes out to a sink, the few small fields kept. Everything has a
bound: headers of a part (the parser's own 8 lines of 4 KiB), names, values, the whole body.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.sources import FILE, SOURCES, missing_source, several_sources
from core.errors import InvalidOption, MalformedUpload, UnsupportedMedia

#: RFC 2046 section 5.1.1.
MAX_BOUNDARY = 70
#: Name of an unknown field, as far as it is repeated in the answer.
ECHOED = 64
#: RFC 7578 section 4.7 has no use for others, and base64 text would be hashed as if it were the file.
IDENTITY_ENCODINGS: Final = frozenset({"7bit", "8bit", "binary"})


def boundary_of(content_type: str) -> bytes:
    """The boundary. Raises UnsupportedMedia for another type, MalformedUpload without a usable one."""
    media_type, options = parse_options_header(content_type)
    if media_type.strip() != b"multipart/form-data":
        raise UnsupportedMedia("send the file as multipart/form-data")
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= MAX_BOUNDARY:
        raise MalformedUpload("the Content-Type has no boundary of 1 to 70 characters")
    return boundary


class FormReader:
    """Feed it the body; it calls `sink` with each piece of the file and keeps the other fields.

    `bounds` maps the names of allowed fields to the most bytes each may have.
    """

    def __init__(
        self, boundary: bytes, bounds: Mapping[str, int], sink: Callable[[memoryview], None]
    ) -> None:
        self.fields: dict[str, str] = {}
        #: The name the sender gave the file, unchecked; None until its part begins.
        self.filename: str | None = None
        self._bounds, self._sink = bounds, sink
        self._seen: set[str] = set()
        self._name, self._value = "", bytearray()
        self._header, self._header_value = bytearray(), bytearray()
        self._headers: dict[str, bytes] = {}
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._on_header,
                "on_header_value": self._on_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._open_part,
                "on_part_data": self._on_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> None:
        """Parse more of the body. Raises MalformedUpload or InvalidOption."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise MalformedUpload("the multipart body is broken") from error

    def finish(self) -> None:
        """The body has ended. Raises MalformedUpload when cut short, InvalidOption without a file."""
        if not self._ended:
            raise MalformedUpload("the body ends before its closing boundary")
        if not self._seen.intersection(SOURCES):
            raise missing_source()

    def _begin_part(self) -> None:
        self._headers.clear()
        self._value.clear()

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header.decode("latin-1").lower()] = bytes(self._header_value)
        self._header.clear()
        self._header_value.clear()

    def _open_part(self) -> None:
        disposition, options = parse_options_header(self._headers.get("content-disposition"))
        name = options.get(b"name")
        if disposition != b"form-data" or name is None:
            raise MalformedUpload("a part has no `Content-Disposition: form-data` with a name")
        encoding = self._headers.get("content-transfer-encoding", b"binary").decode("latin-1").strip().lower()
        if encoding not in IDENTITY_ENCODINGS:
            raise MalformedUpload("a part has a Content-Transfer-Encoding; send it as it is")
        self._admit(name.decode("utf-8", "replace"))
        if self._name == FILE:
            if b"filename" not in options:
                raise InvalidOption("`file` was sent as text", code="not_a_file", field=FILE)
            self.filename = options[b"filename"].decode("utf-8", "replace")

    def _admit(self, name: str) -> None:
        """One part of each known name. Raises InvalidOption, before any of its data is read."""
        if name != FILE and name not in self._bounds:
            known = [FILE, *self._bounds]
            raise InvalidOption(
                "the form has an unknown field", code="unknown_field", field=name[:ECHOED], known=known
            )
        if name in self._seen:
            raise InvalidOption("the form has a field twice", code="duplicate_field", field=name)
        if name in SOURCES and self._seen.intersection(SOURCES):  # before a file is read for nothing
            raise several_sources()
        self._seen.add(name)
        self._name = name

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == FILE:
            self._sink(memoryview(data)[start:end])
            return
        self._value += memoryview(data)[start:end]
        if len(self._value) > self._bounds[self._name]:
            limit = self._bounds[self._name]
            raise InvalidOption(
                "a form field is too long", code="field_too_large", field=self._name, limit_bytes=limit
            )

    def _end_part(self) -> None:
        if self._name == FILE:
            return
        try:
            self.fields[self._name] = self._value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidOption("a form field is not UTF-8", field=self._name) from error

    def _end(self) -> None:
        self._ended = True
