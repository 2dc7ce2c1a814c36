"""Paths as they come: cut into decoded segments, or refused when two readers might disagree."""

from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.values import Refusal

_DOTS: Final = frozenset({".", ".."})


def segments_of(path: str) -> list[str]:
    """The decoded segments behind the first slash; one empty segment at the end is left out.

    Raises Refusal (400) for a path that a provider could take for another one: dot segments, empty
    segments and backslashes, encoded or not, and control characters.
    """
    segments = path[1:].split("/")
    if segments[-1] == "":
        segments.pop()
    if "%" in path:
        segments = [_decoded(segment) if "%" in segment else segment for segment in segments]
    if "" in segments or "\\" in path or not _DOTS.isdisjoint(segments):
        raise ambiguous()
    # Some servers cut parameters off a segment before they look for dots.
    if ";" in path and any(segment.partition(";")[0] in _DOTS for segment in segments):
        raise ambiguous()
    return segments


def ambiguous() -> Refusal:
    """400: a path that is not what it seems."""
    return Refusal(400, "invalid_request_error", "bad_request", "the path is ambiguous")


def _decoded(segment: str) -> str:
    """A segment without its escapes; it may hold a slash that separates nothing."""
    text = unquote_to_bytes(segment).decode("latin-1")
    pieces = text.replace("\\", "/").split("/")
    pieces = [piece.partition(";")[0] if piece.startswith(".") else piece for piece in pieces]
    if "\\" in text or "" in pieces or not _DOTS.isdisjoint(pieces):
        raise ambiguous()
    if any(char < " " or char == "\x7f" for char in text):
        raise ambiguous()
    # What is encoded twice, somebody behind the provider's front door might decode twice.
    if "%" in text and _is_escape_of_a_separator(text):
        raise ambiguous()
    return text


def _is_escape_of_a_separator(text: str) -> bool:
    lowered = text.lower()
    return any(escape in lowered for escape in ("%2e", "%2f", "%5c", "%00", "%25"))
