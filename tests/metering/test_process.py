"""Consumers as processes: sharing, handing over, pausing, stopping, tidying up, commands."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from journal.resetting_proxy import ResettingProxy
from metering_events import make_admitted
from metering_proxy import HttpProxy, first_insert
from metering_shipping import eventually, exchanges
from metering_stack import SOON, Stack, book_all
from nats.js.errors import KeyNotFoundError
from support.programs import Program
from support.servers import free_port
from support.stores import NatsServer

from metering.audit import Findings
from metering.state import ConsumerState, MemberReport
from runtime.settings import Duration

pytestmark = pytest.mark.xdist_group("metering-clickhouse")


class Consumers:
    """Consumer processes of a test."""

    def __init__(self, stack: Stack, data_dir: Path) -> None:
        self._stack = stack
        self.data_dir = data_dir
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def environ(self, **changes: str) -> dict[str, str]:
        return {
            **os.environ,
            "NATS_URL": self._stack.nats_url,
            "CLICKHOUSE_URL": self._stack.database.url,
            "CLICKHOUSE_DATABASE": self._stack.database.database,
            "DATA_DIR": str(self.data_dir),
            "METERING_PARTITIONS": "4",
            "BOOKING_DEADLINE_S": "1",
            "BOOKING_EXECUTION_MAX": "1",
            "MEMBER_INTERVAL": "200ms",
            "BATCH_DELAY": "20ms",
            "BATCH_REST_MAX": "0",
            **changes,
        }

    def start(self, number: int, **changes: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "metering.worker", "--number", str(number)],
            env=self.environ(**changes),
        )
        self.processes[number] = process
        return process

    def state(self, number: int) -> ConsumerState | None:
        path = self.data_dir / "run" / f"metering-{number}.state.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=ConsumerState)
        except FileNotFoundError:
            return None

    def stop(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()

    async def command(self, *words: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "metering", *words,
            env=self.environ(NATS_TIMEOUT="30"), stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()


@pytest.fixture
def consumers(stack: Stack, tmp_path: Path) -> Iterator[Consumers]:
    consumers = Consumers(stack, tmp_path / "data")
    yield consumers
    consumers.stop()


async def has_booked(stack: Stack, count: int) -> bool:
    return (await stack.totals())["requests"] == count


async def test_a_consumer_tells_again_when_it_can_write(consumers: Consumers) -> None:
    """While the disk takes nothing its word is an old one; that must end with the cause."""
    consumers.start(1)

    async def has_told() -> bool:
        return consumers.state(1) is not None

    await eventually(has_told)
    run = consumers.data_dir / "run"
    away = run.with_name("run-away")
    run.rename(away)
    await asyncio.sleep(3)
    away.rename(run)
    then = consumers.state(1)

    async def tells_again() -> bool:
        return consumers.state(1) != then

    await eventually(tells_again)


async def test_consumers_share_partitions_and_hand_over_when_one_stops(
    stack: Stack, consumers: Consumers
) -> None:
    """Two share four partitions; SIGTERM ends one cleanly and the other books what follows."""
    shippers = [await stack.shipper(partition) for partition in (0, 1, 2, 3, 9)]
    for shipper in shippers:
        shipper.write(exchanges(20))
        await shipper.ship()
    first = consumers.start(1)
    consumers.start(2)
    await eventually(lambda: has_booked(stack, 100))
    bucket = await stack.jetstream.key_value("MEMBERS")

    async def is_shared() -> bool:
        shares = []
        for number in (1, 2):
            state = consumers.state(number)
            if state is None:
                return False
            shares.append(set(state.partitions))
        # Partition 9 is nobody's by number, but it is in the stream.
        return shares[0] | shares[1] == {0, 1, 2, 3, 9} and not shares[0] & shares[1]

    await eventually(is_shared)
    state = consumers.state(1)
    assert state is not None
    key = f"metering.{state.member}"

    async def is_reported() -> bool:
        try:
            said = (await bucket.get(key)).value or b""
        except KeyNotFoundError:
            return False  # forgotten while it stood still; it says it again
        report = msgspec.json.decode(said, type=MemberReport)
        return bool(report.partitions) and all(
            each.condition == "metering" and each.metered_up_to_ms
            for each in report.partitions.values()
        )

    await eventually(is_reported)

    first.terminate()
    assert await asyncio.to_thread(first.wait, 60) == 0
    for shipper in shippers:
        shipper.write(exchanges(5))
        await shipper.ship()
    await eventually(lambda: has_booked(stack, 125))
    assert (await stack.totals())["wrong"] == 0


async def test_a_consumer_that_joins_under_load_takes_partitions_over_between_batches(
    stack: Stack, consumers: Consumers, nats_server: NatsServer
) -> None:
    """Nobody finds a batch half done: the one who holds a partition ends its batch before it goes."""
    # A disk that stands still makes nobody late, and nobody forgotten.
    await nats_server.migrate(member_ttl=Duration(600))
    limits = {
        "BATCH_ROWS_MAX": "100",
        "BOOKING_DEADLINE_S": "60",
        "BOOKING_EXECUTION_MAX": "60",
        "NATS_TIMEOUT": "60",
        "CLICKHOUSE_TIMEOUT": "60",
        "DRAIN_S": "60",
    }
    shippers = [await stack.shipper(partition) for partition in range(4)]

    async def ship(count: int) -> None:
        for shipper in shippers:
            shipper.write(exchanges(count))
            await shipper.ship(records_per_parcel=50)

    await ship(1_000)
    consumers.start(1, **limits)

    async def has_begun() -> bool:
        return (await stack.totals())["rows"] > 0

    await eventually(has_begun)
    consumers.start(2, **limits)

    async def is_shared() -> bool:
        states = [consumers.state(number) for number in (1, 2)]
        return all(state is not None and len(state.partitions) == 2 for state in states)

    await eventually(is_shared)
    await ship(100)
    await eventually(lambda: has_booked(stack, 4_400))
    for number in (1, 2):
        state = consumers.state(number)
        assert state is not None
        for partition in state.partitions.values():
            assert (partition.progress.recoveries, partition.problem) == (0, None)
    assert await stack.totals() == {"rows": 4_400, "events": 4_400, "requests": 4_400, "wrong": 0}


async def test_a_consumer_paused_with_its_insert_on_the_way_does_no_harm(
    stack: Stack, consumers: Consumers, nats_server: NatsServer
) -> None:
    """SIGSTOP behind CAS(pending); another books; SIGCONT and the insert arrives far too late."""
    await nats_server.migrate(member_ttl=Duration(1))
    shipper = await stack.shipper()
    shipper.write(exchanges(50))
    await shipper.ship()
    async with HttpProxy(stack.database.url) as proxy:
        proxy.harm = first_insert("hold")
        paused = consumers.start(1, CLICKHOUSE_URL=proxy.url)
        async with asyncio.timeout(60):
            await proxy.harmed.wait()
        paused.send_signal(signal.SIGSTOP)
        consumers.start(2)
        await eventually(lambda: has_booked(stack, 50))
        paused.send_signal(signal.SIGCONT)
        proxy.release.set()

        async def has_answered() -> bool:
            return bool(proxy.late_answers)

        await eventually(has_answered)
        assert b"in_time" in proxy.late_answers[0]
        shipper.write(exchanges(10))
        await shipper.ship()
        await eventually(lambda: has_booked(stack, 60))
    assert await stack.totals() == {"rows": 60, "events": 60, "requests": 60, "wrong": 0}


async def test_a_killed_consumer_is_followed_by_another(stack: Stack, consumers: Consumers) -> None:
    """kill -9 under load, twice; the next one finishes what was begun."""
    shipper = await stack.shipper()
    for round_no in range(2):
        shipper.write(exchanges(400))
        process = consumers.start(round_no + 1, BATCH_ROWS_MAX="100")
        await shipper.ship(records_per_parcel=40)

        async def has_begun(expected: int = round_no * 400) -> bool:
            return (await stack.totals())["rows"] > expected

        await eventually(has_begun)
        process.kill()
    consumers.start(9)
    await eventually(lambda: has_booked(stack, 800))
    assert await stack.totals() == {"rows": 800, "events": 800, "requests": 800, "wrong": 0}


async def test_the_janitor_keeps_what_is_needed(stack: Stack, consumers: Consumers) -> None:
    """Purged is what is booked, older than the retention, and not an open admission's."""
    shipper = await stack.shipper()
    shipper.write(exchanges(10))
    await shipper.ship()
    shipper.write([make_admitted(timeout_ms=86_400_000, admitted_at_ms=int(time.time() * 1000))])
    [open_seq] = await shipper.ship()
    shipper.write(exchanges(10))
    await shipper.ship()
    consumers.start(1, REPLAY_RETENTION="0", JANITOR_INTERVAL="300ms")

    async def is_purged() -> bool:
        state = (await stack.jetstream.stream_info("EXCHANGES")).state
        return state.first_seq == open_seq

    await eventually(is_purged)
    await asyncio.sleep(0.8)
    assert await is_purged()
    assert (await stack.totals())["requests"] == 20


