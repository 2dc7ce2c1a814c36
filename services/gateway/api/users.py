"""`/api/users`."""

import re
from typing import Any, Final

from litestar import Response, patch

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
from gateway.api.admin_problems import AdminProblem
from gateway.api.guards import actor_of
from gateway.api.operation import Operation, QueryParameter, promises
from gateway.api.resource import Asked, Resource, Says, Words

_PATH: Final = "/api/users"
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}").fullmatch
_CHANGING: Final = Words("update user validation failed", "update user error", users.KIND)

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
    words = Words("create user validation failed", "user is not found")
    resource = Resource(
        store, _PATH, "user_id", UserWire, to_wire, _ANSWER_EXAMPLE, words, scope="keys"
    )
    left = {"revoked": True, "revokedReason": "left the team"}
    return [
        resource.creates(NewUser, users.create, Says("Create a user", example=_EXAMPLE)),
        resource.changes(
            UserChange,
            users.patch,
            Says("Change a user", "", left, _ANSWER_EXAMPLE | left, words=_CHANGING),
        ),
        _patch_matching(store),
        resource.lists(
            lambda asked, reading: users.find(_filter(asked), reading),
            Says(
                "List users",
                "At least one of tags, userIds and keyIds. Newest first.",
                query=(
                    QueryParameter("tags", "users with all of these tags", repeats=True),
                    QueryParameter("userIds", "users with one of these user ids", repeats=True),
                    QueryParameter("keyIds", "users limited to one of these keys", repeats=True),
                    QueryParameter("limit", "at most so many; 0 is no limit", kind="integer"),
                    QueryParameter("offset", "skip so many, with a limit", kind="integer"),
                ),
                words=Words("filters are not found"),
            ),
        ),
        resource.shows(users.get, Says("Show a user")),
        resource.deletes(
            users.delete, Says("Delete a user", "200 also when there is none.", errors=())
        ),
    ]


def _patch_matching(store: Store) -> Any:
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
    async def patch_users(request: Asked) -> Response[Any]:
        user_id = request.query_params.get("userId", "")
        if not user_id:
            raise AdminProblem(
                400, "missing-user-id", "missing user id", "userId is required", _PATH
            )
        tags = tuple(request.query_params.getall("tags", []))
        sent = await read(request, UserChange, _PATH)
        with _CHANGING.refusing(_PATH):
            async with store.change(actor_of(request)) as change:
                user = await users.patch_matching(user_id, tags, sent, change)
        return Response(to_wire(user), media_type="application/json")

    return patch_users


def _filter(asked: Asked) -> UserFilter:
    """Raises AdminProblem (400)."""
    query = asked.query_params
    return UserFilter(
        tags=tuple(query.getall("tags", [])),
        user_ids=tuple(query.getall("userIds", [])),
        key_ids=tuple(query.getall("keyIds", [])),
        offset=_integer("offset", query.get("offset", "")),
        limit=_integer("limit", query.get("limit", "")),
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
