"""The seams of the gateway: what it needs from outside, as Protocols, and the errors they raise."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import msgspec

from contracts.checkpoint import Position

HeaderPairs = list[tuple[bytes, bytes]]


class Origin(msgspec.Struct, frozen=True):
    """Where connections go: `scheme` is http or https, `host` a name or address, `port` a number."""

    scheme: str
    host: str
    port: int


class Trail(Protocol):
    """How far a request has come, for those who give it up.

    `is_sent` is set once bytes of it may have left: before that it can have cost nothing.
    """

    is_sent: bool


class UpstreamRequest(msgspec.Struct, frozen=True):
    """One request as it goes on the wire.

    `target` is the raw path and query. `headers` are sent as they are, in order; the engine adds
    `Host` and the framing header (`Content-Length` for bytes and for an iterator whose
    `content_length` is known, else chunked) and nothing else. `read_timeout_s` bounds the wait for
    the head and for each further piece of the body. `is_repeatable` says that sending twice does no
    harm (a retry on a stale connection is allowed even after bytes were written). An iterator is
    read once; one that yields another number of bytes than it should closes the connection, and
    what it raises `send` raises. The engine leaves its marks on `trail`.
    """

    origin: Origin
    method: bytes
    target: bytes
    headers: HeaderPairs
    body: bytes | AsyncIterator[bytes]
    read_timeout_s: float
    is_repeatable: bool = False
    content_length: int | None = None
    trail: Trail | None = None


class UpstreamResponse(Protocol):
    """The head of an answer, and its body as it comes."""

    status: int
    headers: HeaderPairs

    async def read(self, bytes_max: int) -> bytes:
        """The whole body. Raises ResponseTooLarge past `bytes_max`, and every error of `chunks`."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, never empty pieces, content-coding untouched.

        Reading slowly stops the socket (back-pressure). Raises ReadTimedOut, ResponseCut,
        MalformedResponse. Closing the iterator early closes the connection.
        """
        ...

    def is_finished(self) -> bool:
        """Whether the body has been received whole."""
        ...

    async def close(self) -> None:
        """Give the connection back (body read whole) or close it. Idempotent."""
        ...


class Upstream(Protocol):
    """An HTTP client engine: `fast` or `httpx`. One behaviour suite, tests/upstream."""

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Returns at the final head (1xx passed over).

        Raises ConnectFailed, ConnectTimedOut, PoolTimedOut, WriteTimedOut, ReadTimedOut,
        ResetBeforeResponse, MalformedResponse. Cancelling closes the connection.
        """
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class UpstreamError(Exception):
    """The upstream gave no usable answer. `code` is stable, `is_timeout` picks 504 over 502."""

    code = "upstream_failed"
    is_timeout = False
    sent_nothing = False
    """No byte of the request can have reached the application behind the upstream."""


class ConnectFailed(UpstreamError):
    """No connection: refused, unreachable, name unknown, TLS not verified."""

    code = "connect_failed"
    sent_nothing = True


class ConnectTimedOut(UpstreamError):
    """No connection in time."""

    code = "connect_timeout"
    is_timeout = True
    sent_nothing = True


class PoolTimedOut(UpstreamError):
    """Every connection to the origin was busy for too long."""

    code = "pool_timeout"
    is_timeout = True
    sent_nothing = True


class WriteTimedOut(UpstreamError):
    """The upstream stopped taking the request."""

    code = "write_timeout"
    is_timeout = True


class ReadTimedOut(UpstreamError):
    """The upstream went silent."""

    code = "read_timeout"
    is_timeout = True


class ResetBeforeResponse(UpstreamError):
    """The connection ended before a whole head arrived."""

    code = "reset_before_response"


class ResponseCut(UpstreamError):
    """The connection ended inside the body."""

    code = "response_cut"


class MalformedResponse(UpstreamError):
    """What came is not HTTP/1.1, or its framing contradicts itself."""

    code = "malformed_response"


class ResponseTooLarge(UpstreamError):
    """Head or body is over the limit."""

    code = "response_too_large"


class CachedAnswer(msgspec.Struct, frozen=True, array_like=True):
    """A whole answer of status 200, as it went to the client, and the model that was asked."""

    content_type: str
    is_stream: bool
    content: bytes
    model: str = ""


class ResponseCache(Protocol):
    """Answers of routes by key. It may forget anything at any time, and is never waited for long."""

    bytes_max: int
    """Of one answer."""

    async def get(self, key: bytes) -> CachedAnswer | None:
        """None also when it cannot be asked. Never raises."""
        ...

    def put(self, key: bytes, answer: CachedAnswer, ttl_s: float) -> None:
        """Returns at once; whether it was kept shows when it is asked for."""
        ...


class UpstreamRefused(ValueError):
    """An address or name that Tollway must not call; the message says what it is."""


CheckUpstreamUrl = Callable[[str], Awaitable[None]]
"""Looks at a URL before it is stored. Raises administration's Invalid, whose text says why."""


class Sealer(Protocol):
    """Keeps the secrets of provider settings unreadable where they are stored."""

    async def seal(self, secrets: dict[str, str], setting_id: str) -> str:
        """One text for all of them; "" for none. Raises SealUnavailable."""
        ...

    async def unseal(self, sealed: str, setting_id: str) -> dict[str, str]:
        """What was sealed for this setting. Raises SealBroken, SealUnavailable."""
        ...

    def is_current(self, sealed: str) -> bool:
        """Whether it is sealed as `seal` would seal it now."""
        ...


class SealBroken(Exception):
    """Sealed for another setting, or damaged. Trying again will not help."""


class SealUnavailable(Exception):
    """Nothing to seal or unseal with at the moment: a key that is not here, no answer.

    The same may succeed later. The message is for an operator, and holds no secret.
    """


class JournalUnavailable(Exception):
    """The journal cannot keep an event: past its limit, or the disk is full."""

    code = "metering_unavailable"


class Lane(Protocol):
    """One incarnation of append-only segments; an exchange stays in its lane."""

    def append(self, payload: bytes) -> object:
        """Keep an event; one write. Raises JournalUnavailable."""
        ...


class Journal(Protocol):
    """What a worker owes the bus."""

    @property
    def is_accepting(self) -> bool:
        """Whether new exchanges may be admitted."""
        ...

    def lane(self) -> Lane:
        """The lane of a new exchange."""
        ...


class Bus(Protocol):
    """The broker, as far as the journal's shippers need it: it may lose, repeat and reorder."""

    async def publish(self, subject: str, content: bytes, headers: dict[str, str]) -> None:
        """Returns when the stream of exchanges acknowledged. Raises BusUnavailable, BusRefused."""
        ...

    async def position(self, partition: int, incarnation: bytes) -> Position | None:
        """How far an incarnation is booked; None when its partition's checkpoint does not know it.

        Raises BusUnavailable: unknown is not None.
        """
        ...

    def on_resend(self, incarnation: bytes, ask: Callable[[int], None]) -> Callable[[], None]:
        """Call `ask` with an offset whenever metering asks for this incarnation again.

        Returns what ends that.
        """
        ...


class BusUnavailable(Exception):
    """No answer, or one that time can heal. The same content may be sent again."""


class BusFull(BusUnavailable):
    """The stream is at its limit: nothing is taken until metering's janitor has purged."""


class BusRefused(Exception):
    """Sending the same again will not help: too large, not permitted, not our stream."""
