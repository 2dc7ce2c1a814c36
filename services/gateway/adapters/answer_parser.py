"""Bytes of one connection into answers: strict framing, bounded heads, nothing guessed."""

import re
from itertools import chain
from typing import Final

import httptools

from gateway.adapters.fast_response import FastResponse
from gateway.adapters.upstream_settings import UpstreamSettings
from gateway.ports import HeaderPairs, MalformedResponse, ResponseTooLarge, UpstreamError

_PREFIX: Final = b"HTTP/1."
_KEEP_ALIVE_TIMEOUT: Final = re.compile(rb"(?:^|[,;\s])timeout=\"?(\d{1,9})")


class _EndOfInterest(Exception):
    """Nothing after this point of the input matters. Raised to stop the parser in its tracks."""


class AnswerParser:
    """Fills the answer that is expected.

    `is_complete` is set when the answer is whole. `is_reusable` then says whether the connection
    is at the beginning of a next one. `idle_s` is how long the server said it keeps it.
    """

    __slots__ = (
        "_fault",
        "_headers",
        "_held",
        "_informational_heads",
        "_is_head_request",
        "_overhead_bytes",
        "_parser",
        "_response",
        "_settings",
        "idle_s",
        "is_complete",
        "is_reusable",
    )

    def __init__(self, settings: UpstreamSettings) -> None:
        self._settings = settings
        self._parser = httptools.HttpResponseParser(self)
        self._response: FastResponse | None = None
        self._headers: HeaderPairs = []
        self._held = b""
        self._fault: UpstreamError | None = None
        self._informational_heads = 0
        self._overhead_bytes = 0
        self._is_head_request = False
        self.is_complete = False
        self.is_reusable = False
        self.idle_s: int | None = None

    def expect(self, response: FastResponse, *, is_head_request: bool) -> None:
        """The next bytes are an answer."""
        self._response = response
        self._is_head_request = is_head_request
        self._informational_heads = 0
        self._overhead_bytes = 0
        self.is_complete = False

    def feed(self, data: bytes) -> UpstreamError | None:
        """Returns what is wrong with the answer, if something is; nothing is fed after that."""
        response = self._response
        assert response is not None
        if not response.status and not self._overhead_bytes:
            # The parser would take RTSP for an answer as well.
            if self._held:
                data = self._held + data
                self._held = b""
            if not data.startswith(_PREFIX):
                if not _PREFIX.startswith(data):
                    return MalformedResponse("the answer does not begin with HTTP/1.")
                self._held = data
                return None
        buffered_bytes = response.buffered_bytes
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.is_complete:
                return self._fault or MalformedResponse(f"not HTTP/1.1: {error}")
            self.is_reusable = False
        if response.buffered_bytes != buffered_bytes:
            self._overhead_bytes = 0
            return None
        # Head, trailer and chunk extension are bounded by what comes without any body.
        self._overhead_bytes += len(data)
        if self._overhead_bytes > self._settings.head_bytes_max and not self.is_complete:
            return ResponseTooLarge("head, trailer or chunk extension is too long")
        return None

    def finish(self) -> bool:
        """The input has ended properly. Whether that makes the answer whole."""
        response = self._response
        if response is None or not response.status or _has_length(response.headers):
            return False
        self.is_complete = True
        self.is_reusable = False
        return True

    def is_untouched(self) -> bool:
        """Whether nothing has come since `expect`."""
        return not self._overhead_bytes and not self._held

    def dispose(self) -> None:
        """Never fed again. The parser holds this object's methods: undone by hand, at once."""
        self._parser = None
        self._response = None

    # Called by the parser, inside feed_data.

    def on_message_begin(self) -> None:
        if self.is_complete:
            raise _EndOfInterest
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            self._pass_over(status)
            return
        headers = self._headers
        transfer_coding = None
        size_bytes = sum(map(len, chain.from_iterable(headers))) + 4 * len(headers)
        for name, value in headers:
            length = len(name)
            if length == 17:
                if name.lower() == b"transfer-encoding":
                    transfer_coding = value if transfer_coding is None else b"twice"
            elif length == 10 and name.lower() == b"keep-alive":
                found = _KEEP_ALIVE_TIMEOUT.search(value)
                self.idle_s = int(found.group(1)) if found else None
        if size_bytes > self._settings.head_bytes_max:
            self._refuse(ResponseTooLarge("the head is too long"))
        if transfer_coding is not None and (
            transfer_coding.strip().lower() != b"chunked"
            or self._parser.get_http_version() != "1.1"
        ):
            self._refuse(MalformedResponse("a transfer coding other than chunked"))
        response = self._response
        assert response is not None
        response.headers = headers
        response.status = status
        # Trailers, if any, end in this list and are dropped.
        self._headers = []
        if self._is_head_request:
            # The parser cannot be told that no body follows, so it is not used again.
            self.is_complete = True
            self.is_reusable = False
            raise _EndOfInterest

    def on_body(self, body: bytes) -> None:
        response = self._response
        assert response is not None
        response.parts.append(body)
        response.buffered_bytes += len(body)

    def on_message_complete(self) -> None:
        response = self._response
        assert response is not None
        if response.status:
            self.is_complete = True
            self.is_reusable = self._parser.should_keep_alive()

    def _pass_over(self, status: int) -> None:
        if status < 100 or status == 101:
            self._refuse(MalformedResponse(f"status {status} answers no request of ours"))
        self._informational_heads += 1
        if self._informational_heads > self._settings.informational_heads_max:
            self._refuse(MalformedResponse("too many informational heads"))

    def _refuse(self, fault: UpstreamError) -> None:
        self._fault = fault
        raise _EndOfInterest


def _has_length(headers: HeaderPairs) -> bool:
    """Whether the body says itself where it ends, so that the connection's end does not."""
    return any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in headers)
