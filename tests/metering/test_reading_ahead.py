"""Reading of many partitions at once, in a process that is busy building a batch."""

import asyncio
import time

from support.stores import NatsServer

from contracts import subjects
from metering.adapters.nats_link import NatsLink
from metering.adapters.nats_stream import DirectReader

PARTITIONS = 16
MESSAGE_BYTES = 4_000_000
MESSAGES_EACH = 2


async def test_a_process_that_does_not_read_for_a_while_keeps_its_connection(
    nats_server: NatsServer,
) -> None:
    """More waits in the stream than the server lets one connection owe."""
    await nats_server.migrate(stream_bytes_max=1 << 30)
    link = await NatsLink.open(
        nats_server.url, name="reader", creds=None, tls_ca=None, timeout_s=30.0
    )
    content = bytes(MESSAGE_BYTES)
    for partition in range(PARTITIONS):
        for _ in range(MESSAGES_EACH):
            await link.jetstream.publish(subjects.exchanges_subject(partition), content)
    reader = DirectReader(link)
    gets = [
        asyncio.create_task(reader.get(subjects.exchanges_subject(partition), 1, 16 << 20))
        for partition in range(PARTITIONS)
    ]
    for _ in range(100):
        # Every request that is sent at once goes out; no answer is read yet.
        await asyncio.sleep(0)
    time.sleep(1.0)  # noqa: ASYNC251 - the loop stands still on purpose
    found = await asyncio.gather(*gets)
    assert all(len(messages) >= 1 for messages in found)
    assert link.client.stats["reconnects"] == 0
    await link.close()
