"""Taking in a request body: a statement stays in memory, the data of an insert goes to a file."""

import re
import tempfile
from pathlib import Path
from typing import IO, Final

from infra.embedded.chdb_encoding import Unpacker
from infra.embedded.chdb_statement import (
    HEAD_BYTES_MAX,
    InsertHead,
    NeedsMore,
    first_word,
    insert_head,
)

STATEMENT_BYTES_MAX: Final = 16 << 20
_DECIDE_FROM_BYTES: Final = 4096
_PART_NAME: Final = re.compile(rb'name="([^"]*)"(?:;\s*filename=)?')


class BodyTooLarge(ValueError):
    """The body, unpacked, is past its limit."""


class Intake:
    """One request body. Afterwards either `head` and `data` hold an insert, or `statement` the text.

    `data` is a file without a name, so a killed process leaves nothing behind.
    """

    def __init__(
        self, query: bytes, unpacker: Unpacker | None, spool: Path, bytes_max: int, *, is_form: bool
    ) -> None:
        self.head: InsertHead | None = None
        self._text = bytearray(query)
        self._unpacker = unpacker
        self._spool = spool
        self._bytes_left = bytes_max
        self._bytes_max = bytes_max
        self.data: IO[bytes] | None = None
        # The data of `?query=INSERT ... FORMAT x` begins with the body itself.
        self._is_decided = is_form
        if query and not is_form:
            self._decide(is_whole=True, is_query=True)

    def feed(self, data: bytes) -> None:
        """Raises BodyTooLarge, BodyDamaged."""
        if self._unpacker is not None:
            data = self._unpacker.feed(data)
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            raise BodyTooLarge(f"the body is longer than {self._bytes_max} bytes")
        if self.data is not None:
            self.data.write(data)
            return
        self._text += data
        if not self._is_decided and len(self._text) >= _DECIDE_FROM_BYTES:
            self._decide(is_whole=False, is_query=False)
        if self._is_decided and self.data is None and len(self._text) > STATEMENT_BYTES_MAX:
            raise BodyTooLarge(f"the statement is longer than {STATEMENT_BYTES_MAX} bytes")

    def finish(self) -> None:
        """The body is whole. Raises BodyDamaged."""
        if self._unpacker is not None:
            self._unpacker.finish()
        if not self._is_decided:
            self._decide(is_whole=True, is_query=False)
        if self.data is not None:
            self.data.flush()

    @property
    def statement(self) -> bytes:
        """The whole text, when it is not an insert with data."""
        return bytes(self._text)

    def discard(self) -> None:
        """Gives the file back; idempotent."""
        if self.data is not None:
            self.data.close()

    def _decide(self, *, is_whole: bool, is_query: bool) -> None:
        text = bytes(self._text)
        head = None
        if first_word(text) == "INSERT":
            try:
                head = insert_head(text, is_whole=is_whole)
            except NeedsMore:
                self._is_decided = len(text) > HEAD_BYTES_MAX
                return
        if head is None:
            # A query parameter that is no insert with data is only the beginning of the text.
            self._is_decided = not is_query
            return
        self._is_decided = True
        self.head = head
        self.data = tempfile.TemporaryFile(dir=self._spool)  # noqa: SIM115
        self.data.write(text[head.data_at :])
        self._text.clear()


def form_fields(body: bytes, content_type: str) -> dict[str, str]:
    """The fields of a multipart form. Raises ValueError for a file part or a broken form."""
    _, found, boundary = content_type.partition("boundary=")
    if not found:
        raise ValueError("the form names no boundary")
    mark = b"--" + boundary.strip('"').encode()
    fields: dict[str, str] = {}
    for part in body.split(mark)[1:]:
        if part.startswith(b"--"):
            return fields
        lead, has_head, value = part.partition(b"\r\n\r\n")
        name = _PART_NAME.search(lead)
        if not has_head or name is None or not value.endswith(b"\r\n"):
            raise ValueError("a part of the form is broken")
        if b"filename=" in lead:
            raise ValueError("external data is not supported here")
        fields[name.group(1).decode()] = value[:-2].decode()
    raise ValueError("the form does not end")
