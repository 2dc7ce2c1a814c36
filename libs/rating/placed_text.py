"""Usage counted from text that lies where the operator of a custom provider says."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from contracts.exchange import Body, ExchangeCompleted, TextPlaces
from contracts.meters import Evidence, Meter, Usage
from rating.json_location import BadLocation, Location, NotReadable, parse_location, text_of
from rating.tokenizers import count_tokens, vocabulary_of

_PLACES_KEPT_MAX: Final = 4096


def placed_usage(event: ExchangeCompleted, places: TextPlaces) -> Usage | None:
    """An estimate: what the provider's own tokenizer and frames make of it nobody knows.

    None when either side cannot be read: half a count would look like a whole one.
    """
    prompt = _text_in(event.request, places.prompt)
    if "event-stream" in event.response_content_type:
        said = _text_of_stream(event.response, places.stream_completion)
    else:
        said = _text_in(event.response, places.completion)
    if prompt is None or said is None:
        return None
    attempted = event.attempts[-1].model_sent if event.attempts else None
    encoding = vocabulary_of(attempted or event.call.model_asked).encoding
    asked_tokens = count_tokens([prompt], encoding)
    said_tokens = count_tokens([said], encoding)
    return Usage(
        {Meter.INPUT_UNCACHED: asked_tokens, Meter.OUTPUT_TEXT: said_tokens},
        asked_tokens,
        said_tokens,
        Evidence.ESTIMATED,
        None,
        None,
        None,
    )


def _text_in(body: Body, place: str) -> str | None:
    location = _location(place)
    if location is None or body.sha256 is not None:
        return None
    try:
        return text_of(location.find_in(body.content))
    except NotReadable:
        return None


def _text_of_stream(body: Body, place: str) -> str | None:
    """The pieces of all events, joined; events that hold none are passed over."""
    location = _location(place)
    if location is None or body.sha256 is not None:
        return None
    pieces: list[str] = []
    for data in _data_of(body.content):
        try:
            piece = text_of(location.find_in(data))
        except NotReadable:
            continue
        if piece:
            pieces.append(piece)
    return "".join(pieces) if pieces else None


def _data_of(content: bytes) -> Iterator[bytes]:
    for line in content.splitlines():
        if line.startswith(b"data:"):
            yield line[5:].strip()


@lru_cache(maxsize=_PLACES_KEPT_MAX)
def _location(place: str) -> Location | None:
    try:
        return parse_location(place) if place else None
    except BadLocation:
        return None
