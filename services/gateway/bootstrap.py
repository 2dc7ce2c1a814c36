"""Composition root: what a data worker is made of, opened and closed."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import msgspec

from contracts.config.provider_settings import ProviderSetting
from gateway.adapters.nats_bus import NatsBus
from gateway.adapters.postgres import open_pool
from gateway.adapters.postgres_config import PostgresConfiguration
from gateway.adapters.redis_cache import open_cache
from gateway.adapters.sealer import open_sealer
from gateway.api.data_api import DataApi
from gateway.api.problems import error_event_shower, error_shower
from gateway.api.stats import Stats
from gateway.configuration.targets import TargetMaker
from gateway.configuration.watcher import Configuration
from gateway.dispatch.deadlines import Deadlines
from gateway.dispatch.spool import SpoolDirectory
from gateway.endpoints.registry import Registry
from gateway.exchange import Corridor
from gateway.listing import Listing
from gateway.means import Limits, Means
from gateway.outbound import upstream, upstream_guard
from gateway.ports import Sealer
from gateway.providers.registry import PROVIDERS
from gateway.recording.journal import Journal
from gateway.recording.settings import JournalSettings
from gateway.routing.targets import make_target
from gateway.settings import GatewaySettings
from gateway.telemetry import Counters, Tallies
from gateway.values import Target

log = logging.getLogger(__name__)


class DataWorker(msgspec.Struct):
    """One data worker, open. `is_ready` is turned off before it drains."""

    api: DataApi
    corridor: Corridor
    counters: Counters
    tallies: Tallies
    started_at_ms: int
    journal: Journal
    configuration: Configuration
    is_ready: bool


def limits_of(settings: GatewaySettings) -> Limits:
    """The corridor's limits, from the settings."""
    return Limits(
        request_body_bytes_max=settings.request_body_bytes_max,
        multipart_body_bytes_max=settings.multipart_body_bytes_max,
        request_headers_bytes_max=settings.request_headers_bytes_max,
        response_body_bytes_max=settings.response_body_bytes_max,
        event_body_bytes_max=settings.event_body_bytes_max,
        stream_hold_bytes_max=settings.stream_hold_bytes_max,
        proxy_timeout_s=float(settings.proxy_timeout),
        keeps_bodies=settings.event_bodies == "always",
        drains_when_client_gone=settings.client_gone == "drain",
        serves_unmetered=settings.metering_unavailable == "serve",
        drops_user_agent=settings.remove_user_agent,
        opens_accounts=settings.allow_organization_paths,
    )


def target_maker(sealer: Sealer) -> TargetMaker:
    """Targets with their secrets, of every provider there is."""

    async def make(setting: ProviderSetting, revision: int) -> Target:
        secrets = await sealer.unseal(setting.sealed, setting.id)
        return make_target(setting, revision, secrets, PROVIDERS)

    return make


async def _load(configuration: Configuration, stop: asyncio.Event) -> None:
    """The first snapshot, however long the database takes, unless there is a stop."""
    while not stop.is_set():
        try:
            await configuration.refresh()
            break
        except Exception as error:  # noqa: BLE001 - any failure of the store means: try again
            log.warning("configuration.unavailable error=%r", error)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.5)


@asynccontextmanager
async def data_worker(
    settings: GatewaySettings, journal_settings: JournalSettings, stop: asyncio.Event
) -> AsyncIterator[DataWorker]:
    """A data worker, ready to serve unless there was a `stop` before it had a configuration.

    Leaving it ships what the journal still owes.
    """
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(
            NatsBus.open(
                settings.nats_url,
                settings.nats_creds,
                settings.nats_tls_ca,
                ack_timeout_s=float(journal_settings.parcel_ack_timeout),
                content_bytes=journal_settings.journal_record_bytes_max,
            )
        )
        journal = await stack.enter_async_context(
            Journal.running(
                settings.journal_dir, journal_settings, bus, float(settings.journal_stop)
            )
        )
        engine = await stack.enter_async_context(
            upstream(settings, upstream_guard(settings).check_address)
        )
        pool = await stack.enter_async_context(open_pool(settings))
        configuration = Configuration(
            PostgresConfiguration(pool, settings),
            target_maker(await stack.enter_async_context(open_sealer(settings))),
            float(settings.in_memory_db_update_interval),
        )
        await _load(configuration, stop)
        deadlines = Deadlines()
        await stack.enter_async_context(_background(configuration.run(), deadlines.run()))
        counters, tallies = Counters(), Tallies()
        cache = await stack.enter_async_context(open_cache(settings, counters))
        show_error = error_shower(settings.error_code)
        corridor = Corridor(
            configuration=configuration,
            match=Registry((one.name, one.dialect) for one in PROVIDERS.values()).match,
            journal=journal,
            means=Means(
                engine,
                counters,
                tallies,
                deadlines,
                limits_of(settings),
                error_event_shower(settings.error_code),
                cache=cache,
            ),
            listing=Listing(engine, float(settings.models_ttl)),
            spools=SpoolDirectory(settings.spool_dir, settings.spool_bytes_max),
            show_error=show_error,
        )
        stats = Stats(settings.run_dir, settings.proxy_port, corridor.knows, settings.admin_pass)
        worker = DataWorker(
            api=DataApi(corridor, lambda: worker.is_ready, stats, show_error),
            corridor=corridor,
            counters=counters,
            tallies=tallies,
            started_at_ms=int(time.time() * 1000),
            journal=journal,
            configuration=configuration,
            is_ready=not stop.is_set(),
        )
        yield worker


@asynccontextmanager
async def _background(*loops: Coroutine[None, None, None]) -> AsyncIterator[None]:
    tasks = {asyncio.create_task(loop, name="gateway.background") for loop in loops}
    try:
        yield
    finally:
        while tasks:
            for task in tasks:
                task.cancel()
            # Again, because a library's `wait_for` may drop one (Python 3.11).
            _, tasks = await asyncio.wait(tasks, timeout=1.0)
