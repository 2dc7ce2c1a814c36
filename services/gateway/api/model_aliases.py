"""`/api/model-aliases`."""

from typing import Any, Final

from litestar import Request, Response, delete, get, patch, route
from litestar.enums import HttpMethod

from gateway.administration import model_aliases
from gateway.administration.model_aliases import (
    ModelAliasChange,
    ModelAliasWire,
    NewModelAlias,
    to_wire,
)
from gateway.administration.store import Store
from gateway.api.admin_body import read
from gateway.api.admin_problems import refusing
from gateway.api.guards import actor_of
from gateway.api.operation import Operation, promises

_PATH: Final = "/api/model-aliases"
_ONE: Final = f"{_PATH}/{{alias_id:str}}"
_INSTANCE_OF_ONE: Final = f"{_PATH}/:id"
_INVALID: Final = "model alias validation failed"
_NOT_FOUND: Final = "model alias is not found"

_EXAMPLE: Final = {"alias": "fast", "model": "gpt-4o-mini", "position": 1}
_ANSWER_EXAMPLE: Final = {
    "id": "019ab0c4-5d2e-7c1a-9f00-2b7a4f1d6e55",
    "createdAt": 1767225600,
    "updatedAt": 1767225600,
    "alias": "fast",
    "model": "gpt-4o-mini",
    "settingId": "",
    "position": 1,
}


def handlers(store: Store) -> list[Any]:
    """The routes of this resource."""

    @route(
        _PATH,
        http_method=[HttpMethod.POST, HttpMethod.PUT],
        status_code=200,
        opt=promises(
            Operation(
                summary="Create a model alias",
                description="`alias` is a name, or a pattern in which `*` stands for any text.",
                scope="write",
                body=NewModelAlias,
                answer=ModelAliasWire,
                example=_EXAMPLE,
                answer_example=_ANSWER_EXAMPLE,
            )
        ),
    )
    async def create_alias(request: Request[Any, Any, Any]) -> Response[Any]:
        new = await read(request, NewModelAlias, _PATH)
        with refusing(_PATH, _INVALID):
            async with store.change(actor_of(request)) as change:
                alias = await model_aliases.create(new, change)
        return Response(to_wire(alias), media_type="application/json")

    @get(
        _PATH,
        opt=promises(
            Operation(
                summary="List model aliases",
                description="In the order in which they are tried.",
                scope="read",
                answer=list[ModelAliasWire],
                errors=(),
                answer_example=[_ANSWER_EXAMPLE],
            )
        ),
    )
    async def list_aliases() -> Response[Any]:
        async with store.read() as reading:
            found = await model_aliases.find(reading)
        return Response([to_wire(alias) for alias in found], media_type="application/json")

    @get(
        _ONE,
        opt=promises(
            Operation(
                summary="Get a model alias",
                scope="read",
                answer=ModelAliasWire,
                errors=(404,),
                answer_example=_ANSWER_EXAMPLE,
            )
        ),
    )
    async def get_alias(alias_id: str) -> Response[Any]:
        with refusing(_INSTANCE_OF_ONE, _INVALID, not_found=_NOT_FOUND):
            async with store.read() as reading:
                alias = await model_aliases.get(alias_id, reading)
        return Response(to_wire(alias), media_type="application/json")

    @patch(
        _ONE,
        opt=promises(
            Operation(
                summary="Change a model alias",
                scope="write",
                body=ModelAliasChange,
                answer=ModelAliasWire,
                errors=(400, 404),
                example={"position": 2},
                answer_example=_ANSWER_EXAMPLE | {"position": 2},
            )
        ),
    )
    async def patch_alias(alias_id: str, request: Request[Any, Any, Any]) -> Response[Any]:
        sent = await read(request, ModelAliasChange, _INSTANCE_OF_ONE)
        with refusing(_INSTANCE_OF_ONE, _INVALID, not_found=_NOT_FOUND):
            async with store.change(actor_of(request)) as change:
                alias = await model_aliases.patch(alias_id, sent, change)
        return Response(to_wire(alias), media_type="application/json")

    @delete(
        _ONE,
        status_code=200,
        opt=promises(Operation(summary="Delete a model alias", scope="write", errors=(404,))),
    )
    async def delete_alias(alias_id: str, request: Request[Any, Any, Any]) -> Response[bytes]:
        with refusing(_INSTANCE_OF_ONE, _INVALID, not_found=_NOT_FOUND):
            async with store.change(actor_of(request)) as change:
                await model_aliases.delete(alias_id, change)
        return Response(b"", media_type="text/plain")

    return [create_alias, list_aliases, get_alias, patch_alias, delete_alias]
