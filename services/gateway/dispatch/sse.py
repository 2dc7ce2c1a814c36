"""Server-sent events as bytes: where they end, and which of them reports the usage."""

import json
import re
from typing import Final

import msgspec

_USAGE_OBJECT: Final = re.compile(rb'"usage"\s*:\s*\{')
_NO_CHOICES: Final = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_SERVICE_TIER: Final = re.compile(rb'"service_tier"\s*:\s*("[a-z_]{1,64}")')
_FIRST_WITHIN_BYTES: Final = 65_536
_DATA_LINE: Final = re.compile(rb"^data:[ ]?(.*?)\r?$", re.MULTILINE)


class _UsageEvent(msgspec.Struct):
    usage: msgspec.Raw
    choices: tuple[()]


_decode_usage_event: Final = msgspec.json.Decoder(_UsageEvent).decode


def last_event_end(content: bytes, before: int | None = None) -> int:
    """Where the last complete event in `content[:before]` ends; 0 when none does."""
    end = len(content) if before is None else before
    if content.endswith(b"\n\n", 0, end):
        return end
    newlines = content.rfind(b"\n\n", 0, end)
    # Only behind the one that was found, or a stream of many events is searched many times.
    crlf = content.rfind(b"\r\n\r\n", max(newlines, 0), end)
    return max(0 if newlines < 0 else newlines + 2, 0 if crlf < 0 else crlf + 4)


def last_usage_event(content: bytes, before: int | None = None) -> tuple[int, int] | None:
    """Where the last event lies that holds a usage block (not merely `"usage":null`).

    [start, end), terminator included. Looked for from the end, where it is; `before` leaves out
    what lies at or behind it. Inside a JSON string the quotes would be escaped, so text that
    speaks of usage is not taken for it.
    """
    found = len(content) if before is None else before
    while True:
        found = content.rfind(b'"usage"', 0, found)
        if found < 0:
            return None
        if _USAGE_OBJECT.match(content, found) is not None:
            break
    newlines = content.find(b"\n\n", found)
    crlf = content.find(b"\r\n\r\n", found, newlines if newlines >= 0 else len(content))
    ends = [end for end in (newlines + 2, crlf + 4) if end > 3]
    return last_event_end(content, found), min(ends, default=len(content))


def data_of(event: bytes) -> bytes:
    """The data of one event, its lines joined by newlines."""
    return b"\n".join(_DATA_LINE.findall(event))


def without_usage_event(events: bytes) -> tuple[bytes, bytes | None]:
    """Complete events without those that only report usage, and the last one's data.

    Such an event is what OpenAI sends for `stream_options.include_usage`: a usage object beside an
    empty list of choices. Any other event stays as it is.
    """
    document: bytes | None = None
    if _USAGE_OBJECT.search(events) is None:
        return events, document
    place = last_usage_event(events)
    while place is not None:
        event = events[place[0] : place[1]]
        data = data_of(event) if _NO_CHOICES.search(event) is not None else b""
        if data and _only_reports_usage(data):
            document = document or data
            events = events[: place[0]] + events[place[1] :]
        place = last_usage_event(events, place[0])
    return events, document


def _only_reports_usage(data: bytes) -> bool:
    """Sure before anything is taken out: the members of the document itself, not of one inside."""
    try:
        return bytes(_decode_usage_event(data).usage).startswith(b"{")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


class _FirstMessage(msgspec.Struct):
    """What Anthropic's first event says that a bill needs and the last one does not repeat."""

    usage: msgspec.Raw
    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    model: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _FirstEvent(msgspec.Struct):
    message: _FirstMessage


_decode_first: Final = msgspec.json.Decoder(_FirstEvent).decode


def usage_document(tail: bytes) -> bytes | None:
    """The data of the last event in `tail` that reports usage, None when none does.

    Of an event that begins before `tail`, a picture or a long response, the usage block and the
    service tier alone.
    """
    place = last_usage_event(tail)
    if place is None:
        return None
    event = tail[place[0] : place[1]]
    return data_of(event) or (_usage_alone(event) if place[0] == 0 else None)


def with_first_message(document: bytes, head: bytes) -> bytes:
    """The data of Anthropic's last event with the message of the first one, as `message`.

    The stream's `head` does not always go where its usage document goes.
    """
    if not document.startswith(b"{") or b'"message_delta"' not in document:
        return document
    found = head.find(b'"message_start"', 0, _FIRST_WITHIN_BYTES)
    if found < 0:
        return document
    start = last_event_end(head, found)
    end = head.find(b"\n", found)
    try:
        first = _decode_first(data_of(head[start : len(head) if end < 0 else end]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return document
    return b'{"message":' + msgspec.json.encode(first.message) + b"," + document[1:]


def _usage_alone(event: bytes) -> bytes | None:
    *_, last = _USAGE_OBJECT.finditer(event)
    text = event[last.end() - 1 :].decode("utf-8", "replace")
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    tiers = _SERVICE_TIER.findall(event, 0, last.start())
    tier = b',"service_tier":' + tiers[-1] if tiers else b""
    return b'{"usage":' + text[:end].encode() + tier + b"}"
