"""How a request wants to be answered: `x-demo-*` headers, or `demo_*` members of `metadata`."""

from typing import Final, Literal

import msgspec

from infra.demo_upstream.usage import Usage

Cut = int | Literal["head"] | None

DELAY_MS_MAX: Final = 600_000
CHUNKS_MAX: Final = 100_000
CONTENT_BYTES_MAX: Final = 64 * 1024 * 1024

HEADERS: Final = {
    "usage": "prompt=374,completion=44[,cached=N][,reasoning=N]: the usage to report",
    "no-usage": "1: report none",
    "model": "the model that claims to have answered",
    "latency-ms": "pause before the first byte of the answer, its head included",
    "first-chunk-ms": "head at once, then this pause before the body",
    "chunks": "content events of a stream (default: 8, or fewer for short answers)",
    "chunk-delay-ms": "pause between content events",
    "content-bytes": "size of the answer's text",
    "status": "answer with this error status, 400 to 599, and the dialect's error object",
    "retry-after": "seconds in Retry-After beside a 429 or 503 (default 1)",
    "error-after": "a stream: an error event after so many content events, and no clean end",
    "cut": "reset the connection: `head` before any byte, N after N content events of a stream "
    "or N bytes of a body",
}
"""Every header after `x-demo-`, as `--help` and the documentation list them."""


class BadAsk(ValueError):
    """An `x-demo-*` header that makes no sense."""


class Asked(msgspec.Struct, frozen=True):
    """What the request asks of its answer; None where it leaves that to us."""

    usage: Usage | None = None
    without_usage: bool = False
    model: str | None = None
    latency_ms: int = 0
    first_chunk_ms: int = 0
    chunks: int | None = None
    chunk_delay_ms: int = 0
    content_bytes: int | None = None
    status: int = 200
    retry_after_s: int = 1
    error_after: int | None = None
    cut: Cut = None

    @property
    def is_immediate(self) -> bool:
        """No pause anywhere: the answer can be written in one go."""
        return not (self.latency_ms or self.first_chunk_ms or self.chunk_delay_ms)


NOTHING: Final = Asked()


def asked_of(said: dict[str, str]) -> Asked:
    """From names without `x-demo-` and their texts. Raises BadAsk."""
    if not said:
        return NOTHING
    for name in said:
        if name not in HEADERS:
            raise BadAsk(f"x-demo-{name} is unknown; known: {', '.join(HEADERS)}")
    status = _whole(said, "status", 599) or 200
    if status != 200 and status < 400:
        raise BadAsk("x-demo-status is an error status, 400 to 599")
    cut = said.get("cut")
    return Asked(
        usage=_usage(said["usage"]) if "usage" in said else None,
        without_usage=said.get("no-usage", "") not in ("", "0", "false"),
        model=said.get("model"),
        latency_ms=_whole(said, "latency-ms", DELAY_MS_MAX) or 0,
        first_chunk_ms=_whole(said, "first-chunk-ms", DELAY_MS_MAX) or 0,
        chunks=_whole(said, "chunks", CHUNKS_MAX),
        chunk_delay_ms=_whole(said, "chunk-delay-ms", DELAY_MS_MAX) or 0,
        content_bytes=_whole(said, "content-bytes", CONTENT_BYTES_MAX),
        status=status,
        retry_after_s=_whole(said, "retry-after", 86_400) or 1,
        error_after=_whole(said, "error-after", CHUNKS_MAX),
        cut="head" if cut == "head" else _whole(said, "cut", CONTENT_BYTES_MAX),
    )


def _whole(said: dict[str, str], name: str, most: int) -> int | None:
    text = said.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 12 or int(text) > most:
        raise BadAsk(f"x-demo-{name}: {text!r} is no whole number up to {most}")
    return int(text)


def _usage(text: str) -> Usage:
    counts = {"prompt": 0, "completion": 0, "cached": 0, "reasoning": 0}
    for part in text.split(","):
        name, _, number = part.strip().partition("=")
        if name not in counts or not number.isascii() or not number.isdigit() or len(number) > 15:
            raise BadAsk(f"x-demo-usage: {part!r}; write prompt=374,completion=44")
        counts[name] = int(number)
    if counts["cached"] > counts["prompt"] or counts["reasoning"] > counts["completion"]:
        raise BadAsk("x-demo-usage: cached is a part of prompt, reasoning of completion")
    return Usage(counts["prompt"], counts["completion"], counts["cached"], counts["reasoning"])
