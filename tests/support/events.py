"""The events of a request, read out of the stream of exchanges."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import nats

from contracts.exchange import ExchangeCompleted, RequestAdmitted, decode
from contracts.records import ParcelHeaders, records
from contracts.subjects import EXCHANGES_STREAM
from support.servers import run_apart
from support.stores import NatsServer

Event = RequestAdmitted | ExchangeCompleted


def completed(bus: NatsServer, custom_id: str) -> ExchangeCompleted:
    """The end of the request with this custom id, as it stands in the stream."""
    return run_apart(_completed(bus, custom_id))


async def events(bus: NatsServer, custom_id: str, count: int = 2) -> list[Event]:
    """So many events of the request with this custom id, as they stand in the stream."""
    found: list[Event] = []
    async with aclosing(_following(bus, custom_id)) as following:
        async for event in following:
            found.append(event)
            if len(found) == count:
                break
    return found


async def _completed(bus: NatsServer, custom_id: str) -> ExchangeCompleted:
    async with aclosing(_following(bus, custom_id)) as following:
        async for event in following:
            if isinstance(event, ExchangeCompleted):
                return event
    raise AssertionError("the stream of exchanges has no end")


async def _following(bus: NatsServer, custom_id: str) -> AsyncGenerator[Event, None]:
    """Each event once: a parcel whose acknowledgement was late is in the stream twice."""
    client = await nats.connect(bus.url)
    seen: set[tuple[bytes, int]] = set()
    sequence = 1
    try:
        stream = client.jetstream(timeout=60)
        async with asyncio.timeout(60):
            while True:
                try:
                    message = await stream.get_msg(EXCHANGES_STREAM, sequence)
                except nats.js.errors.NotFoundError:
                    await asyncio.sleep(0.05)
                    continue
                sequence += 1
                headers = ParcelHeaders.from_headers(message.headers or {})
                for record in records(message.data or b"", headers.offset, headers.hash_before):
                    place = (headers.incarnation, record.offset)
                    event = decode(record.payload)
                    if event.caller.custom_id == custom_id and place not in seen:
                        seen.add(place)
                        yield event
    finally:
        await client.close()
