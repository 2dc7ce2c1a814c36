"""Who may use the admin API."""

import hmac
from collections.abc import Callable
from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from gateway.api.admin_problems import AdminProblem
from runtime.settings import Secret


def admin_guard(
    admin_pass: Secret,
) -> Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], None]:
    """Refuses callers without ADMIN_PASS, in constant time; open when it is not set."""
    expected = admin_pass.reveal().encode()

    def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        if not expected or connection.scope["path"] == "/api/health":
            return
        given = connection.headers.get("x-api-key", "").encode("latin-1")
        if not hmac.compare_digest(given, expected):
            raise AdminProblem(
                401,
                "unauthorized",
                "admin credential is missing or wrong",
                "send the admin password in the X-API-KEY header",
                connection.scope["path"],
            )

    return guard


def actor_of(request: Request[Any, Any, Any]) -> str:
    """Who asks, as the audit log names them."""
    actor: str = request.scope["state"].get("actor", "admin")
    return actor
