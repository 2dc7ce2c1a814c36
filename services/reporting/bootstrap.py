"""The composition root: open the adapters, build the app, serve, drain, close in reverse."""

import contextlib

from reporting.adapters.clickhouse_ledger import ClickHouseLedger
from reporting.adapters.configuration_database import ConfigurationDatabase
from reporting.adapters.nats_progress import NatsProgress
from reporting.adapters.postgres_keys import PostgresKeys
from reporting.adapters.postgres_tokens import NoTokens, PostgresTokens
from reporting.app import build_app
from reporting.settings import ReportingSettings
from runtime.logs import Log
from runtime.ports import bind
from runtime.serving import serve
from runtime.signals import stop_event


async def run(settings: ReportingSettings, log: Log) -> None:
    """Serves until SIGTERM or SIGINT. Raises OSError when the port is taken.

    The stores need not be there at the start: until they are, questions get 503.
    """
    stop = stop_event()
    async with contextlib.AsyncExitStack() as stack:
        listener = bind(settings.reporting_host, settings.reporting_port)
        stack.callback(listener.close)
        ledger = ClickHouseLedger(settings)
        stack.callback(ledger.close)
        database = ConfigurationDatabase(settings) if settings.postgres_url else None
        if database is not None:
            stack.push_async_callback(database.close)
        directory = None if database is None else PostgresKeys(database)
        tokens = NoTokens() if database is None else PostgresTokens(database)
        progress = NatsProgress(settings)
        stack.push_async_callback(progress.close)
        app = build_app(ledger, directory, progress, tokens, settings, log)
        log.info(
            "reporting.listening",
            host=settings.reporting_host,
            port=listener.getsockname()[1],
        )
        if not settings.admin_pass:
            log.warning("reporting.open", reason="ADMIN_PASS is not set: anybody here may ask")
        await serve(app, listener, stop, end_s=settings.drain_s)
        log.info("reporting.stopped")
