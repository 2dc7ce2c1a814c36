"""`/api/policies`."""

from typing import Any, Final

from litestar import Request, Response, delete, get, patch, route
from litestar.enums import HttpMethod

from gateway.administration import policies
from gateway.administration.policies_wire import NewPolicy, PolicyWire, to_wire
from gateway.administration.store import Store
from gateway.api.admin_body import read
from gateway.api.admin_problems import refusing
from gateway.api.force import FORCE, is_forced
from gateway.api.guards import actor_of
from gateway.api.operation import Operation, QueryParameter, promises

_PATH: Final = "/api/policies"
_ONE: Final = f"{_PATH}/{{policy_id:str}}"
_INSTANCE_OF_ONE: Final = f"{_PATH}/:id"
_CREATING: Final = "policy creation failed"
_UPDATING: Final = "update a policy failed"
_NOT_FOUND: Final = "policy is not found"

_EXAMPLE: Final = {
    "name": "no secrets",
    "tags": ["org-1"],
    "config": {"rules": {"email": "allow_but_redact", "ssn": "block"}},
    "regexConfig": {"rules": [{"definition": "AKIA[0-9A-Z]{16}", "action": "block"}]},
    "customConfig": {"rules": [{"definition": "names of customers", "action": "allow_but_warn"}]},
}
_ANSWER_EXAMPLE: Final = {
    "id": "019ab0c4-5d2e-7c1a-9f00-2b7a4f1d6e55",
    "createdAt": 1767225600,
    "updatedAt": 1767225600,
    **_EXAMPLE,
}


def handlers(store: Store) -> list[Any]:
    """The routes of this resource."""

    @route(
        _PATH,
        http_method=[HttpMethod.POST, HttpMethod.PUT],
        status_code=200,
        opt=promises(
            Operation(
                summary="Create a policy",
                description="Regular expressions are written in RE2's syntax.",
                scope="write",
                body=NewPolicy,
                answer=PolicyWire,
                example=_EXAMPLE,
                answer_example=_ANSWER_EXAMPLE,
            )
        ),
    )
    async def create_policy(request: Request[Any, Any, Any]) -> Response[Any]:
        new = await read(request, NewPolicy, _PATH)
        with refusing(_PATH, _CREATING):
            async with store.change(actor_of(request)) as change:
                policy = await policies.create(new, change)
        return Response(to_wire(policy), media_type="application/json")

    @get(
        _PATH,
        opt=promises(
            Operation(
                summary="Find policies by tags",
                scope="read",
                answer=list[PolicyWire],
                query=(
                    QueryParameter(
                        "tags",
                        "all of these tags",
                        repeats=True,
                        is_required=True,
                        example="org-1",
                    ),
                ),
                answer_example=[_ANSWER_EXAMPLE],
            )
        ),
    )
    async def find_policies(request: Request[Any, Any, Any]) -> Response[Any]:
        tags = request.query_params.getall("tags", [])
        with refusing(_PATH, "get policies by tags failed"):
            async with store.read() as reading:
                found = await policies.find(tags, reading)
        return Response([to_wire(one) for one in found], media_type="application/json")

    @get(
        _ONE,
        opt=promises(
            Operation(
                summary="Get a policy",
                scope="read",
                answer=PolicyWire,
                errors=(404,),
                answer_example=_ANSWER_EXAMPLE,
            )
        ),
    )
    async def get_policy(policy_id: str) -> Response[Any]:
        with refusing(_INSTANCE_OF_ONE, _NOT_FOUND, not_found=_NOT_FOUND):
            async with store.read() as reading:
                policy = await policies.get(policy_id, reading)
        return Response(to_wire(policy), media_type="application/json")

    @patch(
        _ONE,
        opt=promises(
            Operation(
                summary="Change a policy",
                description="What is absent stays; a configuration is replaced whole.",
                scope="write",
                body=NewPolicy,
                answer=PolicyWire,
                errors=(400, 404),
                example={"name": "fewer secrets"},
                answer_example=_ANSWER_EXAMPLE | {"name": "fewer secrets"},
            )
        ),
    )
    async def patch_policy(policy_id: str, request: Request[Any, Any, Any]) -> Response[Any]:
        sent = await read(request, NewPolicy, _PATH)
        with refusing(_PATH, _UPDATING, not_found=_UPDATING, not_found_kind="policie/updates"):
            async with store.change(actor_of(request)) as change:
                policy = await policies.patch(policy_id, sent, change)
        return Response(to_wire(policy), media_type="application/json")

    @delete(
        _ONE,
        status_code=200,
        opt=promises(
            Operation(
                summary="Delete a policy",
                description="Refused while keys use it; forced, they have no policy then.",
                scope="write",
                query=(FORCE,),
                errors=(400, 404),
            )
        ),
    )
    async def delete_policy(policy_id: str, request: Request[Any, Any, Any]) -> Response[bytes]:
        with refusing(_INSTANCE_OF_ONE, "policy deletion failed", not_found=_NOT_FOUND):
            async with store.change(actor_of(request)) as change:
                await policies.delete(policy_id, is_forced(request), change)
        return Response(b"", media_type="text/plain")

    return [create_policy, find_policies, get_policy, patch_policy, delete_policy]
