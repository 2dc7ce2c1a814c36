"""NATS as the journal's bus: one connection a worker, which it never gives up on."""

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Final

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext

from contracts import checkpoint as checkpoints
from contracts.checkpoint import Position
from contracts.subjects import (
    CHECKPOINTS_BUCKET,
    EXCHANGES_STREAM,
    checkpoint_key,
    resend_subject,
)
from gateway.ports import BusFull, BusRefused, BusUnavailable

log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S: Final = 5
_RECONNECT_WAIT_S: Final = 0.25
_PING_INTERVAL_S: Final = 5
_PINGS_MAX: Final = 2
_HEADERS_BYTES: Final = 1024
_STREAM_FULL: Final = frozenset((10077, 10047, 10023))
"""Server error codes: stream limits reached, storage resources exceeded, insufficient resources."""


class _Ask(msgspec.Struct):
    offset: int


class NatsBus:
    """Publishes parcels, reads positions, hears requests to send again.

    Answers BusUnavailable until the first connection stands and whenever there is none: the journal
    waits, the library buffers nothing. `ack_timeout_s` bounds every request.
    """

    def __init__(
        self,
        servers: str,
        creds_file: str = "",
        ca_file: str = "",
        *,
        ack_timeout_s: float = 5.0,
        content_bytes: int = 6 * 1024 * 1024,
    ) -> None:
        """`servers` comma separated; `content_bytes` is the longest content that will be sent."""
        self._servers = [one.strip() for one in servers.split(",") if one.strip()]
        self._creds_file = creds_file
        self._tls = ssl.create_default_context(cafile=ca_file) if ca_file else None
        self._ack_timeout_s = ack_timeout_s
        self._content_bytes = content_bytes
        self._client = Client()
        self._stream: JetStreamContext | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._asks: dict[bytes, Callable[[int], None]] = {}
        self._subscriptions: dict[bytes, Subscription] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._denied: tuple[float, str] = (0.0, "")
        self._is_closing = False
        self._is_closed = False
        """The library may go on after its close: `wait_for` of Python 3.11, which it rests on, drops
        a cancellation that meets an answer."""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        servers: str,
        creds_file: str = "",
        ca_file: str = "",
        *,
        ack_timeout_s: float = 5.0,
        content_bytes: int = 6 * 1024 * 1024,
    ) -> AsyncIterator["NatsBus"]:
        """A bus that is connecting, for as long as the block lasts. Waits for no connection."""
        bus = cls(
            servers, creds_file, ca_file, ack_timeout_s=ack_timeout_s, content_bytes=content_bytes
        )
        bus.start()
        try:
            yield bus
        finally:
            await bus.close()

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        return self._stream is not None and self._client.is_connected

    def start(self) -> None:
        """Connect in the background, for ever."""
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def close(self) -> None:
        """Close the connection; nothing is sent afterwards."""
        self._is_closing = True
        tasks = [*self._tasks, *([self._connecting] if self._connecting else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=self._ack_timeout_s)
        self._stream = None
        await self._close_client()
        if not self._client.is_closed:
            await self._close_client()
        self._is_closed = True

    async def _close_client(self) -> None:
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
            await asyncio.wait_for(self._client.close(), self._ack_timeout_s)

    async def publish(self, subject: str, content: bytes, headers: dict[str, str]) -> None:
        """See `gateway.ports.Bus`."""
        stream = self._connected()
        began = time.monotonic()
        try:
            ack = await stream.publish(
                subject, content, timeout=self._ack_timeout_s, headers=headers
            )
        except nats.js.errors.APIError as error:
            if error.err_code in _STREAM_FULL:
                raise BusFull(str(error)) from error
            if error.code is not None and error.code >= 500:
                raise BusUnavailable(str(error)) from error
            raise BusRefused(str(error)) from error
        except (nats.errors.MaxPayloadError, nats.errors.BadSubjectError) as error:
            raise BusRefused(str(error)) from error
        except (nats.errors.Error, OSError, TimeoutError) as error:
            denied_at, denial = self._denied
            if denied_at >= began:
                raise BusRefused(denial) from error
            raise BusUnavailable(str(error)) from error
        if ack.stream != EXCHANGES_STREAM:
            raise BusRefused(f"acknowledged by stream {ack.stream!r}, not {EXCHANGES_STREAM!r}")

    async def position(self, partition: int, incarnation: bytes) -> Position | None:
        """See `gateway.ports.Bus`."""
        stream = self._connected()
        subject = f"$KV.{CHECKPOINTS_BUCKET}.{checkpoint_key(partition)}"
        try:
            # Not by a direct get: a follower may answer old.
            async with asyncio.timeout(self._ack_timeout_s):
                message = await stream.get_last_msg(f"KV_{CHECKPOINTS_BUCKET}", subject)
        except nats.js.errors.NotFoundError as error:
            if error.err_code == 10037:
                return None
            raise BusUnavailable(str(error)) from error
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise BusUnavailable(str(error)) from error
        if not message.data:
            return None
        try:
            checkpoint = checkpoints.decode(message.data)
        except msgspec.DecodeError as error:
            raise BusUnavailable(f"unreadable checkpoint: {error}") from error
        return checkpoint.incarnations.get(incarnation.hex())

    def on_resend(self, incarnation: bytes, ask: Callable[[int], None]) -> Callable[[], None]:
        """See `gateway.ports.Bus`."""
        self._asks[incarnation] = ask
        if self._stream is not None:
            self._soon(self._subscribe(incarnation))

        def end() -> None:
            self._asks.pop(incarnation, None)
            subscription = self._subscriptions.pop(incarnation, None)
            if subscription is not None:
                self._soon(_unsubscribe(subscription))

        return end

    def _connected(self) -> JetStreamContext:
        if self._stream is None or not self._client.is_connected:
            raise BusUnavailable("not connected")
        return self._stream

    async def _on_closed(self) -> None:
        # The library gives a connection up for good when the server names an error, such as
        # credentials that have expired; the file may hold new ones by now.
        if self._is_closing:
            return
        log.error("NATS closed the connection: %s", self._client.last_error)
        self._stream = None
        self._subscriptions.clear()
        self._client = Client()
        self._connecting = asyncio.get_running_loop().create_task(self._connect_anew())

    async def _connect_anew(self) -> None:
        await asyncio.sleep(_RECONNECT_WAIT_S)
        await self._connect()

    async def _connect(self) -> None:
        await self._client.connect(
            self._servers,
            name="tollway gateway journal",
            error_cb=self._on_error,
            reconnected_cb=self._on_connected,
            closed_cb=self._on_closed,
            connect_timeout=_CONNECT_TIMEOUT_S,
            reconnect_time_wait=_RECONNECT_WAIT_S,  # type: ignore[arg-type]
            max_reconnect_attempts=-1,
            ping_interval=_PING_INTERVAL_S,
            max_outstanding_pings=_PINGS_MAX,
            tls=self._tls,
            user_credentials=self._creds_file or None,
        )
        self._stream = self._client.jetstream(timeout=self._ack_timeout_s)
        for incarnation in list(self._asks):
            await self._subscribe(incarnation)
        await self._on_connected()

    async def _on_connected(self) -> None:
        if self._is_closed:
            await self._close_client()
            return
        if self._client.max_payload < self._content_bytes + _HEADERS_BYTES:
            log.error(
                "the broker takes %d bytes a message, the journal may need %d: set max_payload",
                self._client.max_payload,
                self._content_bytes + _HEADERS_BYTES,
            )

    async def _on_error(self, error: Exception) -> None:
        if self._is_closed:
            # The only way to end the library's attempts when it has lost their cancellation.
            raise asyncio.CancelledError
        text = str(error)
        if "permissions violation" in text.lower():
            self._denied = (time.monotonic(), text)
        log.warning("NATS: %s", text or type(error).__name__)

    async def _subscribe(self, incarnation: bytes) -> None:
        if incarnation in self._subscriptions:
            return

        async def heard(message: Msg) -> None:
            ask = self._asks.get(incarnation)
            with contextlib.suppress(msgspec.DecodeError):
                if ask is not None:
                    ask(msgspec.json.decode(message.data, type=_Ask).offset)

        # The library subscribes again by itself after a reconnect.
        self._subscriptions[incarnation] = await self._client.subscribe(
            resend_subject(incarnation), cb=heard
        )

    def _soon(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _unsubscribe(subscription: Subscription) -> None:
    with contextlib.suppress(nats.errors.Error, OSError):
        await subscription.unsubscribe()
