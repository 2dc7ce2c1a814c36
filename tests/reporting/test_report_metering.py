"""How far the books are, read from a real NATS server."""

import json
from collections.abc import AsyncIterator
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from support.reporting import Api, opened_app
from support.stores import NatsServer

from contracts import checkpoint, subjects
from contracts.checkpoint import Checkpoint, Pending
from contracts.reports import PartitionProgress
from reporting.api.metering import to_report
from reporting.settings import ReportingSettings
from runtime.settings import Duration


@pytest.fixture
async def nats_client(nats_server: NatsServer) -> AsyncIterator[Client]:
    """A connection to this test's server."""
    client = await nats.connect(nats_server.url)
    yield client
    await client.close()


@pytest.fixture
async def metering_api(nats_server: NatsServer) -> AsyncIterator[Api]:
    """The app over this test's NATS."""
    settings = ReportingSettings(nats_url=nats_server.url, report_nats_timeout=Duration(60))
    async with opened_app(settings) as client:
        yield client


def booked(partition: int, committed_seq: int, pending: Pending | None = None) -> bytes:
    """A checkpoint as metering writes it."""
    return checkpoint.encode(
        Checkpoint(partition, "2026-01-01T00:00:00Z", committed_seq, None, {}, pending)
    )


PENDING = Pending("b", 1, 0, 4, 5, {}, {}, (), 1, "", "", "", 0)


async def test_nothing_is_there_before_the_first_migration(metering_api: Api) -> None:
    """A server without buckets has no partitions, and no promise."""
    answer = await metering_api.get("/api/reporting/metering")

    assert answer.status_code == 200
    assert answer.json() == {"meteredUpToMs": None, "backlogMessages": None, "partitions": []}


async def test_backlog_and_progress_by_partition(
    metering_api: Api, nats_server: NatsServer, nats_client: Client
) -> None:
    """The backlog is counted by the server, partition by partition; members say the times."""
    await nats_server.migrate()
    stream = nats_client.jetstream(timeout=60)
    for partition in (0, 1, 0, 1, 1):
        await stream.publish(subjects.exchanges_subject(partition), b"x")
    checkpoints = await stream.key_value(subjects.CHECKPOINTS_BUCKET)
    await checkpoints.put(subjects.checkpoint_key(0), booked(0, 3))
    await checkpoints.put(subjects.checkpoint_key(1), booked(1, 2, PENDING))
    await checkpoints.put("lost." + "0" * 32, b"not a checkpoint")
    members = await stream.key_value(subjects.MEMBERS_BUCKET)
    said = {"partitions": {"0": {"condition": "metering", "metered_up_to_ms": 70, "lag_ms": 5}}}
    await members.put("member-a", json.dumps(said).encode())
    older = {
        "partitions": {
            "0": {"metered_up_to_ms": 60},
            "1": {"condition": "waiting", "problem": "why", "metered_up_to_ms": 50},
        }
    }
    await members.put("member-b", json.dumps(older).encode())
    await members.put("member-c", b"\xff")

    report = (await metering_api.get("/api/reporting/metering")).json()

    assert report == {
        "meteredUpToMs": 50,
        "backlogMessages": 2,
        "partitions": [
            {
                "partition": 0,
                "member": "member-a",
                "condition": "metering",
                "problem": None,
                "meteredUpToMs": 70,
                "lagMs": 5,
                "backlogMessages": 0,
                "committedSeq": 3,
                "batchIsPending": False,
            },
            {
                "partition": 1,
                "member": "member-b",
                "condition": "waiting",
                "problem": "why",
                "meteredUpToMs": 50,
                "lagMs": None,
                "backlogMessages": 2,
                "committedSeq": 2,
                "batchIsPending": True,
            },
        ],
    }
    for name in (
        subjects.EXCHANGES_STREAM,
        f"KV_{subjects.CHECKPOINTS_BUCKET}",
        f"KV_{subjects.MEMBERS_BUCKET}",
    ):
        assert (await stream.stream_info(name)).state.consumer_count == 0, name


def progress(partition: int, **facts: Any) -> PartitionProgress:
    """One partition's."""
    defaults: dict[str, Any] = {
        "member": None,
        "condition": None,
        "problem": None,
        "metered_up_to_ms": None,
        "lag_ms": None,
        "backlog_messages": None,
        "committed_seq": 0,
        "batch_is_pending": False,
    }
    return PartitionProgress(partition, **(defaults | facts))


def test_whole_is_unknown_while_a_part_is() -> None:
    """A partition that nobody speaks for is not left out of the promise."""
    report = to_report(
        [progress(0, metered_up_to_ms=5, backlog_messages=1), progress(1, backlog_messages=2)]
    )

    assert (report.metered_up_to_ms, report.backlog_messages) == (None, 3)


def test_a_partition_without_an_owner_hides_the_figure_only_with_a_backlog() -> None:
    """METERING_PARTITIONS was lowered: the checkpoints of the others stay behind."""
    owned = [progress(n, member="m", metered_up_to_ms=5 + n, backlog_messages=0) for n in range(2)]
    retired = progress(8, backlog_messages=0)
    assert to_report([*owned, retired]).metered_up_to_ms == 5

    for left in (
        progress(8, backlog_messages=1),
        progress(8, backlog_messages=0, batch_is_pending=True),
        progress(8, backlog_messages=None),
        progress(8, member="m", backlog_messages=0),
    ):
        assert to_report([*owned, left]).metered_up_to_ms is None, left
    assert to_report([retired]).metered_up_to_ms is None
