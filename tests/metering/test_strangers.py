"""Messages that no gateway wrote do not stop a partition."""

import pytest
from metering_shipping import exchanges
from metering_stack import Stack, book_all

from contracts import subjects
from metering.adapters.nats_stream import found_partitions

LARGEST_BYTES = 8 << 20


async def _assert_goes_on(stack: Stack) -> None:
    shipper = await stack.shipper()
    shipper.write(exchanges(2))
    await shipper.ship()
    meter = await stack.meter()
    await book_all(meter)
    assert (await stack.totals())["rows"] == 2
    assert meter.progress.dead_letters == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Status": "404"},
        {"Status": "204"},
        {"Status": "408 Request Timeout"},
        {"Nats-Sequence": "999"},
        {"Nats-Last-Sequence": "999"},
        {"Nats-Time-Stamp": "yesterday"},
        {"Nats-Num-Pending": "many"},
    ],
    ids=str,
)
async def test_a_message_with_headers_of_the_server_is_passed(
    stack: Stack, headers: dict[str, str]
) -> None:
    """It is a dead letter, and what comes behind it is booked."""
    await stack.jetstream.publish(subjects.exchanges_subject(0), b"x", headers=headers)
    await _assert_goes_on(stack)


async def test_a_message_of_the_largest_size_is_passed(stack: Stack) -> None:
    """With the headers of a dead letter it is larger than any message may be."""
    await stack.jetstream.publish(subjects.exchanges_subject(0), bytes(LARGEST_BYTES - 16))
    await _assert_goes_on(stack)


async def test_subjects_that_are_no_partition_are_passed_over(stack: Stack) -> None:
    """Whatever comes behind the dot: no consumer may end over it, and none has to meter it."""
    for name in ("3", "\u00b2", "\u0663", "007", "65536", "99999999999999999999", "-1", "x"):
        await stack.jetstream.publish(f"exchanges.{name}", b"x")
    await stack.meter()
    assert await found_partitions(stack.links[0]) == {3}