async def test_a_nearly_full_stream_gives_up_booked_parcels_early(
    stack: Stack, consumers: Consumers
) -> None:
    """Long before the retention: a shorter replay is better than refused requests."""
    shipper = await stack.shipper()
    for _ in range(20):
        shipper.write(exchanges(20))
        await shipper.ship()
    info = await stack.jetstream.stream_info("EXCHANGES")
    bytes_max = int(info.state.bytes / 0.9)
    await stack.jetstream.update_stream(info.config.evolve(max_bytes=bytes_max))
    consumers.start(1, REPLAY_RETENTION="7d", JANITOR_INTERVAL="300ms")

    async def has_room() -> bool:
        state = (await stack.jetstream.stream_info("EXCHANGES")).state
        return state.messages > 0 and state.bytes <= 0.8 * bytes_max

    await eventually(has_room)
    await eventually(lambda: has_booked(stack, 400))
    assert (await stack.totals())["requests"] == 400


async def test_commands_audit_declare_a_loss_and_resync(stack: Stack, consumers: Consumers) -> None:
    """Status 0 and JSON for right books, 1 for wrong ones; a declared loss closes; resync rebuilds."""
    shipper = await stack.shipper()
    shipper.write([*exchanges(10), make_admitted(admitted_at_ms=int(time.time() * 1000))])
    await shipper.ship()
    await book_all(await stack.meter())
    status, output = await consumers.command("audit", "--json")
    findings = msgspec.json.decode(output, type=Findings)
    assert (status, findings.is_right, findings.open) == (0, True, 1)

    status, output = await consumers.command("lost", shipper.name)
    assert status == 0
    assert (await consumers.command("lost", "nonsense"))[0] == 2
    await book_all(await stack.meter())
    assert (await stack.totals())["requests"] == 11

    status, output = await consumers.command("resync", "0", "7")
    assert status == 0
    assert "the checkpoint of partition 0 is gone" in output
    assert "partition 7 has no checkpoint" in output
    meter = await stack.meter(**SOON)
    await book_all(meter)
    assert meter.progress.rebuilds == 1
    client = stack.database.client()
    client.command("TRUNCATE TABLE entries")
    client.close()
    status, output = await consumers.command("audit")
    assert status == 1
    assert "booked, but not in the ledger" in output


