"""`/api/routes`."""

from typing import Any, Final

from litestar import Request, Response, delete, get, patch, route
from litestar.enums import HttpMethod

from contracts.config.routes import Route
from gateway.administration import routes
from gateway.administration.routes_wire import NewRoute, RouteChange, RouteWire, to_wire
from gateway.administration.store import Store
from gateway.api.admin_body import read
from gateway.api.admin_problems import refusing
from gateway.api.guards import actor_of
from gateway.api.operation import Operation, promises
from gateway.values import Provider

_PATH: Final = "/api/routes"
_ONE: Final = f"{_PATH}/{{route_id:str}}"
_INSTANCE_OF_ONE: Final = f"{_PATH}/:id"
_INVALID: Final = "custom provider validation failed"
"""The original's title, mistaken but matched upon."""
_NOT_FOUND: Final = "route not found error"
_NOT_FOUND_KIND: Final = "route-not-found"

_EXAMPLE: Final = {
    "name": "chat with a second string",
    "path": "/production/chat",
    "keyIds": ["019ab0c4-5d2e-7c1a-9f00-2b7a4f1d6e01"],
    "steps": [
        {"provider": "openai", "model": "gpt-4o", "retries": 1, "timeout": "20s"},
        {"provider": "openai", "model": "gpt-4o-mini", "requestParams": {"temperature": 0.2}},
    ],
    "cacheConfig": {"enabled": True, "ttl": "1h"},
    "retryStrategy": "exponential",
}
_ANSWER_EXAMPLE: Final = {
    "id": "019ab0c4-5d2e-7c1a-9f00-2b7a4f1d6e55",
    "retryStrategy": "exponential",
    "requestFormat": "",
    "createdAt": 1767225600,
    "updatedAt": 1767225600,
    "name": "chat with a second string",
    "path": "/production/chat",
    "keyIds": ["019ab0c4-5d2e-7c1a-9f00-2b7a4f1d6e01"],
    "steps": [
        {
            "retries": 1,
            "retryInterval": "1s",
            "provider": "openai",
            "requestParams": None,
            "params": None,
            "model": "gpt-4o",
            "timeout": "20s",
        },
        {
            "retries": 0,
            "retryInterval": "1s",
            "provider": "openai",
            "requestParams": {"temperature": 0.2},
            "params": None,
            "model": "gpt-4o-mini",
            "timeout": "5m",
        },
    ],
    "cacheConfig": {"enabled": True, "ttl": "1h"},
}


def handlers(store: Store, providers: dict[str, Provider]) -> list[Any]:
    """The routes of this resource."""

    @route(
        _PATH,
        http_method=[HttpMethod.POST, HttpMethod.PUT],
        status_code=200,
        opt=promises(
            Operation(
                summary="Create a route",
                description="Steps are tried in turn. failoverOn says which answers of a step go"
                " on to the next: retryable, those that another provider may heal, or any.",
                scope="write",
                body=NewRoute,
                answer=RouteWire,
                example=_EXAMPLE,
                answer_example=_ANSWER_EXAMPLE,
            )
        ),
    )
    async def create_route(request: Request[Any, Any, Any]) -> Response[Any]:
        new = await read(request, NewRoute, _PATH)
        with refusing(_PATH, _INVALID):
            async with store.change(actor_of(request)) as change:
                created = await routes.create(new, change, providers)
        return Response(to_wire(created), media_type="application/json")

    @get(
        _PATH,
        opt=promises(
            Operation(
                summary="List routes",
                scope="read",
                answer=list[RouteWire],
                errors=(),
                answer_example=[_ANSWER_EXAMPLE],
            )
        ),
    )
    async def list_routes() -> Response[Any]:
        async with store.read() as reading:
            found = await reading.find(Route)
        return Response([to_wire(one) for one in found], media_type="application/json")

    @get(
        _ONE,
        opt=promises(
            Operation(
                summary="Get a route",
                scope="read",
                answer=RouteWire,
                errors=(404,),
                answer_example=_ANSWER_EXAMPLE,
            )
        ),
    )
    async def get_route(route_id: str) -> Response[Any]:
        with refusing(
            _INSTANCE_OF_ONE, _INVALID, not_found=_NOT_FOUND, not_found_kind=_NOT_FOUND_KIND
        ):
            async with store.read() as reading:
                found = await routes.get(route_id, reading)
        return Response(to_wire(found), media_type="application/json")

    @patch(
        _ONE,
        opt=promises(
            Operation(
                summary="Change a route",
                description="What is given replaces; the whole is checked as a new route is.",
                scope="write",
                body=RouteChange,
                answer=RouteWire,
                errors=(400, 404),
                example={"name": "chat", "cacheConfig": {"enabled": False}},
                answer_example=_ANSWER_EXAMPLE
                | {"name": "chat", "cacheConfig": {"enabled": False, "ttl": ""}},
            )
        ),
    )
    async def patch_route(route_id: str, request: Request[Any, Any, Any]) -> Response[Any]:
        sent = await read(request, RouteChange, _INSTANCE_OF_ONE)
        with refusing(
            _INSTANCE_OF_ONE, _INVALID, not_found=_NOT_FOUND, not_found_kind=_NOT_FOUND_KIND
        ):
            async with store.change(actor_of(request)) as change:
                changed = await routes.patch(route_id, sent, change, providers)
        return Response(to_wire(changed), media_type="application/json")

    @delete(
        _ONE,
        status_code=200,
        opt=promises(
            Operation(
                summary="Delete a route",
                description="Also says 200 when there is none.",
                scope="write",
                errors=(),
            )
        ),
    )
    async def delete_route(route_id: str, request: Request[Any, Any, Any]) -> Response[bytes]:
        async with store.change(actor_of(request)) as change:
            await change.delete(Route, route_id)
        return Response(b"", media_type="text/plain")

    return [create_route, list_routes, get_route, patch_route, delete_route]
