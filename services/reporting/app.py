"""The reporting app (8003): the door, routes, error mapping."""

import time

from litestar import Litestar

from reporting.api.events import event_endpoints
from reporting.api.guard import scope_guard
from reporting.api.health import health_endpoints
from reporting.api.keys import key_endpoints
from reporting.api.metering import metering_endpoint
from reporting.api.openapi import description_endpoints
from reporting.api.problems import exception_handlers
from reporting.api.timeseries import timeseries_endpoint
from reporting.ports import KeyDirectory, Ledger, Progress
from reporting.settings import ReportingSettings
from runtime.admin_gate import AdminGate, Tokens
from runtime.logs import Log
from runtime.routes import RouteTable


def build_app(
    ledger: Ledger,
    directory: KeyDirectory | None,
    progress: Progress,
    tokens: Tokens,
    settings: ReportingSettings,
    log: Log,
) -> AdminGate:
    """The app over four ports. It opens and closes nothing."""
    app = Litestar(
        route_handlers=[
            timeseries_endpoint(ledger, settings),
            *key_endpoints(ledger, directory, settings),
            *event_endpoints(ledger, settings),
            metering_endpoint(progress),
            *health_endpoints(ledger),
            *description_endpoints(f"http://127.0.0.1:{settings.reporting_port}"),
        ],
        guards=[scope_guard],
        exception_handlers=exception_handlers(log),
        request_max_body_size=settings.report_request_bytes_max,
        openapi_config=None,
        logging_config=None,
    )
    return AdminGate(
        app, settings.admin_pass, tokens, RouteTable(app), now_s=lambda: int(time.time())
    )
