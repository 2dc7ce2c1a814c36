"""What who asks may see: the door has said who they are."""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from contracts.operation import Operation
from reporting.api.problems import NotAllowed
from runtime.admin_gate import Caller


def scope_guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Raises NotAllowed when a token's scopes do not cover the route."""
    caller: Caller = connection.scope["state"]["caller"]
    operation: Operation = handler.opt["operation"]
    if not caller.may(operation.scope, connection.scope["path"]):
        raise NotAllowed
