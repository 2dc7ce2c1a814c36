"""Stars out our own credentials in what a provider says: it must not tell them to our client."""

from functools import lru_cache
from itertools import chain
from typing import Final

from gateway.ports import HeaderPairs

_STARS: Final = b"*" * 8


def redacted(content: bytes, secrets: tuple[bytes, ...]) -> bytes:
    """The content with every secret starred out."""
    for secret in secrets:
        content = content.replace(secret, _STARS)
    return content


def redacted_headers(headers: HeaderPairs, secrets: tuple[bytes, ...]) -> HeaderPairs:
    """The same of the values of headers; the very same list where there is nothing to star out."""
    said = b"".join(chain.from_iterable(headers))
    if redacted(said, secrets) == said:
        return headers
    return [(name, redacted(value, secrets)) for name, value in headers]


@lru_cache(maxsize=1024)
def _beginnings(secrets: tuple[bytes, ...]) -> tuple[tuple[bytes, ...], frozenset[bytes]]:
    """All that a secret may begin with, and the bytes that these end with."""
    beginnings = {secret[:length] for secret in secrets for length in range(1, len(secret))}
    longest_first = sorted(beginnings, key=len, reverse=True)
    return tuple(longest_first), frozenset(one[-1:] for one in beginnings)


class StreamRedactor:
    """The same of a stream, wherever its pieces are cut.

    Held back is only the longest end of a piece that may be the beginning of a secret.
    """

    __slots__ = ("_beginnings", "_held", "_last_bytes", "_secrets")

    def __init__(self, secrets: tuple[bytes, ...]) -> None:
        self._secrets = secrets
        self._beginnings, self._last_bytes = _beginnings(secrets)
        self._held = b""

    def feed(self, content: bytes) -> bytes:
        """What may go on now; may be empty."""
        if self._held:
            content = self._held + content
            self._held = b""
        content = redacted(content, self._secrets)
        # Most pieces end with a line, and few secrets hold a line's end.
        if content[-1:] in self._last_bytes:
            begun = next(filter(content.endswith, self._beginnings), b"")
            if begun:
                self._held = begun
                content = content[: -len(begun)]
        return content

    def finish(self) -> bytes:
        """What was held when the stream ended: no secret came of it."""
        held, self._held = self._held, b""
        return held
