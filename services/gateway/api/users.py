"""`/api/users`."""

import re
from typing import Any, Final

from litestar import Request, Response, delete, get, patch, route
from litestar.enums import HttpMethod

from gateway.administration import users
from gateway.administration.store import Store
from gateway.administration.users_wire import (
    NewUser,
    UserChange,
    UserFilter,
    UserWire,
    to_wire,
)
from gateway.api.admin_body import read
from gateway.api.admin_problems import AdminProblem, refusing
from gateway.api.guards import actor_of
from gateway.api.operation import Operation, QueryParameter, promises

_PATH: Final = "/api/users"
_ONE: Final = f"{_PATH}/:id"
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}").fullmatch

_EXAMPLE: Final = {
    "name": "Ada",
    "userId": "ada",
    "tags": ["team-a"],
    "allowedModels": ["gpt-4o-mini"],
    "ttl": "720h",
}
_ANSWER_EXAMPLE: Final = {
    "id": "019ab0c4-5d2e-7c1a-9f00-2b7a4f1d6e55",
    "name": "Ada",
    "createdAt": 1767225600,
    "updatedAt": 1767225600,
    "tags": ["team-a"],
    "keyIds": None,
    "revoked": False,
    "revokedReason": "",
    "costLimitInUsd": 0,
    "costLimitInUsdOverTime": 0,
    "costLimitInUsdUnit": "",
    "rateLimitOverTime": 0,
    "rateLimitUnit": "",
    "ttl": "720h",
    "allowedPaths": None,
    "allowedModels": ["gpt-4o-mini"],
    "userId": "ada",
}


def handlers(store: Store) -> list[Any]:
    """The routes of this resource."""

    @route(
        _PATH,
        http_method=[HttpMethod.POST, HttpMethod.PUT],
        status_code=200,
        opt=promises(
            Operation(
                summary="Create a user",
                scope="keys",
                body=NewUser,
                answer=UserWire,
                example=_EXAMPLE,
                answer_example=_ANSWER_EXAMPLE,
            )
        ),
    )
    async def create_user(request: Request[Any, Any, Any]) -> Response[Any]:
        new = await read(request, NewUser, _PATH)
        with refusing(_PATH, "create user validation failed"):
            async with store.change(actor_of(request)) as change:
                user = await users.create(new, change)
        return Response(to_wire(user), media_type="application/json")

    @patch(
        f"{_PATH}/{{user_id:str}}",
        opt=promises(
            Operation(
                summary="Change a user",
                scope="keys",
                body=UserChange,
                answer=UserWire,
                errors=(400, 404),
                example={"revoked": True, "revokedReason": "left the team"},
                answer_example=_ANSWER_EXAMPLE
                | {"revoked": True, "revokedReason": "left the team"},
            )
        ),
    )
    async def patch_user(user_id: str, request: Request[Any, Any, Any]) -> Response[Any]:
        sent = await read(request, UserChange, _ONE)
        with _refusing_change(_ONE):
            async with store.change(actor_of(request)) as change:
                user = await users.patch(user_id, sent, change)
        return Response(to_wire(user), media_type="application/json")

    @patch(
        _PATH,
        opt=promises(
            Operation(
                summary="Change every user with a user id and tags",
                description="Answers with the oldest of them. A ttl is not changed this way.",
                scope="keys",
                body=UserChange,
                answer=UserWire,
                query=(
                    QueryParameter("userId", "the user id", is_required=True),
                    QueryParameter("tags", "all of these tags", repeats=True),
                ),
                errors=(400, 404),
                example={"allowedModels": []},
                answer_example=_ANSWER_EXAMPLE | {"allowedModels": []},
            )
        ),
    )
    async def patch_users(request: Request[Any, Any, Any]) -> Response[Any]:
        user_id = request.query_params.get("userId", "")
        if not user_id:
            raise AdminProblem(
                400, "missing-user-id", "missing user id", "userId is required", _PATH
            )
        tags = tuple(request.query_params.getall("tags", []))
        sent = await read(request, UserChange, _PATH)
        with _refusing_change(_PATH):
            async with store.change(actor_of(request)) as change:
                user = await users.patch_matching(user_id, tags, sent, change)
        return Response(to_wire(user), media_type="application/json")

    @get(
        _PATH,
        opt=promises(
            Operation(
                summary="List users",
                description="At least one of tags, userIds and keyIds. Newest first.",
                scope="read",
                answer=list[UserWire],
                query=(
                    QueryParameter("tags", "users with all of these tags", repeats=True),
                    QueryParameter("userIds", "users with one of these user ids", repeats=True),
                    QueryParameter("keyIds", "users limited to one of these keys", repeats=True),
                    QueryParameter("limit", "at most so many; 0 is no limit", kind="integer"),
                    QueryParameter("offset", "skip so many, with a limit", kind="integer"),
                ),
                answer_example=[_ANSWER_EXAMPLE],
            )
        ),
    )
    async def list_users(request: Request[Any, Any, Any]) -> Response[Any]:
        asked = request.query_params
        wanted = UserFilter(
            tags=tuple(asked.getall("tags", [])),
            user_ids=tuple(asked.getall("userIds", [])),
            key_ids=tuple(asked.getall("keyIds", [])),
            offset=_integer("offset", asked.get("offset", "")),
            limit=_integer("limit", asked.get("limit", "")),
        )
        with refusing(_PATH, "filters are not found"):
            async with store.read() as reading:
                found = await users.find(wanted, reading)
        return Response([to_wire(user) for user in found], media_type="application/json")

    @get(
        f"{_PATH}/{{user_id:str}}",
        opt=promises(
            Operation(
                summary="Show a user",
                scope="read",
                answer=UserWire,
                errors=(404,),
                answer_example=_ANSWER_EXAMPLE,
            )
        ),
    )
    async def get_user(user_id: str) -> Response[Any]:
        with refusing(_ONE, "", not_found="user is not found"):
            async with store.read() as reading:
                user = await users.get(user_id, reading)
        return Response(to_wire(user), media_type="application/json")

    @delete(
        f"{_PATH}/{{user_id:str}}",
        status_code=200,
        opt=promises(
            Operation(
                summary="Delete a user",
                description="200 also when there is none.",
                scope="keys",
                errors=(),
            )
        ),
    )
    async def delete_user(user_id: str, request: Request[Any, Any, Any]) -> Response[Any]:
        async with store.change(actor_of(request)) as change:
            await users.delete(user_id, change)
        return Response(b"", media_type="text/plain")

    return [create_user, patch_user, patch_users, list_users, get_user, delete_user]


def _refusing_change(instance: str) -> Any:
    return refusing(
        instance,
        "update user validation failed",
        not_found="update user error",
        not_found_kind=users.KIND,
    )


def _integer(name: str, text: str) -> int:
    """Raises AdminProblem (400)."""
    if not text:
        return 0
    if not _INTEGER(text):
        raise AdminProblem(
            400, "bad-filters", f"bad {name} query param", f"{name} is not an integer", _PATH
        )
    return int(text)
