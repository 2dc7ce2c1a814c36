"""A metering stack over real servers: connections, meters in this process, what tests ask of it."""

import gzip
from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
import nats
from metering_shipping import Shipper, eventually
from support.stores import ClickHouseDatabase

from contracts import subjects
from contracts.checkpoint import Checkpoint, decode
from metering.adapters.clickhouse_ledger import ClickHouse, ClickHouseLedger
from metering.adapters.nats_checkpoint import NatsCheckpoints
from metering.adapters.nats_link import NatsLink
from metering.adapters.nats_stream import DirectReader, NatsPartitionStream
from metering.adapters.price_books import NatsBillers
from metering.clock import SystemClock
from metering.limits import Limits
from metering.ports import Superseded, Unavailable
from metering.protocol import PartitionMeter
from rating.compile_book import compile_book

LIMITS = Limits(
    delay_ms=0,
    rest_max_ms=0,
    booking_deadline_ms=30_000,
    execution_max_ms=100,
    close_grace_ms=1_000,
    gap_ask_ms=100,
    lost_check_ms=0,
)
"""A disk that stands still for seconds makes no insert late."""

SOON = {"booking_deadline_ms": 1_000}
"""Limits of a meter whose deadline is waited out: it leaves a batch half done, or rebuilds."""

PATIENCE_S = 20.0
"""For one request."""


@cache
def shipped_book() -> tuple[str, bytes]:
    """Version and gzip of the price book this build ships."""
    version, canonical_json = compile_book()
    return version, gzip.compress(canonical_json, mtime=0)


class Stack:
    """Connections to one NATS server and one ledger, and what tests do with them."""

    def __init__(self, nats_url: str, database: ClickHouseDatabase) -> None:
        self.nats_url = nats_url
        self.database = database
        self.links: list[NatsLink] = []
        self.clickhouses: list[ClickHouse] = []
        self.client: nats.NATS

    async def open(self) -> None:
        self.client = await nats.connect(
            self.nats_url, reconnect_time_wait=0.05, max_reconnect_attempts=-1
        )
        self.jetstream = self.client.jetstream(timeout=PATIENCE_S)
        self.http = self.clickhouse(self.database.url)

    async def put_price_book(self) -> None:
        """The shipped book, compiled once for all tests."""
        version, packed = shipped_book()
        bucket = await self.jetstream.key_value(subjects.PRICE_BOOKS_BUCKET)
        await bucket.put(version, packed)
        await bucket.put("current", version.encode())

    async def close(self) -> None:
        for link in self.links:
            await link.close()
        for clickhouse in self.clickhouses:
            await clickhouse.close()
        await self.client.close()

    def clickhouse(self, url: str) -> ClickHouse:
        clickhouse = ClickHouse(
            url,
            user="default",
            password="",
            database=self.database.database,
            query_timeout_s=PATIENCE_S,
        )
        self.clickhouses.append(clickhouse)
        return clickhouse

    async def meter(
        self,
        partition: int = 0,
        *,
        nats_url: str | None = None,
        nats_timeout_s: float = PATIENCE_S,
        clickhouse_url: str | None = None,
        build: str = "test",
        ledger: Callable[[ClickHouseLedger], Any] = lambda ledger: ledger,
        billers: Callable[[NatsBillers], Any] = lambda billers: billers,
        **limits: Any,
    ) -> PartitionMeter:
        """A meter of its own connections, as a process of its own would have."""
        link = await NatsLink.open(
            nats_url or self.nats_url,
            name="meter",
            creds=None,
            tls_ca=None,
            timeout_s=nats_timeout_s,
        )
        self.links.append(link)
        clickhouse = self.clickhouse(clickhouse_url or self.database.url)
        clock = SystemClock()
        settings = msgspec.structs.replace(LIMITS, **limits)
        return PartitionMeter(
            partition,
            stream=NatsPartitionStream(link, DirectReader(link), partition),
            checkpoints=NatsCheckpoints(
                link, await link.jetstream.key_value(subjects.CHECKPOINTS_BUCKET), partition
            ),
            ledger=ledger(ClickHouseLedger(clickhouse, partition, execution_max_s=PATIENCE_S)),
            clock=clock,
            billers=billers(
                NatsBillers(
                    await link.jetstream.key_value(subjects.PRICE_BOOKS_BUCKET), clock.monotonic_ms
                )
            ),
            limits=settings,
            build=build,
        )

    async def shipper(self, partition: int = 0) -> Shipper:
        shipper = Shipper(self.client, partition)
        await shipper.listen()
        return shipper

    async def checkpoint(self, partition: int = 0) -> Checkpoint:
        bucket = await self.jetstream.key_value(subjects.CHECKPOINTS_BUCKET)
        value = (await bucket.get(subjects.checkpoint_key(partition))).value
        assert value is not None
        return decode(value)

    async def totals(self) -> dict[str, int]:
        """Rows, distinct events, net requests, and events whose net is not one."""
        [[rows, events, requests, wrong]] = await self.http.rows(
            "SELECT sum(n), count(), sum(r), countIf(r != 1) FROM "
            "(SELECT count() AS n, sum(requests) AS r FROM entries GROUP BY event_id)"
        )
        return {
            "rows": int(rows),
            "events": int(events),
            "requests": int(requests),
            "wrong": int(wrong),
        }


async def book_all(meter: PartitionMeter, *, within_s: float = 60.0) -> None:
    """Step until nothing is left to do, through every error that a later try may mend."""

    async def is_done() -> bool:
        try:
            return not await meter.step()
        except (Unavailable, Superseded):
            return False

    await eventually(is_done, within_s=within_s)
