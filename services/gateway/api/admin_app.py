"""The 8001 app: the admin API, and the reports it passes on to 8003."""

from collections.abc import Sequence
from typing import Any

from litestar import Litestar
from litestar.types import ControllerRouterHandler

from gateway.api.admin_problems import AdminProblem, show_exception, show_problem
from gateway.api.guards import admin_guard
from runtime.settings import Secret


def admin_app(handlers: Sequence[ControllerRouterHandler], admin_pass: Secret) -> Litestar:
    """The application of the admin process."""
    exception_handlers: dict[Any, Any] = {
        AdminProblem: show_problem,
        Exception: show_exception,
    }
    return Litestar(
        list(handlers),
        guards=[admin_guard(admin_pass)],
        exception_handlers=exception_handlers,
        openapi_config=None,
        logging_config=None,
    )
