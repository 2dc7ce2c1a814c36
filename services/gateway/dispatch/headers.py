"""The provider's headers on their way down."""

from typing import Final

from gateway.ports import HeaderPairs

# Hop-by-hop and framing (RFC 9110 §7.6.1), and what our own server states.
_STAYS: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"content-length",
        b"x-request-id",
        b"date",
        b"server",
        # Which pages may read an answer is for us to say.
        b"access-control-allow-origin",
        # Of another Tollway: whether this one kept the answer is for this one to say.
        b"x-tollway-cache",
    }
)
_USUAL_CONNECTION: Final = frozenset({b"keep-alive", b"close", b""})
_IS_OF_THE_BODY: Final = frozenset({b"content-type", b"content-encoding"})
"""Not of a connection, whatever it says: without them the body could not be read."""
_REQUEST_IDS: Final = frozenset({b"x-request-id", b"request-id", b"apim-request-id"})

_LOOKED_AT: Final = _STAYS | _REQUEST_IDS | {b"content-type"}


class Down:
    """What came with the head of an answer: headers for the client, and what is recorded."""

    __slots__ = ("_is_error", "content_type", "headers", "length", "upstream_request_id")

    def __init__(self, headers: HeaderPairs, request_id: bytes, *, is_error: bool) -> None:
        self._is_error = is_error
        self.content_type = ""
        self.length: bytes | None = None
        self.upstream_request_id: str | None = None
        passed: HeaderPairs = [(b"x-request-id", request_id)]
        named: list[bytes] = []
        for pair in headers:
            name = pair[0].lower()
            if name not in _LOOKED_AT:
                passed.append(pair)
                continue
            if name == b"content-type":
                self.content_type = pair[1].decode("latin-1")
            elif name == b"content-length":
                self.length = pair[1]
            elif name in _REQUEST_IDS:
                self.upstream_request_id = pair[1].decode("latin-1")
            elif name == b"connection" and pair[1].lower() not in _USUAL_CONNECTION:
                named += [token.strip().lower() for token in pair[1].split(b",")]
            if name not in _STAYS:
                passed.append(pair)
        if named:
            passed[1:] = [
                pair
                for pair in passed[1:]
                if (name := pair[0].lower()) not in named or name in _IS_OF_THE_BODY
            ]
        self.headers = passed

    @property
    def length_bytes(self) -> int | None:
        """How long the body is, None when only its end tells."""
        return int(self.length) if self.length is not None and self.length.isdigit() else None

    @property
    def is_json(self) -> bool:
        """Whether the body is JSON, as one without a type is taken to be."""
        content_type = self.content_type
        if content_type[:16] == "application/json" and content_type[16:17] in ("", ";", " "):
            return True
        media_type = content_type.partition(";")[0].strip().lower()
        return media_type in ("", "application/json") or media_type.endswith("+json")

    @property
    def is_event_stream(self) -> bool:
        """Whether the body is server-sent events, to be passed on as they come.

        An error is not, whatever its type says: it is read whole, and searched for credentials.
        """
        return not self._is_error and self.content_type[:17].lower() == "text/event-stream"
