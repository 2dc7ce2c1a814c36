"""Who may ask: whoever knows the admin pass, compared in constant time."""

import hmac
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard

from reporting.api.problems import NotAuthorized
from runtime.settings import Secret


def admin_pass_guard(admin_pass: Secret) -> Guard:
    """A guard that raises NotAuthorized; open when there is no pass (settings keep that local)."""
    expected = admin_pass.reveal().encode()

    def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        if not expected or handler.opt.get("is_open"):
            return
        given = connection.headers.get("x-api-key", "")
        if not hmac.compare_digest(given.encode("latin-1", "replace"), expected):
            raise NotAuthorized

    return guard
