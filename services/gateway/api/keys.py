"""`/api/key-management/keys`."""

from typing import Any, Final

from litestar import Request, Response, delete, get, patch, post, route
from litestar.enums import HttpMethod

from gateway.administration import keys
from gateway.administration.keys_wire import (
    KeyChange,
    KeyFilter,
    KeysPage,
    KeysQuery,
    KeyWire,
    NewKey,
    to_wire,
)
from gateway.administration.store import Store
from gateway.api.admin_body import read
from gateway.api.admin_problems import refusing
from gateway.api.guards import actor_of
from gateway.api.operation import Operation, QueryParameter, promises

_PATH: Final = "/api/key-management/keys"
_ONE: Final = f"{_PATH}/:id"

_EXAMPLE: Final = {
    "name": "Ada's key",
    "key": "sk-ada-7d2f90a1",
    "settingIds": ["019ab0c4-0b1c-7e55-8a00-5d1f3c9b2e77"],
    "tags": ["team-a"],
    "allowedModels": ["gpt-4o-mini"],
    "rateLimitOverTime": 60,
    "rateLimitUnit": "m",
    "costLimits": [{"usd": 5, "unit": "d", "timezone": "Europe/Berlin"}],
}
_ANSWER_EXAMPLE: Final = {
    "name": "Ada's key",
    "createdAt": 1767225600,
    "updatedAt": 1767225600,
    "tags": ["team-a"],
    "keyId": "019ab0c4-5d2e-7c1a-9f00-2b7a4f1d6e55",
    "revoked": False,
    "key": "0b0bf7ac9fbaab3ac2a9d1ac2bdc3d1b8b8f5d7b9dcbb0a1c4c2c9b3d3b0a0e1",
    "revokedReason": "",
    "costLimitInUsd": 0,
    "costLimitInUsdOverTime": 0,
    "costLimitInUsdUnit": "",
    "rateLimitOverTime": 60,
    "rateLimitUnit": "m",
    "ttl": "",
    "settingId": "",
    "allowedPaths": None,
    "settingIds": ["019ab0c4-0b1c-7e55-8a00-5d1f3c9b2e77"],
    "shouldLogRequest": False,
    "shouldLogResponse": False,
    "rotationEnabled": False,
    "policyId": "",
    "isKeyNotHashed": False,
    "allowedModels": ["gpt-4o-mini"],
    "costLimits": [{"usd": 5, "unit": "d", "timezone": "Europe/Berlin"}],
}


def handlers(store: Store) -> list[Any]:
    """The routes of this resource."""

    @route(
        _PATH,
        http_method=[HttpMethod.PUT, HttpMethod.POST],
        status_code=200,
        opt=promises(
            Operation(
                summary="Create a key",
                description=(
                    "Without `key` one is generated; this answer is the only one that shows it."
                ),
                scope="keys",
                body=NewKey,
                answer=KeyWire,
                example=_EXAMPLE,
                answer_example=_ANSWER_EXAMPLE,
            )
        ),
    )
    async def create_key(request: Request[Any, Any, Any]) -> Response[Any]:
        new = await read(request, NewKey, _PATH)
        with refusing(_PATH, "key validation failed"):
            async with store.change(actor_of(request)) as change:
                key, generated = await keys.create(new, change)
        return Response(to_wire(key, generated), media_type="application/json")

    @patch(
        f"{_PATH}/{{key_id:str}}",
        opt=promises(
            Operation(
                summary="Change a key",
                description="What is absent stays. In force in every worker within a second.",
                scope="keys",
                body=KeyChange,
                answer=KeyWire,
                errors=(400, 404),
                example={"revoked": True, "revokedReason": "left the team"},
                answer_example=_ANSWER_EXAMPLE
                | {"revoked": True, "revokedReason": "left the team"},
            )
        ),
    )
    async def patch_key(key_id: str, request: Request[Any, Any, Any]) -> Response[Any]:
        sent = await read(request, KeyChange, _ONE)
        with refusing(_ONE, "key validation failed", not_found="update key failed"):
            async with store.change(actor_of(request)) as change:
                key = await keys.patch(key_id, sent, change)
        return Response(to_wire(key), media_type="application/json")

    @delete(
        f"{_PATH}/{{key_id:str}}",
        status_code=200,
        opt=promises(
            Operation(
                summary="Delete a key",
                description="200 also when there is none.",
                scope="keys",
                errors=(),
            )
        ),
    )
    async def delete_key(key_id: str, request: Request[Any, Any, Any]) -> Response[Any]:
        async with store.change(actor_of(request)) as change:
            await keys.delete(key_id, change)
        return Response(b"", media_type="text/plain")

    @get(
        _PATH,
        opt=promises(
            Operation(
                summary="List keys",
                description="At least one of the filters; all given must hold. Oldest first.",
                scope="read",
                answer=list[KeyWire],
                query=(
                    QueryParameter("tag", "keys with this tag"),
                    QueryParameter("tags", "keys with all of these tags", repeats=True),
                    QueryParameter("provider", "keys with a setting of this provider"),
                    QueryParameter("keyIds", "keys with one of these ids", repeats=True),
                ),
                answer_example=[_ANSWER_EXAMPLE],
            )
        ),
    )
    async def list_keys(request: Request[Any, Any, Any]) -> Response[Any]:
        asked = request.query_params
        tags = [tag for name in ("tag", "tags") for tag in asked.getall(name, []) if tag]
        wanted = KeyFilter(
            tags=tuple(tags),
            key_ids=tuple(asked.getall("keyIds", [])),
            provider=asked.get("provider", ""),
        )
        with refusing(_PATH, "filters are not found"):
            async with store.read() as reading:
                found = await keys.find(wanted, reading)
        return Response([to_wire(key) for key in found], media_type="application/json")

    @post(
        "/api/v2/key-management/keys",
        status_code=200,
        opt=promises(
            Operation(
                summary="Find keys, a page at a time",
                description="`{}` finds all, newest first.",
                scope="read",
                body=KeysQuery,
                answer=KeysPage,
                example={"name": "ada", "limit": 10, "returnCount": True},
                answer_example={"keys": [_ANSWER_EXAMPLE], "count": 1},
            )
        ),
    )
    async def find_keys(request: Request[Any, Any, Any]) -> Response[Any]:
        query = await read(request, KeysQuery, _PATH)
        with refusing(_PATH, "get keys request validation failed"):
            async with store.read() as reading:
                found, count = await keys.find_page(query, reading)
        page = KeysPage(tuple(to_wire(key) for key in found), count)
        return Response(page, media_type="application/json")

    return [create_key, patch_key, delete_key, list_keys, find_keys]
