"""What is known of a request, gate by gate; a refusal records what was known by then."""

import asyncio
import struct
import time
from binascii import hexlify
from typing import Final, NamedTuple

from contracts.exchange import Body, Caller, CallFacts
from gateway.configuration.snapshot import Snapshot
from gateway.dispatch.uploads import Upload
from gateway.endpoints.bodies import SILENT, silent
from gateway.endpoints.forms import FormReader
from gateway.long_bodies import cut, without_body
from gateway.ports import Lane
from gateway.recording.record import Exchange, body_for_event
from gateway.values import Endpoint, Head, Inbound, Principal, Reply

_UUID_GROUPS: Final = struct.Struct("8s4s4s4s12s")
_NOWHERE: Final = Endpoint("", "", "", None, "", b"", silent, None)


class Incoming(NamedTuple):
    """A request body that is not held in memory, and the form that is read of it on its way."""

    upload: Upload
    form: FormReader | None


class Asked:
    """A request on its way through the corridor, whose gates fill in one field after the other.

    `matched` is the endpoint that the path alone tells, None when nothing is served there;
    `endpoint` the one that is asked for in the end, without a name where there is none. `body` is
    the client's, None before it is here and when it is `incoming`; `form` is what either of them
    holds, if it is one.
    """

    __slots__ = (
        "body",
        "call",
        "endpoint",
        "event_id",
        "form",
        "head",
        "inbound",
        "incoming",
        "matched",
        "principal",
        "reply",
        "snapshot",
        "task",
        "timeout_s",
    )

    head: Head
    principal: Principal
    snapshot: Snapshot
    timeout_s: float

    def __init__(
        self, event_id: bytes, inbound: Inbound, reply: Reply, task: asyncio.Task[object]
    ) -> None:
        self.event_id = event_id
        self.task = task
        self.inbound = inbound
        self.reply = reply
        self.matched: Endpoint | None = None
        self.endpoint = _NOWHERE
        self.call = SILENT
        self.body: bytes | None = None
        self.incoming: Incoming | None = None
        self.form: FormReader | None = None

    @property
    def request_id(self) -> bytes:
        """What the client is told of the event's id."""
        return b"-".join(_UUID_GROUPS.unpack(hexlify(self.event_id)))

    async def body_in_event(self, bytes_max: int) -> Body:
        """The client's body as it travels, as far as it has come."""
        if self.incoming is not None:
            return self.incoming.upload.kept.body()
        body = self.body or b""
        length = len(body)
        return Body(body, length, None) if length <= bytes_max else await cut(body, bytes_max)

    def body_at_once(self, bytes_max: int) -> Body:
        """The same where nothing may be waited for any more."""
        if self.incoming is not None:
            return self.incoming.upload.kept.body()
        return body_for_event(self.body or b"", bytes_max)

    async def without_body(self, body: Body) -> Body:
        """What `body_in_event` gave, without its content."""
        if self.incoming is not None:
            return self.incoming.upload.kept.body(keeps_content=False)
        return await without_body(body, self.body or b"")

    def exchange(self, lane: Lane | None) -> Exchange:
        """Of what is known now."""
        inbound, principal, head, call = self.inbound, self.principal, self.head, self.call
        endpoint = self.endpoint
        exchange = Exchange(
            self.event_id,
            lane,
            Caller(principal.key_id, call.user_id, head.custom_id, principal.tags),
            CallFacts(
                inbound.method,
                inbound.path,
                endpoint.template,
                endpoint.name,
                endpoint.operation,
                call.model,
                call.is_streaming,
                self._request_bytes(),
            ),
            inbound.received_at_ms,
            inbound.received_at_ns,
            time.monotonic_ns,
        )
        if endpoint.kind:
            exchange.route_id = endpoint.route_id
            exchange.text_places = endpoint.text_places
        return exchange

    def _request_bytes(self) -> int:
        """What has come, or is said to come."""
        if self.body is not None:
            return len(self.body)
        arrived = 0 if self.incoming is None else self.incoming.upload.kept.length_bytes
        return arrived or self.head.content_length or 0
