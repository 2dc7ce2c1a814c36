"""The members' words in a key-value bucket whose entries expire."""

from collections.abc import Callable, Collection, Mapping
from typing import Final

import msgspec
from nats.js.errors import BucketNotFoundError, KeyNotFoundError, NoKeysError
from nats.js.kv import KeyValue

from contracts import subjects
from metering.adapters.nats_link import NatsLink, as_unavailable
from metering.ports import Clock, Refused
from metering.state import MemberReport, PartitionReport

_PREFIX: Final = "metering."
_BEGINNING: Final = PartitionReport("starting", 0, None, None, None)
_decode_report = msgspec.json.Decoder(MemberReport).decode


class NatsMembers:
    """metering.handover.Members for one member; `reports` says how its partitions stand."""

    def __init__(
        self,
        link: NatsLink,
        member: str,
        clock: Clock,
        reports: Callable[[], Mapping[int, PartitionReport]],
    ) -> None:
        self._link = link
        self._member = member
        self._clock = clock
        self._reports = reports

    async def say(self, held: Collection[int]) -> None:
        reports = self._reports()
        report = MemberReport(
            self._member,
            self._clock.now_ms(),
            {number: reports.get(number, _BEGINNING) for number in sorted(held)},
        )
        bucket = await open_bucket(self._link, subjects.MEMBERS_BUCKET)
        with as_unavailable():
            await bucket.put(_PREFIX + self._member, msgspec.json.encode(report))

    async def others(self) -> dict[str, frozenset[int]]:
        bucket = await open_bucket(self._link, subjects.MEMBERS_BUCKET)
        said: dict[str, frozenset[int]] = {}
        with as_unavailable():
            try:
                keys = await bucket.keys()
            except NoKeysError:
                return said
            for key in keys:
                member = key.removeprefix(_PREFIX)
                if not key.startswith(_PREFIX) or member == self._member:
                    continue
                try:
                    said[member] = _held((await bucket.get(key)).value)
                except KeyNotFoundError:
                    continue
        return said

    async def resign(self) -> None:
        """Be forgotten at once. Raises Unavailable, Refused."""
        bucket = await open_bucket(self._link, subjects.MEMBERS_BUCKET)
        with as_unavailable():
            await bucket.delete(_PREFIX + self._member)


def _held(content: bytes | None) -> frozenset[int]:
    """A word that cannot be read is a member that holds nothing."""
    try:
        return frozenset(_decode_report(content or b"").partitions)
    except msgspec.DecodeError:
        return frozenset()


async def open_bucket(link: NatsLink, name: str) -> KeyValue:
    """Raises Unavailable, Refused when there is none."""
    with as_unavailable():
        try:
            return await link.jetstream.key_value(name)
        except (BucketNotFoundError, KeyNotFoundError) as error:
            raise Refused(f"there is no bucket {name}: run `tollway migrate`") from error
