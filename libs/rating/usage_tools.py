"""Tools that a response used and that are charged by the piece, beside its tokens."""

from typing import Any, Final

import msgspec

from contracts.meters import Meter, Usage

_MARKS: Final = (b"_search_call", b"image_generation_call")
_CALLS_MAX: Final = 10**6


class _Action(msgspec.Struct, frozen=True, gc=False):
    type: Any = None


class _Item(msgspec.Struct, frozen=True, gc=False):
    type: Any = None
    status: Any = None
    action: _Action | None = None


class _Output(msgspec.Struct, frozen=True, gc=False):
    output: tuple[_Item, ...] = ()


class _Event(msgspec.Struct, frozen=True, gc=False):
    response: _Output | None = None
    output: tuple[_Item, ...] = ()


_decode: Final = msgspec.json.Decoder(_Event).decode


def with_tool_calls(usage: Usage, document: bytes) -> Usage:
    """`usage` with what the response's own output shows of tools that are charged by the piece.

    Searches of the web (not pages that were opened) and of files. A picture made on the way is one
    of `images`: what it used is not reported, so that the response is unpriced rather than too
    cheap. Calls that failed count nothing.
    """
    if not any(mark in document for mark in _MARKS):
        return usage
    try:
        read = _decode(document)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return usage
    found: dict[Meter, int] = {}
    for item in (read.output if read.response is None else read.response.output)[:_CALLS_MAX]:
        meter = _meter_of(item)
        if meter is not None:
            found[meter] = found.get(meter, 0) + 1
    if not found:
        return usage
    return msgspec.structs.replace(usage, quantities={**found, **usage.quantities})


def _meter_of(item: _Item) -> Meter | None:
    if item.status == "failed":
        return None
    if item.type == "web_search_call":
        searches = item.action is None or item.action.type in ("search", None)
        return Meter.SEARCHES if searches else None
    if item.type == "file_search_call":
        return Meter.FILE_SEARCHES
    return Meter.IMAGES if item.type == "image_generation_call" else None
