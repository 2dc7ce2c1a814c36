"""The members' words in a key-value bucket whose entries expire."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec
from nats.js.errors import BucketNotFoundError, KeyNotFoundError
from nats.js.kv import KeyValue

from contracts import subjects
from metering.adapters.nats_link import NatsLink, as_unavailable
from metering.handover import Word
from metering.ports import Clock, Refused
from metering.state import MemberReport, PartitionReport
from runtime.processes import birth_mark, is_same

_PREFIX: Final = "metering."
_BUCKET_STREAM: Final = f"KV_{subjects.MEMBERS_BUCKET}"
_SUBJECTS: Final = f"$KV.{subjects.MEMBERS_BUCKET}.{_PREFIX}"
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
        self._birth = birth_mark(os.getpid())
        self._place = _place(self._birth)

    async def say(self, word: Word) -> None:
        reports = self._reports()
        report = MemberReport(
            self._member,
            self._clock.now_ms(),
            {number: reports.get(number, _BEGINNING) for number in sorted(word.held)},
            os.getpid(),
            self._birth,
            self._place,
            tuple(sorted(word.known)),
        )
        bucket = await open_bucket(self._link, subjects.MEMBERS_BUCKET)
        with as_unavailable():
            await bucket.put(_PREFIX + self._member, msgspec.json.encode(report))

    async def others(self) -> dict[str, Word]:
        bucket = await open_bucket(self._link, subjects.MEMBERS_BUCKET)
        said: dict[str, Word] = {}
        with as_unavailable():
            # The library's list of keys waits without a limit, and leaves a consumer behind that
            # the server keeps for minutes.
            info = await self._link.jetstream.stream_info(
                _BUCKET_STREAM, subjects_filter=f"{_SUBJECTS}>"
            )
            for subject in info.state.subjects or {}:
                member = subject.removeprefix(_SUBJECTS)
                if member == self._member:
                    continue
                try:
                    report = _report((await bucket.get(_PREFIX + member)).value)
                except KeyNotFoundError:
                    continue
                if report is None:
                    said[member] = Word(frozenset(), frozenset())
                elif not self._is_dead(report):
                    said[member] = Word(frozenset(report.partitions), frozenset(report.known))
        return said

    def _is_dead(self, report: MemberReport) -> bool:
        """A process of this machine that is gone need not be waited for until its word expires."""
        is_near = self._place is not None and report.place == self._place
        return is_near and not is_same(report.pid, report.birth)

    async def resign(self) -> None:
        """Be forgotten at once. Raises Unavailable, Refused."""
        bucket = await open_bucket(self._link, subjects.MEMBERS_BUCKET)
        with as_unavailable():
            await bucket.delete(_PREFIX + self._member)


def _report(content: bytes | None) -> MemberReport | None:
    """A word that cannot be read is that of a member that holds nothing."""
    try:
        return _decode_report(content or b"")
    except msgspec.DecodeError:
        return None


def _place(birth: str | None) -> str | None:
    """This boot of this machine, and which processes are seen here: containers see their own."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None
    return None if birth is None else f"{birth.partition(':')[0]} {namespace}"


async def open_bucket(link: NatsLink, name: str) -> KeyValue:
    """Raises Unavailable, Refused when there is none."""
    with as_unavailable():
        try:
            return await link.jetstream.key_value(name)
        except (BucketNotFoundError, KeyNotFoundError) as error:
            raise Refused(f"there is no bucket {name}: run `tollway migrate`") from error
