"""The reporting app (8003): routes, guard, error mapping."""

from litestar import Litestar
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin

from reporting.api.events import event_endpoints
from reporting.api.guard import admin_pass_guard
from reporting.api.health import health_endpoints
from reporting.api.keys import key_endpoints
from reporting.api.metering import metering_endpoint
from reporting.api.problems import exception_handlers
from reporting.api.timeseries import timeseries_endpoint
from reporting.ports import KeyDirectory, Ledger, Progress
from reporting.settings import ReportingSettings
from runtime.logs import Log


def build_app(
    ledger: Ledger,
    directory: KeyDirectory | None,
    progress: Progress,
    settings: ReportingSettings,
    log: Log,
) -> Litestar:
    """The app over three ports. It opens and closes nothing."""
    return Litestar(
        route_handlers=[
            timeseries_endpoint(ledger, settings),
            *key_endpoints(ledger, directory, settings),
            *event_endpoints(ledger, settings),
            metering_endpoint(progress),
            *health_endpoints(ledger),
        ],
        guards=[admin_pass_guard(settings.admin_pass)],
        exception_handlers=exception_handlers(log),
        request_max_body_size=settings.report_request_bytes_max,
        openapi_config=OpenAPIConfig(
            title="Tollway reporting",
            version="1",
            path="/schema",
            render_plugins=[JsonRenderPlugin()],
        ),
        logging_config=None,
    )
