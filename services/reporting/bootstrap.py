"""The composition root: open the adapters, build the app, serve, drain, close in reverse."""

import asyncio
import contextlib
import signal

from reporting.adapters.clickhouse_ledger import ClickHouseLedger
from reporting.adapters.nats_progress import NatsProgress
from reporting.adapters.postgres_keys import PostgresKeys
from reporting.app import build_app
from reporting.settings import ReportingSettings
from runtime.logs import Log
from runtime.serving import bind, serve


async def run(settings: ReportingSettings, log: Log) -> None:
    """Serves until SIGTERM or SIGINT. Raises OSError when the port is taken.

    The stores need not be there at the start: until they are, questions get 503.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        listener = bind(settings.reporting_host, settings.reporting_port)
        # The server takes the descriptor and closes it: closing it again could hit another one.
        stack.callback(listener.detach)
        ledger = ClickHouseLedger(settings)
        stack.callback(ledger.close)
        directory = PostgresKeys(settings) if settings.postgres_url else None
        if directory is not None:
            stack.push_async_callback(directory.close)
        progress = NatsProgress(settings)
        stack.push_async_callback(progress.close)
        app = build_app(ledger, directory, progress, settings, log)
        serving = asyncio.create_task(serve(app, listener, stop), name="reporting.serve")
        log.info(
            "reporting.listening",
            host=settings.reporting_host,
            port=listener.getsockname()[1],
        )
        await _until_drained(serving, stop, settings.drain_s)
        log.info("reporting.stopped", is_drained=serving.done())


async def _until_drained(serving: asyncio.Task[None], stop: asyncio.Event, drain_s: float) -> None:
    """Returns when serving ended, or `drain_s` after the stop; raises what serving raised.

    The server stops accepting at once, and ends when the last question is answered. A question
    that takes longer is cut, and its query ends by its own limits.
    """
    stopping = asyncio.create_task(stop.wait(), name="reporting.stop")
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    done, _ = await asyncio.wait({serving}, timeout=drain_s)
    for ended in done:
        ended.result()
