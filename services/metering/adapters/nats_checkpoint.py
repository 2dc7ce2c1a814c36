"""Checkpoints in a key-value bucket: compare-and-set by revision, read from the leader only."""

from typing import Final

import msgspec
from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue

from contracts import subjects
from contracts.checkpoint import Checkpoint, decode, encode
from metering.adapters.nats_link import NatsLink, as_unavailable
from metering.ports import Refused

BUCKET_STREAM: Final = f"KV_{subjects.CHECKPOINTS_BUCKET}"
_LOST_SUBJECTS: Final = f"$KV.{subjects.CHECKPOINTS_BUCKET}.lost.*"


class NatsCheckpoints:
    """metering.ports.Checkpoints for one partition."""

    def __init__(self, link: NatsLink, bucket: KeyValue, partition: int) -> None:
        self._link = link
        self._bucket = bucket
        self._key = subjects.checkpoint_key(partition)
        self._partition = partition

    async def read(self) -> tuple[Checkpoint | None, int]:
        with as_unavailable():
            try:
                entry = await self._bucket.get(self._key)
            except KeyNotFoundError as missing:
                deleted = missing.entry
                return None, 0 if deleted is None else deleted.revision or 0
        try:
            return decode(entry.value or b""), entry.revision or 0
        except msgspec.DecodeError as error:
            raise Refused(
                f"partition {self._partition}: its checkpoint cannot be read ({error}); run "
                f"`tollway resync {self._partition}` to make it anew from the ledger"
            ) from error

    async def write(self, checkpoint: Checkpoint, revision: int) -> int:
        with as_unavailable():
            return await self._bucket.update(self._key, encode(checkpoint), last=revision)

    async def lost(self) -> frozenset[bytes]:
        with as_unavailable():
            info = await self._link.jetstream.stream_info(
                BUCKET_STREAM, subjects_filter=_LOST_SUBJECTS
            )
        names = (subject.rsplit(".", 1)[1] for subject in info.state.subjects or {})
        return frozenset(bytes.fromhex(name) for name in names if len(name) == 32)

    async def created_at_ms(self) -> int:
        with as_unavailable():
            info = await self._link.jetstream.stream_info(BUCKET_STREAM)
        assert info.created is not None
        return int(info.created.timestamp() * 1000)
