"""The 8001 app: the door, the admin API, and the reports it passes on to 8003."""

import time
from collections.abc import Sequence
from typing import Any

from litestar import Litestar
from litestar.types import ControllerRouterHandler

from gateway.api.admin_problems import AdminProblem, show_exception, show_problem
from gateway.api.guards import scope_guard
from gateway.api.tag_paths import with_slashes_in_tags
from runtime.admin_gate import AdminGate, App, Tokens
from runtime.routes import RouteTable
from runtime.settings import Secret


def admin_app(
    handlers: Sequence[ControllerRouterHandler],
    admin_pass: Secret,
    tokens: Tokens,
    *,
    body_bytes_max: int,
) -> App:
    """The application of the admin process."""
    exception_handlers: dict[Any, Any] = {
        AdminProblem: show_problem,
        Exception: show_exception,
    }
    app = Litestar(
        list(handlers),
        guards=[scope_guard],
        exception_handlers=exception_handlers,
        request_max_body_size=body_bytes_max,
        openapi_config=None,
        logging_config=None,
    )
    gate = AdminGate(app, admin_pass, tokens, RouteTable(app), now_s=lambda: int(time.time()))
    return with_slashes_in_tags(gate)
