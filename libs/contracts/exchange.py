"""What happened: the two events of an exchange, self-contained, versioned by tag.

Encoded as MessagePack arrays: a field may be added at the end (with a default) within a version;
anything else is a new tag. Times are Unix milliseconds UTC, durations microseconds.
"""

from typing import Literal

import msgspec

Outcome = Literal[
    "answered",  # the provider's answer went out, whatever its status
    "refused",  # a limit or policy of ours said no to a known key
    "upstream_failed",  # no usable answer: refused, reset, malformed, cut
    "timed_out",  # ours or the provider's clock ran out
    "client_left",  # the client was gone before the answer was complete
    "shutting_down",  # the gateway stopped while it was under way
]


class Caller(msgspec.Struct, frozen=True, array_like=True):
    """Who asked."""

    key_id: str
    user_id: str | None
    custom_id: str | None
    tags: tuple[str, ...]


class CallFacts(msgspec.Struct, frozen=True, array_like=True):
    """What was asked, as far as billing and reports need it."""

    method: str
    path: str
    path_template: str
    endpoint: str
    operation: str
    model_asked: str | None
    is_streaming: bool
    request_bytes: int


class SettingRef(msgspec.Struct, frozen=True, array_like=True):
    """The provider setting that was used, at the revision that was in force."""

    setting_id: str
    revision: int
    provider: str


class Body(msgspec.Struct, frozen=True, array_like=True):
    """A body as it travels: whole, or its head with the whole one's length and SHA-256.

    `sha256` is None exactly when `content` is the whole body.
    """

    content: bytes
    length_bytes: int
    sha256: bytes | None


EMPTY_BODY = Body(b"", 0, None)


class Attempt(msgspec.Struct, frozen=True, array_like=True):
    """One upstream try inside an exchange. `error` is a stable code or None."""

    setting: SettingRef
    model_sent: str | None
    status: int | None
    error: str | None
    started_after_us: int
    duration_us: int
    first_byte_us: int | None
    upstream_request_id: str | None


class RequestAdmitted(
    msgspec.Struct, frozen=True, array_like=True, tag="request_admitted.v1", tag_field="type"
):
    """Written when a request is admitted, so that no admitted request can vanish.

    `timeout_ms` bounds how long the exchange can stay open; the closer waits that long, plus grace,
    by the journal's own time.
    """

    event_id: bytes
    admitted_at_ms: int
    timeout_ms: int
    caller: Caller
    call: CallFacts
    setting: SettingRef | None
    correlation_id: str
    holds: tuple[str, ...]


class TextPlaces(msgspec.Struct, frozen=True, array_like=True):
    """Where the JSON of a custom provider holds text that is billed, as gjson writes paths.

    `stream_completion` is of one event of a stream; "" where there are no streams.
    """

    prompt: str
    completion: str
    stream_completion: str


class ExchangeCompleted(
    msgspec.Struct, frozen=True, array_like=True, tag="exchange_completed.v1", tag_field="type"
):
    """Written once at the end, whatever the end is. One alone is enough to meter an exchange.

    `status` is what the client got; 0 when nothing was sent. `usage_document` is the JSON document
    of a stream that holds the provider's usage block (the last one seen, Anthropic's with the first
    event's `message` put in), None when there was none or when the response body itself is the
    document. `cost_map` is the setting's own prices in
    force (JSON, USD per 1,000 tokens), None when it has none. `booked_as_admitted` is False for a
    refusal, which has no admission. `is_cache_hit`: the answer is one that was kept, no provider was
    asked, and `attempts` is empty. `text_places` is set for custom providers.
    """

    event_id: bytes
    admitted_at_ms: int
    caller: Caller
    call: CallFacts
    outcome: Outcome
    status: int
    error: str | None
    request: Body
    response: Body
    response_content_type: str
    usage_document: bytes | None
    duration_us: int
    first_byte_us: int | None
    attempts: tuple[Attempt, ...]
    cost_map: bytes | None
    policy_action: str
    policy_id: str
    route_id: str
    correlation_id: str
    metadata: str | None
    stores_request: bool
    stores_response: bool
    was_admitted: bool
    is_cache_hit: bool = False
    text_places: TextPlaces | None = None


Event = RequestAdmitted | ExchangeCompleted

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)


def encode(event: Event) -> bytes:
    """An event as MessagePack."""
    return _encoder.encode(event)


def decode(payload: bytes | memoryview) -> Event:
    """MessagePack as an event of any version. Raises msgspec.DecodeError / ValidationError."""
    return _decoder.decode(payload)
