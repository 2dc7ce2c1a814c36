"""What is measured: a target starts in a place of its own and says how it is asked."""

import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol

import msgspec

from bench.load import EVENTS, request_body

CHAT: Final = "/v1/chat/completions"
KEY: Final = "sk-bench-0123456789abcdef0123456789abcdef"


class Place(msgspec.Struct, frozen=True):
    """Where a target runs: its directory is fresh, its cores are given, the provider is up."""

    home: Path
    directory: Path
    proxy_core: int
    load_cores: frozenset[int]
    upstream_url: str
    upstream_pid: int


class Running(Protocol):
    """A target that answers."""

    url: str
    headers: dict[str, str]
    model: str
    cold_s: float
    answered_at_start: int
    """Answers it gave before it was handed over; they are in the ledger too."""

    def proxy_pids(self) -> list[int]:
        """Whose CPU time and memory is the target's."""
        ...

    def pinned_pids(self) -> list[int]:
        """Those of them on the proxy core."""
        ...

    def parts(self) -> dict[str, list[int]]:
        """What stands behind the target, by name."""
        ...

    def count_booked(self, expected: int) -> tuple[int, float] | None:
        """Exchanges in the ledger since the start and the seconds until they were.

        Waits until there are as many as expected, or no more come. None without a ledger.
        """
        ...


class Target(msgspec.Struct, frozen=True):
    """A name, a release and how to start it."""

    name: str
    version: str
    start: Callable[[Place], AbstractContextManager[Running]]


def post(url: str, headers: dict[str, str], body: bytes, timeout_s: float = 30.0) -> bytes:
    """Raises OSError, HTTP errors among them."""
    request = urllib.request.Request(
        url, data=body, headers={"Content-Type": "application/json", **headers}
    )
    # No proxy of the environment may come between: everything is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=timeout_s) as answer:
        content: bytes = answer.read()
    return content


def answers(url: str, headers: dict[str, str], model: str) -> bool:
    """Whether a chat completion comes back."""
    try:
        return b'"choices"' in post(url, headers, request_body(model, "json"), 10.0)
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except OSError:
        return False


def check_stream(url: str, headers: dict[str, str], model: str) -> None:
    """One stream, so that what is measured is what was asked. Raises ValueError, OSError."""
    content = post(url, headers, request_body(model, "burst"))
    events = content.count(b"data: ")
    if events < EVENTS - 1 or b'"total_tokens"' not in content or b"[DONE]" not in content:
        raise ValueError(f"a stream of {events} events ended {content[-200:]!r}")
