"""What members of one metering say to each other, over a real bucket."""

from collections.abc import AsyncIterator

import pytest
from support.stores import NatsServer

from metering.adapters.nats_link import NatsLink
from metering.adapters.nats_members import NatsMembers
from metering.clock import SystemClock
from metering.consumer import Consumer
from metering.handover import Handover, Word
from metering.ports import Unavailable
from metering.settings import MeteringSettings
from runtime.logs import LogSettings, to_stream
from runtime.settings import Duration

PAIRS = [(f"host-a-{n}-0", f"host-b-{n}-0") for n in range(12)]


@pytest.fixture
async def link(nats_server: NatsServer) -> AsyncIterator[NatsLink]:
    # Nobody's word is forgotten while the disk stands still.
    await nats_server.migrate(member_ttl=Duration(600))
    link = await NatsLink.open(
        nats_server.url, name="members", creds=None, tls_ca=None, timeout_s=20.0
    )
    yield link
    await link.close()


def member(link: NatsLink, name: str) -> NatsMembers:
    return NatsMembers(link, name, SystemClock(), dict)


async def test_words_are_heard_until_they_are_taken_back(link: NatsLink) -> None:
    """Held and known partitions, of all others."""
    first, second = member(link, "first"), member(link, "second")
    assert await first.others() == {}
    word = Word(frozenset({1, 2}), frozenset(range(8)))
    await second.say(word)
    await first.say(Word(frozenset(), frozenset()))
    assert await first.others() == {"second": word}
    await second.resign()
    assert await first.others() == {}


async def test_listening_leaves_nothing_behind_in_the_server(link: NatsLink) -> None:
    """A member listens for as long as it lives, ten times a second while it waits for another."""
    first, second = member(link, "first"), member(link, "second")
    await second.say(Word(frozenset({1}), frozenset({1})))
    for _ in range(5):
        assert await first.others()
    info = await link.jetstream.stream_info("KV_MEMBERS")
    assert info.state.consumer_count == 0


async def test_members_told_of_different_partitions_leave_none_to_nobody(link: NatsLink) -> None:
    """METERING_PARTITIONS differs while an installation grows, or for good."""
    for a, b in PAIRS:
        said = {name: member(link, name) for name in (a, b)}
        handovers = {
            name: Handover(name, said[name], SystemClock(), patience_ms=30_000) for name in said
        }
        for _ in range(4):
            for name, count in ((a, 8), (b, 16)):
                turn = await handovers[name].turn(range(count))
                for number in turn.leave:
                    handovers[name].has_left(number)
        held = [handovers[name].held for name in (a, b)]
        assert held[0] | held[1] == set(range(16)), (a, b)
        assert not held[0] & held[1], (a, b)
        for one in said.values():
            await one.resign()


def test_processes_that_are_called_alike_are_two_members() -> None:
    """Two containers of one host name count their processes alike."""
    log = to_stream(LogSettings())
    names = {Consumer(MeteringSettings(), 0, log).member for _ in range(2)}
    assert len(names) == 2


async def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    """Nobody listens there."""
    with pytest.raises(Unavailable, match=r"nats://127\.0\.0\.1:1;") as caught:
        await NatsLink.open(
            "nats://me:hush@127.0.0.1:1", name="members", creds=None, tls_ca=None, timeout_s=0.2
        )

    assert "hush" not in str(caught.value)
