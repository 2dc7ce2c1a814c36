"""One NATS connection of a metering process, and its errors as the ports know them."""

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import nats
import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import KeyWrongLastSequenceError

from metering.ports import Superseded, Unavailable
from runtime.urls import without_password

_CONNECT_TIMEOUT_S: Final = 5


class LinkClosed(Exception):
    """The connection is closed for good, by an error that the server stated."""


class NatsLink:
    """A connection that comes back by itself, and JetStream over it."""

    def __init__(self, client: Client, timeout_s: float) -> None:
        self.client = client
        self.timeout_s = timeout_s
        self.on_lost: list[Callable[[], None]] = []
        """Called whenever the connection is lost: answers on their way will not come."""
        self.jetstream: JetStreamContext = client.jetstream(timeout=timeout_s)

    @classmethod
    async def open(
        cls, url: str, *, name: str, creds: str | None, tls_ca: str | None, timeout_s: float
    ) -> "NatsLink":
        """Raises Unavailable when no server answers within the time of one request."""
        options: dict[str, Any] = {}
        if creds is not None:
            options["user_credentials"] = creds
        if tls_ca is not None:
            options["tls"] = ssl.create_default_context(cafile=tls_ca)
        links: list[NatsLink] = []

        async def on_lost() -> None:
            for link in links:
                for call in link.on_lost:
                    call()

        try:
            # Told to come back for ever, the library tries the first time for ever, too.
            async with asyncio.timeout(timeout_s):
                client = await nats.connect(
                    servers=[each.strip() for each in url.split(",")],
                    name=name,
                    connect_timeout=_CONNECT_TIMEOUT_S,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.25,
                    error_cb=_ignore,
                    disconnected_cb=on_lost,
                    **options,
                )
        except TimeoutError:
            where = without_password(url)
            raise Unavailable(f"NATS does not answer at {where}; it is named by NATS_URL") from None
        except (nats.errors.Error, OSError) as error:
            raise Unavailable(f"NATS: {type(error).__name__} {error}".rstrip()) from error
        links.append(cls(client, timeout_s))
        return links[0]

    def raise_if_closed(self) -> None:
        """Raises LinkClosed: lost connections come back, but the library gives up one whose server
        named an error, such as credentials that have expired."""
        if self.client.is_closed:
            raise LinkClosed(f"NATS closed the connection: {self.client.last_error}")

    async def close(self) -> None:
        """Close the connection; nothing is sent after."""
        try:
            await self.client.close()
        except (TimeoutError, nats.errors.Error, OSError):
            return


async def _ignore(_: Exception) -> None:
    """Every loss shows at the request it breaks; the client's own report would only repeat it."""


@contextmanager
def as_unavailable() -> Iterator[None]:
    """The library's errors as Superseded (lost a compare-and-set) or Unavailable."""
    try:
        yield
    except KeyWrongLastSequenceError as error:
        raise Superseded("the checkpoint was written by someone else") from error
    except (TimeoutError, nats.errors.Error, OSError) as error:
        raise Unavailable(f"NATS: {type(error).__name__} {error}".rstrip()) from error
