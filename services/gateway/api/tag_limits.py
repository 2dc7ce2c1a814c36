"""`/api/tags/{tag}/limits`."""

from typing import Any, Final

from litestar import Request, Response, delete, get, put

from gateway.administration import tag_limits
from gateway.administration.store import Store
from gateway.administration.tag_limits import INVALID, NewTagLimits, TagLimitsWire, to_wire
from gateway.api.admin_body import read
from gateway.api.admin_problems import refusing
from gateway.api.guards import actor_of
from gateway.api.operation import Operation, promises
from gateway.api.tag_paths import tag_of

_PATH: Final = "/api/tags/{tag:str}/limits"
_INSTANCE: Final = "/api/tags/:tag/limits"

_EXAMPLE: Final = {
    "costLimits": [{"usd": 100, "unit": "mo"}],
    "tokenLimits": [{"tokens": 1000000, "unit": "d"}],
}
_ANSWER_EXAMPLE: Final = _EXAMPLE | {
    "tag": "team-a",
    "createdAt": 1767225600,
    "updatedAt": 1767225600,
}


def handlers(store: Store) -> list[Any]:
    """The routes of this resource."""

    @put(
        _PATH,
        status_code=200,
        opt=promises(
            Operation(
                summary="Set the limits of a tag",
                description="They replace what was set, and are shared by every key with the tag.",
                scope="keys",
                body=NewTagLimits,
                answer=TagLimitsWire,
                example=_EXAMPLE,
                answer_example=_ANSWER_EXAMPLE,
            )
        ),
    )
    async def put_limits(request: Request[Any, Any, Any]) -> Response[Any]:
        new = await read(request, NewTagLimits, _INSTANCE)
        with refusing(_INSTANCE, INVALID):
            async with store.change(actor_of(request)) as change:
                limits = await tag_limits.put(tag_of(request), new, change)
        return Response(to_wire(limits), media_type="application/json")

    @get(
        _PATH,
        opt=promises(
            Operation(
                summary="Show the limits of a tag",
                scope="read",
                answer=TagLimitsWire,
                errors=(404,),
                answer_example=_ANSWER_EXAMPLE,
            )
        ),
    )
    async def get_limits(request: Request[Any, Any, Any]) -> Response[Any]:
        with refusing(_INSTANCE, INVALID, not_found="tag limits are not found"):
            async with store.read() as reading:
                limits = await tag_limits.get(tag_of(request), reading)
        return Response(to_wire(limits), media_type="application/json")

    @delete(
        _PATH,
        status_code=200,
        opt=promises(
            Operation(
                summary="Take all limits of a tag away",
                description="200 also when there are none.",
                scope="keys",
                errors=(),
            )
        ),
    )
    async def delete_limits(request: Request[Any, Any, Any]) -> Response[Any]:
        async with store.change(actor_of(request)) as change:
            await tag_limits.delete(tag_of(request), change)
        return Response(b"", media_type="text/plain")

    return [put_limits, get_limits, delete_limits]
