"""The load: what is asked, by how many connections, and what the load generator counted."""

import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from bench.programs import Program, tail

Kind = Literal["json", "burst", "paced", "slow", "up", "down"]
"""JSON; streams at once, an event every 10 ms, every 100 ms; JSON of 1 MB there, of 1 MB back."""

CHUNKS: Final = 50
EVENTS: Final = CHUNKS + 2
"""Of a stream whose client asks for usage: the chunks, the usage chunk and [DONE]."""

LONG_BYTES: Final = 1_000_000
"""Of a long message. Tollway journals a body whole up to 1 MiB, so none of this is spared."""

SETTLE_S_MAX: Final = 120
"""Longest wait for the answers that are under way when the window ends."""

_HERE: Final = Path(__file__).parent
_NOTES: Final = (
    "Four toll roads meet at one plaza. The first takes cars only, the second lorries up to 12 "
    "tonnes, the third everything that rolls, and the fourth is closed on Sundays. Prices rise by "
    "3 per cent every April, are rounded to whole cents, and differ by hour of the day. "
) * 3


class Mode(msgspec.Struct, frozen=True):
    """A kind of request and its closed loop: so many connections ask again when answered."""

    name: str
    kind: Kind
    connections: int
    window_s: float


MODES: Final = {
    mode.name: mode
    for mode in (
        Mode("c1", "json", 1, 3),
        Mode("c8", "json", 8, 3),
        Mode("c64", "json", 64, 5),
        Mode("c256", "json", 256, 5),
        Mode("c1024", "json", 1024, 5),
        Mode("burst", "burst", 32, 5),
        Mode("paced", "paced", 128, 6),
        # Eight times the streams at a tenth of the pace: about as many events a second as `paced`,
        # so what differs is the price of open streams. One lasts 5.1 s; a window of 6 has two.
        Mode("paced1024", "slow", 1024, 6),
        Mode("up1m", "up", 32, 5),
        Mode("down1m", "down", 32, 5),
    )
}
DEFAULT_MODES: Final = ("c1", "c8", "c64", "c256", "burst", "paced")

_STREAMING: Final[dict[Kind, str]] = {
    "burst": "Which roads may a bus take?",
    "paced": "Answer PACED.",
    "slow": "Answer SLOWLY.",
}


class Counted(msgspec.Struct, frozen=True):
    """What wrk saw. `sent` were begun within the window; `answered` have a whole answer."""

    sent: int
    answered: int
    bytes: int
    status_errors: int
    socket_errors: int
    timeouts: int
    p50_us: int
    p99_us: int


class LoadFailed(RuntimeError):
    """The load generator said nothing we understand."""


def request_body(model: str, kind: Kind) -> bytes:
    """A chat completion of about 1 KB, of 1 MB for "up".

    Streams ask for usage, so every target sends as much.
    """
    question = _NOTES + _STREAMING.get(kind, "Which roads may a bus take?")
    if kind == "up":
        # Lines, as long texts have them: an escape in the JSON now and then.
        paragraph = _NOTES.strip() + "\n"
        question = (paragraph * (LONG_BYTES // len(paragraph) + 1))[:LONG_BYTES]
    elif kind == "down":
        question = _NOTES + "Answer at LONG."
    asked = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You keep the books of a toll plaza."},
            {"role": "user", "content": question},
        ],
        "temperature": 0.2,
        "max_tokens": 256,
    }
    if kind in _STREAMING:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(asked, separators=(",", ":")).encode()


def run_wrk(
    url: str, headers: Mapping[str, str], body: bytes, mode: Mode, cores: set[int], log: Path
) -> Counted:
    """One mode against one address. Raises LoadFailed."""
    headers = {"Content-Type": "application/json", **headers}
    duration_s = math.ceil(mode.window_s) + SETTLE_S_MAX
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(body)
        file.flush()
        argv = [
            *("wrk", "-t1", f"-c{mode.connections}", f"-d{duration_s}s"),
            *("--timeout", f"{duration_s}s", "-s", str(_HERE / "load.lua"), url),
        ]
        environ = {
            "BENCH_REQUEST": file.name,
            "BENCH_HEADERS": "\n".join(f"{name}: {text}" for name, text in headers.items()),
            "BENCH_WINDOW_S": str(mode.window_s),
            "BENCH_CONNECTIONS": str(mode.connections),
        }
        with Program(argv, cores=cores, log=log, environ=environ, pipes_output=True) as wrk:
            last = b""
            for line in wrk.output:
                if line == b"silent\n":
                    wrk.interrupt()
                last = line
    try:
        return msgspec.json.decode(last, type=Counted)
    except msgspec.DecodeError:
        raise LoadFailed(f"wrk said {last!r} at its end, and {tail(log)}") from None
