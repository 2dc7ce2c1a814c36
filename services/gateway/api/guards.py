"""What who asks may do: the door has said who they are."""

from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from contracts.config.admin_tokens import Scope
from contracts.operation import Operation
from gateway.api.admin_problems import AdminProblem
from runtime.admin_gate import Caller


def scope_guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Refuses (403) what a token's scopes do not cover. What promises nothing needs `write`."""
    caller: Caller = connection.scope["state"]["caller"]
    operation: Operation | None = handler.opt.get("operation")
    scope: Scope = "write" if operation is None else operation.scope
    path = connection.scope["path"]
    if not caller.may(scope, path):
        raise AdminProblem(
            403, "forbidden", "request is refused", f"the token lacks the scope: {scope}", path
        )


def actor_of(request: Request[Any, Any, Any]) -> str:
    """Who asks, as the audit log names them: admin, anonymous, or token:<name>."""
    caller: Caller = request.scope["state"]["caller"]
    return caller.actor
