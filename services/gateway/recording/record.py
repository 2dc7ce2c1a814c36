"""What happened, as events in the journal: an admission before dispatch, one completion at the end."""

import re
from collections.abc import Callable
from hashlib import sha256
from typing import Final

import msgspec

from contracts.exchange import (
    EMPTY_BODY,
    Attempt,
    Body,
    Caller,
    CallFacts,
    ExchangeCompleted,
    Outcome,
    RequestAdmitted,
    SettingRef,
    TextPlaces,
    encode,
)
from gateway.ports import Lane

_BASE64_MEDIA: Final = re.compile(rb"(;base64,)([A-Za-z0-9+/=_-]{512,})")


def _media_stub(found: re.Match[bytes]) -> bytes:
    media = found.group(2)
    return found.group(1) + b"sha256:%s,%d-characters" % (
        sha256(media).hexdigest().encode(),
        len(media),
    )


def body_for_event(content: bytes, bytes_max: int) -> Body:
    """A body as it travels: whole up to `bytes_max`; beyond, media by hash, then the head only."""
    length = len(content)
    if length <= bytes_max:
        return Body(content, length, None)
    digest = sha256(content).digest()
    return Body(_BASE64_MEDIA.sub(_media_stub, content)[:bytes_max], length, digest)


class UsageOnly(msgspec.Struct):
    """The members of an answer that a bill needs."""

    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    model: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    service_tier: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    usage: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


USAGE_ONLY_BYTES_MAX: Final = 262_144
"""A provider's usage block is some hundred bytes; one that is longer would not fit its event."""
_usage_only = msgspec.json.Decoder(UsageOnly)


def usage_only(document: bytes) -> bytes | None:
    """An answer cut down to what a bill needs, None when it reports no usage of a sane size."""
    try:
        read = _usage_only.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if read.usage is msgspec.UNSET or not bytes(read.usage).startswith(b"{"):
        return None
    document = msgspec.json.encode(read)
    return document if len(document) <= USAGE_ONLY_BYTES_MAX else None


def without_content(body: Body, content: bytes) -> Body:
    """A body of which only length and SHA-256 travel."""
    return Body(b"", body.length_bytes, body.sha256 or sha256(content).digest())


class Exchange:
    """One exchange on its way into the journal: admitted at most once, completed exactly once."""

    __slots__ = (
        "_completed",
        "_lane",
        "_now_ns",
        "_started_ns",
        "admitted_at_ms",
        "call",
        "caller",
        "event_id",
        "first_byte_us",
        "is_admitted",
        "route_id",
        "text_places",
    )

    def __init__(
        self,
        event_id: bytes,
        lane: Lane | None,
        caller: Caller,
        call: CallFacts,
        admitted_at_ms: int,
        started_ns: int,
        now_ns: Callable[[], int],
    ) -> None:
        self.event_id = event_id
        self.caller = caller
        self.call = call
        self.admitted_at_ms = admitted_at_ms
        self.first_byte_us: int | None = None
        self.is_admitted = False
        self.route_id = ""
        self.text_places: TextPlaces | None = None
        self._lane = lane
        self._started_ns = started_ns
        self._now_ns = now_ns
        self._completed = False

    def elapsed_us(self) -> int:
        """Microseconds since the request came in."""
        return (self._now_ns() - self._started_ns) // 1000

    def admit(self, setting: SettingRef, timeout_ms: int) -> None:
        """Before dispatch, so that every provider call has one. Raises JournalUnavailable."""
        if self._lane is not None:
            self._lane.append(
                encode(
                    RequestAdmitted(
                        self.event_id,
                        self.admitted_at_ms,
                        timeout_ms,
                        self.caller,
                        self.call,
                        setting,
                        "",
                        (),
                    )
                )
            )
        self.is_admitted = True

    def forget_journal(self) -> None:
        """This exchange is served unmetered: nothing of it is kept."""
        self._lane = None

    def complete(
        self,
        outcome: Outcome,
        status: int,
        error: str | None,
        *,
        request: Body = EMPTY_BODY,
        response: Body = EMPTY_BODY,
        content_type: str = "",
        usage_document: bytes | None = None,
        attempts: tuple[Attempt, ...] = (),
        cost_map: bytes | None = None,
        policy_id: str = "",
        metadata: str | None = None,
        stores_request: bool = False,
        stores_response: bool = False,
        is_cache_hit: bool = False,
    ) -> None:
        """Before the last byte goes out. Raises JournalUnavailable; a second call is a bug."""
        assert not self._completed, "an exchange completes once"
        event = ExchangeCompleted(
            self.event_id,
            self.admitted_at_ms,
            self.caller,
            self.call,
            outcome,
            status,
            error,
            request,
            response,
            content_type,
            usage_document,
            self.elapsed_us(),
            self.first_byte_us,
            attempts,
            cost_map,
            "",
            policy_id,
            self.route_id,
            "",
            metadata,
            stores_request,
            stores_response,
            self.is_admitted,
            is_cache_hit,
            self.text_places,
        )
        if self._lane is not None:
            self._lane.append(encode(event))
        self._completed = True
