"""Whether the admin process lives, and whether the gateway can do its work."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal

import msgspec
from litestar import Response, get

from gateway.api.operation import Operation, promises

Check = Callable[[], Awaitable[str | None]]
"""What is missing, in a sentence; None when nothing is."""

_CHECK_TIMEOUT_S: Final = 5.0

_HEALTH: Final = Operation(
    summary="Whether the process lives", scope="read", errors=(), is_open=True, tag="service"
)


class Readiness(msgspec.Struct, frozen=True):
    """`missing` names each part that cannot do its work, and says why."""

    status: Literal["ready", "not ready"]
    missing: dict[str, str]


_READY: Final = Operation(
    summary="Whether the gateway can do its work",
    description="503 names each part that is missing: `postgres` when the configuration cannot be"
    " read, `workers` when a data worker has not loaded its snapshot of it.",
    scope="read",
    answer=Readiness,
    errors=(),
    answer_example={"status": "ready", "missing": {}},
    is_open=True,
    tag="service",
    answered_alike=(503,),
)


def handlers(checks: Mapping[str, Check]) -> list[Any]:
    """Both are open: they say nothing that a caller could use."""

    @get("/api/health", opt=promises(_HEALTH))
    async def health() -> Response[bytes]:
        return Response(b"", media_type="text/plain")

    @get("/api/ready", opt=promises(_READY))
    async def ready() -> Response[Readiness]:
        found = await asyncio.gather(*(_outcome(check) for check in checks.values()))
        missing = {name: text for name, text in zip(checks, found, strict=True) if text is not None}
        return Response(
            Readiness("not ready" if missing else "ready", missing),
            status_code=503 if missing else 200,
            media_type="application/json",
        )

    return [health, ready]


async def _outcome(check: Check) -> str | None:
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S):
            return await check()
    except TimeoutError:
        return "gave no answer in time"
