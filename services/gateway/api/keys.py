"""`/api/key-management/keys`."""

from typing import Any

from litestar import Request, Response, put

from gateway.administration import keys
from gateway.administration.store import Store
from gateway.api.admin_body import read
from gateway.api.admin_problems import refusing
from gateway.api.guards import actor_of

_PATH = "/api/key-management/keys"


def handlers(store: Store) -> list[Any]:
    """The routes of this resource."""

    @put(_PATH, status_code=200)
    async def create_key(request: Request[Any, Any, Any]) -> Response[Any]:
        new = await read(request, keys.NewKey, _PATH)
        with refusing(_PATH, "key validation failed"):
            async with store.change(actor_of(request)) as change:
                key = await keys.create(new, change)
        return Response(keys.to_wire(key), media_type="application/json")

    return [create_key]
