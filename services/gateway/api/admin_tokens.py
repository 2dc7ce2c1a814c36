"""`/api/admin-tokens`."""

from typing import Any

from litestar import Request, Response, delete, get, route
from litestar.enums import HttpMethod

from contracts.config.admin_tokens import AdminToken
from gateway.administration import admin_tokens
from gateway.administration.store import Store
from gateway.api.admin_body import read
from gateway.api.admin_problems import refusing
from gateway.api.guards import actor_of
from gateway.api.operation import Operation, promises

_PATH = "/api/admin-tokens"
_TOKEN = {
    "id": "01977f3e-0000-7000-8000-000000000001",
    "name": "ci",
    "scopes": ["read", "keys"],
    "createdAt": 1767225600,
    "updatedAt": 1767225600,
    "expiresAt": None,
}

_CREATE = Operation(
    summary="Make an admin token",
    description="`token` is in this answer and never again: only its hash is stored. `read` sees"
    " everything, `write` sees and changes everything, `keys` sees and changes keys, users and"
    " limits of tags. Only the admin password and tokens with `write` may make tokens.",
    scope="write",
    body=admin_tokens.NewAdminToken,
    answer=admin_tokens.AdminTokenWire,
    errors=(400,),
    example={"name": "ci", "scopes": ["read", "keys"]},
    answer_example={
        **_TOKEN,
        "token": "tat_" + "0123456789abcdef" * 4 + "39c6dd48",
    },
)
_LIST = Operation(
    summary="List admin tokens",
    description="Expired ones too, until they are deleted.",
    scope="read",
    answer=list[admin_tokens.AdminTokenWire],
    errors=(),
    answer_example=[_TOKEN],
)
_DELETE = Operation(
    summary="Delete an admin token",
    description="Whoever holds it is refused from then on.",
    scope="write",
    errors=(404,),
)


def handlers(store: Store) -> list[Any]:
    """The routes of this resource."""

    @route(
        _PATH,
        http_method=[HttpMethod.PUT, HttpMethod.POST],
        status_code=200,
        opt=promises(_CREATE),
    )
    async def create_token(request: Request[Any, Any, Any]) -> Response[Any]:
        new = await read(request, admin_tokens.NewAdminToken, _PATH)
        with refusing(_PATH, "admin token validation failed"):
            async with store.change(actor_of(request)) as change:
                token, text = await admin_tokens.create(new, change)
        return Response(
            admin_tokens.to_wire(token, text),
            media_type="application/json",
            headers={"cache-control": "no-store"},
        )

    @get(_PATH, opt=promises(_LIST))
    async def list_tokens() -> Response[Any]:
        async with store.read() as reading:
            found = await reading.find(AdminToken)
        return Response(
            [admin_tokens.to_wire(token) for token in found], media_type="application/json"
        )

    @delete(f"{_PATH}/{{id:str}}", status_code=200, opt=promises(_DELETE))
    async def delete_token(request: Request[Any, Any, Any]) -> Response[bytes]:
        with refusing(
            f"{_PATH}/:id",
            "admin token validation failed",
            not_found="admin token is not found",
        ):
            async with store.change(actor_of(request)) as change:
                await admin_tokens.delete(request.path_params["id"], change)
        return Response(b"", media_type="text/plain")

    return [create_token, list_tokens, delete_token]
