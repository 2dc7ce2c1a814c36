"""`/api/key-management/keys`."""

from typing import Any

from litestar import Request, Response, put

from gateway.administration import keys
from gateway.administration.invalid import Conflict, Invalid
from gateway.api.admin_body import read
from gateway.api.admin_problems import AdminProblem

_PATH = "/api/key-management/keys"


def handlers(store: keys.KeyStore) -> list[Any]:
    """The routes of this resource."""

    @put(_PATH, status_code=200)
    async def create_key(request: Request[Any, Any, Any]) -> Response[Any]:
        new = await read(request, keys.NewKey, _PATH)
        try:
            key = await keys.create(new, store)
        except (Invalid, Conflict) as error:
            raise AdminProblem(
                400, "validation", "key validation failed", str(error), _PATH
            ) from None
        return Response(keys.to_wire(key), media_type="application/json")

    return [create_key]
