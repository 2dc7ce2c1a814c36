"""The events of a request, read out of the stream of exchanges."""

import asyncio

import nats

from contracts.exchange import ExchangeCompleted, RequestAdmitted, decode
from contracts.records import ParcelHeaders, records
from contracts.subjects import EXCHANGES_STREAM
from support.servers import run_apart
from support.stores import NatsServer


def completed(bus: NatsServer, custom_id: str) -> ExchangeCompleted:
    """The end of the request with this custom id, as it stands in the stream."""
    return run_apart(_completed(bus, custom_id))


async def _completed(bus: NatsServer, custom_id: str) -> ExchangeCompleted:
    client = await nats.connect(bus.url)
    try:
        stream = client.jetstream()
        sequence = 1
        async with asyncio.timeout(15):
            while True:
                try:
                    message = await stream.get_msg(EXCHANGES_STREAM, sequence)
                except nats.js.errors.NotFoundError:
                    await asyncio.sleep(0.05)
                    continue
                sequence += 1
                headers = ParcelHeaders.from_headers(message.headers or {})
                for record in records(message.data or b"", headers.offset, headers.hash_before):
                    event = decode(record.payload)
                    if event.caller.custom_id != custom_id or isinstance(event, RequestAdmitted):
                        continue
                    return event
    finally:
        await client.close()
