"""`GET /stats`: how the data plane does, summed over its workers."""

import asyncio
import hmac
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.identity.head import sort_headers
from gateway.identity.query import credential_in
from gateway.ports import HeaderPairs
from gateway.values import Refusal
from runtime.settings import Secret

STATE_FILES: Final = "gateway-worker-*.state.json"


class _State(msgspec.Struct):
    """What a worker's state file says, as far as it is shown."""

    is_ready: bool
    started_at_ms: int
    counts: dict[str, int]
    by_model: dict[str, tuple[int, int]]
    by_provider: dict[str, tuple[int, int]]


_decode = msgspec.json.Decoder(_State).decode


class Stats:
    """Answers who shows a key in force, or the admin password."""

    def __init__(
        self, run_dir: Path, port: int, knows: Callable[[str], bool], admin_pass: Secret
    ) -> None:
        self._run_dir = run_dir
        self._port = port
        self._knows = knows
        self._admin_pass = admin_pass.reveal().encode()

    async def answer(self, headers: HeaderPairs, query: bytes) -> bytes:
        """JSON; figures are at most a second old. Raises Refusal (401)."""
        credential = sort_headers(headers, drops_user_agent=False).credential
        credential = credential or credential_in(query)
        if credential is None:
            raise Refusal(
                401, "authentication_error", "missing_api_key", "api key not found in header"
            )
        if not self._is_admin(credential) and not self._knows(credential):
            raise Refusal(401, "authentication_error", "invalid_api_key", "the key is not known")
        states = await asyncio.to_thread(self._states)
        return msgspec.json.encode(_shown(states, self._port))

    def _is_admin(self, credential: str) -> bool:
        given = credential.encode("latin-1", "replace")
        return bool(self._admin_pass) and hmac.compare_digest(given, self._admin_pass)

    def _states(self) -> list[_State]:
        states = []
        for path in sorted(self._run_dir.glob(STATE_FILES)):
            try:
                states.append(_decode(path.read_bytes()))
            except (OSError, msgspec.DecodeError):
                continue  # One that is just starting or stopping.
        return states


def _shown(states: list[_State], port: int) -> dict[str, Any]:
    def total(name: str) -> int:
        return sum(state.counts.get(name, 0) for state in states)

    requests, succeeded, in_flight = total("requests"), total("succeeded"), total("in_flight")
    ended = max(requests - in_flight, 0)
    started_at_ms = min((state.started_at_ms for state in states), default=None)
    is_running = any(state.is_ready for state in states)
    return {
        "status": "running" if is_running else "stopped",
        "port": port,
        "workers": len(states),
        "uptime": 0 if started_at_ms is None else max(int(time.time() * 1000) - started_at_ms, 0),
        "totalRequests": requests,
        "successRequests": succeeded,
        "failedRequests": max(ended - succeeded, 0),
        "successRate": None if not ended else round(succeeded / ended, 4),
        "activeConnections": in_flight,
        "openStreams": total("streams_open"),
        "modelUsage": _usage(state.by_model for state in states),
        "providerUsage": _usage(state.by_provider for state in states),
    }


def _usage(tallies: Any) -> dict[str, dict[str, int]]:
    """Requests and failures by name, the most used first."""
    summed: dict[str, list[int]] = {}
    for by_name in tallies:
        for name, (requests, failures) in by_name.items():
            both = summed.setdefault(name, [0, 0])
            both[0] += requests
            both[1] += failures
    ordered = sorted(summed.items(), key=lambda item: -item[1][0])
    return {name: {"requests": both[0], "failures": both[1]} for name, both in ordered}
