"""What a drill does to the stores behind everybody's back: look, delete, copy aside, put back."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import nats
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError, NotFoundError

from contracts import subjects
from contracts.checkpoint import Checkpoint, decode
from contracts.records import ParcelHeaders
from drill.installation import Installation

Part = Literal["stream", "checkpoints", "all"]


class PartitionStand(msgspec.Struct, frozen=True):
    """How far a partition is: the newest parcel's sequence and its checkpoint."""

    last_seq: int
    checkpoint: Checkpoint | None

    @property
    def is_booked(self) -> bool:
        """Everything in the stream is booked, and no batch is under way."""
        if self.checkpoint is None:
            return self.last_seq == 0
        is_idle = self.checkpoint.pending is None
        return is_idle and self.checkpoint.committed_seq >= self.last_seq


class Broker:
    """A look at NATS, past every proxy."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.jetstream: JetStreamContext = client.jetstream(timeout=60)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, installation: Installation) -> AsyncIterator["Broker"]:
        """A connection while the block lasts. Raises what nats-py raises."""
        client = await nats.connect(
            installation.nats_url, connect_timeout=60, allow_reconnect=False, error_cb=_ignore
        )
        try:
            yield cls(client)
        finally:
            await client.close()

    async def partitions(self) -> dict[int, PartitionStand]:
        """Every partition of the stream or of the checkpoints."""
        bucket = await self.jetstream.key_value(subjects.CHECKPOINTS_BUCKET)
        found = await self.counts()
        stands = {}
        for number in found:
            last = await self.jetstream.get_last_msg(
                subjects.EXCHANGES_STREAM, subjects.exchanges_subject(number)
            )
            checkpoint = None
            with contextlib.suppress(KeyNotFoundError):
                entry = await bucket.get(subjects.checkpoint_key(number))
                checkpoint = decode(entry.value or b"")
            stands[number] = PartitionStand(last.seq or 0, checkpoint)
        return stands

    async def counts(self) -> dict[int, int]:
        """Parcels in the stream, by partition."""
        info = await self.jetstream.stream_info(
            subjects.EXCHANGES_STREAM, subjects_filter=subjects.EXCHANGES_SUBJECTS
        )
        by_subject = info.state.subjects or {}
        return {int(name.rpartition(".")[2]): count for name, count in by_subject.items()}

    async def last_seq(self) -> int:
        """Of the stream."""
        info = await self.jetstream.stream_info(subjects.EXCHANGES_STREAM)
        return info.state.last_seq

    async def unread(self) -> list[int]:
        """Sequences of parcels with records that no checkpoint has reached."""
        found = []
        committed = {
            number: stand.checkpoint.committed_seq if stand.checkpoint else 0
            for number, stand in (await self.partitions()).items()
        }
        for seq in range(min(committed.values(), default=0) + 1, await self.last_seq() + 1):
            with contextlib.suppress(NotFoundError):
                message = await self.jetstream.get_msg(subjects.EXCHANGES_STREAM, seq)
                number = int((message.subject or "").rpartition(".")[2])
                headers = ParcelHeaders.from_headers(message.headers or {})
                if seq > committed.get(number, 0) and headers.count > 0:
                    found.append(seq)
        return found

    async def delete_parcel(self, seq: int) -> None:
        """Erase one message of the stream; it is overwritten, not only unlinked."""
        assert await self.jetstream.delete_msg(subjects.EXCHANGES_STREAM, seq)

    async def resize(self, bytes_max: int) -> None:
        """Another limit for the stream."""
        config = (await self.jetstream.stream_info(subjects.EXCHANGES_STREAM)).config
        await self.jetstream.update_stream(config.evolve(max_bytes=bytes_max))

    async def stream_bytes(self) -> int:
        """What the stream holds."""
        return (await self.jetstream.stream_info(subjects.EXCHANGES_STREAM)).state.bytes

    async def recreate_stream(self) -> None:
        """Delete the stream with everything in it and make it again, empty."""
        config = (await self.jetstream.stream_info(subjects.EXCHANGES_STREAM)).config
        await self.jetstream.delete_stream(subjects.EXCHANGES_STREAM)
        await self.jetstream.add_stream(config)


async def _ignore(_: Exception) -> None:
    pass


def _nats_paths(installation: Installation, part: Part) -> list[Path]:
    streams = installation.directory / "nats" / "store" / "jetstream" / "$G" / "streams"
    assert streams.is_dir(), f"{streams} is not where the streams lie"
    if part == "all":
        return [streams]
    name = {
        "stream": subjects.EXCHANGES_STREAM,
        "checkpoints": f"KV_{subjects.CHECKPOINTS_BUCKET}",
    }[part]
    return [streams / name]


def store_paths(installation: Installation, store: Literal["clickhouse"] | Part) -> list[Path]:
    """The directories of a store, or of a part of NATS's."""
    if store == "clickhouse":
        return [installation.directory / "clickhouse"]
    return _nats_paths(installation, store)


async def copy_aside(paths: list[Path], aside: Path) -> None:
    """Copy directories of a stopped server, links as links: the ledger's metadata are links."""
    for number, path in enumerate(paths):
        await asyncio.to_thread(shutil.copytree, path, aside / str(number), symlinks=True)


async def put_back(paths: list[Path], aside: Path) -> None:
    """Replace directories of a stopped server by their copies."""
    for number, path in enumerate(paths):
        await asyncio.to_thread(shutil.rmtree, path)
        await asyncio.to_thread(shutil.copytree, aside / str(number), path, symlinks=True)


def consumer_problems(installation: Installation) -> list[str]:
    """What metering's consumers say is wrong, from their state files."""
    problems: list[str] = []
    for path in sorted((installation.directory / "run").glob("metering-*.state.json")):
        state: dict[str, Any] = msgspec.json.decode(path.read_bytes())
        problems += [
            str(each["problem"]) for each in state["partitions"].values() if each["problem"]
        ]
    return problems


def consumer_progress(installation: Installation) -> dict[str, int]:
    """Metering's counters, summed over partitions and living consumers."""
    sums: dict[str, int] = {}
    for path in sorted((installation.directory / "run").glob("metering-*.state.json")):
        state: dict[str, Any] = msgspec.json.decode(path.read_bytes())
        for each in state["partitions"].values():
            for name, value in each["progress"].items():
                sums[name] = sums.get(name, 0) + int(value)
    return sums


def unshipped(installation: Installation) -> bool:
    """Whether a living worker of the gateway says that it holds what is not in the stream."""
    return any(
        state["journal"]["oldest_unshipped_age_s"] is not None
        for state in _worker_states(installation)
    )


def _worker_states(installation: Installation) -> list[dict[str, Any]]:
    paths = sorted((installation.directory / "run").glob("gateway-worker-*.state.json"))
    states: list[dict[str, Any]] = [msgspec.json.decode(path.read_bytes()) for path in paths]
    living = set(installation.pids("gateway-worker"))
    return [state for state in states if state["pid"] in living]


def busyness(installation: Installation) -> dict[int, int]:
    """Exchanges under way in each living worker of the gateway, a second ago at most, by pid."""
    return {
        int(state["pid"]): int(state["counts"]["in_flight"])
        for state in _worker_states(installation)
    }


def gateway_counts(installation: Installation) -> dict[str, int]:
    """The counters of the gateway's living workers and of their journals, summed."""
    sums: dict[str, int] = {}
    for state in _worker_states(installation):
        for name, value in {**state["counts"], **state["journal"]["counts"]}.items():
            sums[name] = sums.get(name, 0) + int(value)
    return sums
