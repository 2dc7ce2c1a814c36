"""Server-sent events as bytes: where they end, and which of them reports the usage."""

import re
from typing import Final

_EVENT_END: Final = re.compile(rb"\r\n\r\n|\n\n")
_USAGE_OBJECT: Final = re.compile(rb'"usage"\s*:\s*\{')
_NO_CHOICES: Final = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_DATA_LINE: Final = re.compile(rb"^data:[ ]?(.*?)\r?$", re.MULTILINE)


def reports_usage(content: bytes) -> bool:
    """Whether some event in here may hold a usage block (not merely `"usage":null`)."""
    return b'"usage"' in content and _USAGE_OBJECT.search(content) is not None


def last_event_end(content: bytes) -> int:
    """Where the last complete event in `content` ends; 0 when none does."""
    newlines = content.rfind(b"\n\n")
    crlf = content.rfind(b"\r\n\r\n")
    return max(0 if newlines < 0 else newlines + 2, 0 if crlf < 0 else crlf + 4)


def split_events(content: bytes) -> list[bytes]:
    """Complete events, terminators included; what follows the last terminator comes last."""
    events = []
    position = 0
    for found in _EVENT_END.finditer(content):
        events.append(content[position : found.end()])
        position = found.end()
    if position < len(content):
        events.append(content[position:])
    return events


def data_of(event: bytes) -> bytes:
    """The data of one event, its lines joined by newlines."""
    return b"\n".join(_DATA_LINE.findall(event))


def without_usage_event(events: bytes) -> tuple[bytes, bytes | None]:
    """Complete events without the one that only reports usage, and that one's data.

    It is the event that OpenAI sends for `stream_options.include_usage`: a usage object beside an
    empty list of choices. Any other event stays as it is.
    """
    if not reports_usage(events):
        return events, None
    kept = []
    document: bytes | None = None
    for event in split_events(events):
        if reports_usage(event) and _NO_CHOICES.search(event) is not None:
            document = data_of(event)
        else:
            kept.append(event)
    return b"".join(kept), document


def usage_document(tail: bytes) -> bytes | None:
    """The data of the last event in `tail` that reports usage, None when none does."""
    if not reports_usage(tail):
        return None
    for event in reversed(split_events(tail)):
        if reports_usage(event):
            return data_of(event) or None
    return None