async def test_a_consumer_whose_connection_is_ended_for_good_ends_to_be_started_again(
    stack: Stack, consumers: Consumers
) -> None:
    """Expired credentials, say: it would otherwise wait for ever for a connection that is closed."""
    shipper = await stack.shipper()
    async with ResettingProxy(stack.nats_url) as proxy:
        process = consumers.start(1, NATS_URL=proxy.url, DRAIN_S="1")
        shipper.write(exchanges(5))
        await shipper.ship()
        await eventually(lambda: has_booked(stack, 5))
        proxy.say(b"-ERR 'User Authentication Expired'\r\n")

        async def has_ended() -> bool:
            return process.poll() is not None

        await eventually(has_ended)
        assert process.returncode == 1
        consumers.start(1, NATS_URL=proxy.url)
        shipper.write(exchanges(5))
        await shipper.ship()
        await eventually(lambda: has_booked(stack, 10))


@pytest.mark.timeout(600)
@pytest.mark.long_form(short=1, long=8)
async def test_partitions_are_booked_whatever_number_metering_is_told(
    stack: Stack, consumers: Consumers, rounds: int
) -> None:
    """8, 12, 8 while events come for all twelve; each consumer is killed with a backlog."""
    shippers = [await stack.shipper(partition) for partition in range(12)]
    written = 0

    async def ship(count: int) -> None:
        nonlocal written
        for shipper in shippers:
            shipper.write(exchanges(count))
            await shipper.ship()
        written += count * len(shippers)

    for told in (8, 12) * rounds:
        await ship(5)
        process = consumers.start(1, METERING_PARTITIONS=str(told))
        await eventually(lambda: has_booked(stack, written))
        status, said = await consumers.command("audit")
        assert status == 0, said
        assert "no difference" in said
        await ship(5)
        process.kill()
        process.wait()
    consumers.start(1, METERING_PARTITIONS="8")
    await eventually(lambda: has_booked(stack, written))
    assert await stack.totals() == {
        "rows": written,
        "events": written,
        "requests": written,
        "wrong": 0,
    }


def test_a_consumer_that_never_had_its_broker_stops_when_told_to(tmp_path: Path) -> None:
    """By itself: who waits for NATS need not be killed."""
    env = {
        "NATS_URL": f"nats://127.0.0.1:{free_port()}",
        "NATS_TIMEOUT": "500ms",
        "DATA_DIR": str(tmp_path),
    }
    consumer = Program("consumer", ["metering.worker", "--number", "1"], env, tmp_path / "log")
    consumer.start()
    consumer.wait_until(lambda: "nats.unavailable" in consumer.log.read_text())

    assert consumer.stop() == 0
