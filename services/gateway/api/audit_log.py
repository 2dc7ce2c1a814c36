"""`/api/audit-log`."""

from typing import Any

from litestar import Request, Response, get

from contracts.config.kinds import STRUCT_BY_KIND
from gateway.administration import audit
from gateway.administration.store import Store
from gateway.api.admin_problems import refusing
from gateway.api.operation import Operation, QueryParameter, promises

_PATH = "/api/audit-log"

_OPERATION = Operation(
    summary="Read who changed what",
    description="Every write of the admin API, newest first: who, when, from what to what. Actors"
    " are `admin` (the password), `token:<name>`, and `anonymous` when no ADMIN_PASS is set.",
    scope="read",
    answer=audit.AuditLogWire,
    query=(
        QueryParameter("kind", "one of " + ", ".join(sorted(STRUCT_BY_KIND))),
        QueryParameter("itemId", "the changed thing's id"),
        QueryParameter("actor", "who changed it"),
        QueryParameter("start", "from this second on (Unix)", kind="integer"),
        QueryParameter("end", "before this second (Unix)", kind="integer"),
        QueryParameter(
            "limit", f"entries of a page, at most {audit.ENTRIES_MAX}", kind="integer", example=20
        ),
        QueryParameter("before", "`next` of the page before"),
    ),
    errors=(400,),
    answer_example={
        "entries": [
            {
                "id": "7",
                "at": 1767225600,
                "atMs": 1767225600123,
                "actor": "token:ci",
                "action": "update",
                "kind": "key",
                "itemId": "01977f3e-0000-7000-8000-000000000002",
                "revision": 12,
                "before": {"name": "team", "revoked": False},
                "after": {"name": "team", "revoked": True},
            }
        ],
        "next": None,
    },
)


def handlers(store: Store) -> list[Any]:
    """The routes of this resource."""

    @get(_PATH, opt=promises(_OPERATION))
    async def read_audit_log(request: Request[Any, Any, Any]) -> Response[Any]:
        given = {name: values[-1] for name, values in request.query_params.dict().items()}
        with refusing(_PATH, "audit log query validation failed"):
            query = audit.to_query(given)
        return Response(await audit.read_log(query, store), media_type="application/json")

    return [read_audit_log]
