"""The parcel stream by stateless direct gets: a sequence and a subject in, a chained batch out.

Each answer names the one before it (`Nats-Last-Sequence`), so a lost one shows at once; there is
no consumer whose position could run ahead of what was received.
"""

import asyncio
import re
from datetime import datetime
from typing import Final

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.errors import NotFoundError

from contracts import subjects
from contracts.records import ParcelHeaders
from metering.adapters.nats_link import NatsLink, as_unavailable
from metering.ports import DeadLetter, Message, Refused, StreamState, Unavailable

_GET: Final = f"$JS.API.DIRECT.GET.{subjects.EXCHANGES_STREAM}"
_MESSAGES_PER_GET: Final = 256
_BYTES_PER_GET: Final = 4 * 1024 * 1024
_GETS_AT_ONCE: Final = 4
"""The server closes a connection that owes it 64 MB of reading, and a process that builds a batch
does not read meanwhile: so all partitions together ask for no more than a quarter of that."""

_LETTER_BYTES_MAX: Final = 8 << 20
"""The largest message of the stream of dead letters, headers included."""

_TRIES: Final = 3
_PENDING_BYTES_MAX: Final = 512 * 1024 * 1024
_END_OF_BATCH: Final = "204"
_NOT_FOUND: Final = "404"
_NUMBER: Final = re.compile("0|[1-9][0-9]{0,4}")
_PARTITION_MAX: Final = 65_535
"""What a row of the ledger holds; a subject beyond it is a stranger's."""


class _Broken(Exception):
    """Answers are missing; the request is worth repeating."""


class DirectReader:
    """Batches of messages by sequence and subject, any partition's; one a process."""

    def __init__(self, link: NatsLink) -> None:
        self._link = link
        self._inbox = link.client.new_inbox()
        self._waiting: dict[str, asyncio.Queue[Msg | None]] = {}
        link.on_lost.append(self._on_lost)
        self._subscription: Subscription | None = None
        self._number = 0
        self._gets = asyncio.Semaphore(_GETS_AT_ONCE)
        self.left = 0
        """Messages of the subject behind the newest batch."""

    async def get(self, subject: str, first_seq: int, bytes_max: int) -> list[Msg]:
        """Messages of `subject` from `first_seq` on, chained; empty when there is none.

        Raises Unavailable when the chain stays broken.
        """
        request = {
            "seq": max(first_seq, 1),
            "next_by_subj": subject,
            "batch": _MESSAGES_PER_GET,
            "max_bytes": min(max(bytes_max, 1), _BYTES_PER_GET),
        }
        return await self._ask(request)

    async def first_at(self, subject: str, at: str) -> int | None:
        """The sequence of the first message at or after an RFC 3339 instant."""
        found = await self._ask({"start_time": at, "next_by_subj": subject, "batch": 1})
        return int(found[0].headers["Nats-Sequence"]) if found and found[0].headers else None

    async def first_from(self, subject: str, seq: int) -> int | None:
        """The sequence of the subject's first message at or after a sequence."""
        found = await self._ask({"seq": max(seq, 1), "next_by_subj": subject, "batch": 1})
        return int(found[0].headers["Nats-Sequence"]) if found and found[0].headers else None

    async def _ask(self, request: dict[str, object]) -> list[Msg]:
        failure: Exception | None = None
        for _ in range(_TRIES):
            try:
                with as_unavailable():
                    async with self._gets:
                        return await self._ask_once(msgspec.json.encode(request))
            except _Broken as broken:
                failure = broken
        raise Unavailable(f"NATS: {failure} (direct get {request})")

    async def _ask_once(self, request: bytes) -> list[Msg]:
        if self._subscription is None:
            self._subscription = await self._link.client.subscribe(
                f"{self._inbox}.*",
                cb=self._on_message,
                pending_msgs_limit=1_000_000,
                pending_bytes_limit=_PENDING_BYTES_MAX,
            )
        self._number += 1
        reply = f"{self._inbox}.{self._number}"
        answers: asyncio.Queue[Msg | None] = asyncio.Queue()
        self._waiting[reply] = answers
        try:
            await self._link.client.publish(_GET, request, reply=reply)
            return await self._collect(answers)
        finally:
            del self._waiting[reply]

    async def _collect(self, answers: "asyncio.Queue[Msg | None]") -> list[Msg]:
        messages: list[Msg] = []
        previous_seq = "0"
        while True:
            async with asyncio.timeout(self._link.timeout_s):
                answer = await answers.get()
            if answer is None:
                raise _Broken("the connection was lost")
            headers = answer.headers or {}
            # Only of an answer that is no message: whoever publishes one may write any header.
            status = None if "Nats-Sequence" in headers else headers.get("Status", "none")
            if status == _NOT_FOUND:
                self.left = 0
                return []
            if status is not None and status != _END_OF_BATCH:
                raise _Broken(f"the server answers {status}")
            if headers.get("Nats-Last-Sequence") != previous_seq:
                raise _Broken(f"an answer after sequence {previous_seq} is missing")
            if status == _END_OF_BATCH:
                self.left = int(headers.get("Nats-Num-Pending", "0"))
                return messages
            previous_seq = headers["Nats-Sequence"]
            messages.append(answer)

    def _on_lost(self) -> None:
        for answers in self._waiting.values():
            answers.put_nowait(None)

    async def _on_message(self, message: Msg) -> None:
        answers = self._waiting.get(message.subject)
        if answers is not None:
            answers.put_nowait(message)


class NatsPartitionStream:
    """metering.ports.Stream for one partition."""

    def __init__(self, link: NatsLink, reader: DirectReader, partition: int) -> None:
        self._link = link
        self._reader = reader
        self._partition = partition
        self._subject = subjects.exchanges_subject(partition)
        self.pending_messages: int | None = None
        """Messages that were waiting when the stream was last read."""

    async def state(self) -> StreamState:
        try:
            with as_unavailable():
                info = await self._link.jetstream.stream_info(subjects.EXCHANGES_STREAM)
        except Unavailable as error:
            raise _without_stream(error) from error
        assert info.created is not None
        return StreamState(info.created.isoformat(), info.state.first_seq, info.state.last_seq)

    async def read(self, first_seq: int, bytes_max: int) -> list[Message]:
        found = await self._reader.get(self._subject, first_seq, bytes_max)
        self.pending_messages = self._reader.left + len(found)
        return [_message(each) for each in found]

    async def ask_again(self, incarnation: bytes, offset: int) -> None:
        try:
            with as_unavailable():
                await self._link.client.publish(
                    subjects.resend_subject(incarnation), msgspec.json.encode({"offset": offset})
                )
        except Unavailable:
            return

    async def republish(self, message: Message) -> None:
        assert message.headers is not None
        with as_unavailable():
            await self._link.jetstream.publish(
                self._subject, message.content, headers=message.headers.to_headers()
            )

    async def dead_letter(self, letter: DeadLetter) -> None:
        # The server forgets message ids within moments: whoever reads takes one per identity.
        headers = {
            "Nats-Msg-Id": letter.identity,
            "Tw-Identity": letter.identity,
            "Tw-Reason": " ".join(letter.reason.split())[:500],
            "Tw-Offset": str(letter.offset),
            "Tw-Sequence": str(letter.seq),
            "Tw-Partition": str(self._partition),
        }
        if letter.incarnation is not None:
            headers["Tw-Incarnation"] = letter.incarnation.hex()
        content = letter.content
        room = min(self._link.client.max_payload, _LETTER_BYTES_MAX) - _head_bytes(headers)
        if len(content) > room:
            # A stranger's message of the largest size: refused, it would stop the partition.
            headers["Tw-Cut-From"] = str(len(content))
            content = content[: room - _head_bytes({"Tw-Cut-From": str(len(content))})]
        with as_unavailable():
            await self._link.jetstream.publish(
                subjects.dead_letters_subject(self._partition), content, headers=headers
            )


def _head_bytes(headers: dict[str, str]) -> int:
    """The most that headers take of a message."""
    return 64 + sum(len(name) + len(text.encode()) + 4 for name, text in headers.items())


async def found_partitions(link: NatsLink) -> set[int]:
    """The partitions that have messages in the stream. Raises Unavailable, Refused."""
    try:
        with as_unavailable():
            info = await link.jetstream.stream_info(
                subjects.EXCHANGES_STREAM, subjects_filter=subjects.EXCHANGES_SUBJECTS
            )
    except Unavailable as error:
        raise _without_stream(error) from error
    names = (subject.rsplit(".", 1)[1] for subject in info.state.subjects or {})
    return {int(name) for name in names if _NUMBER.fullmatch(name) and int(name) <= _PARTITION_MAX}


def _without_stream(error: Unavailable) -> Unavailable | Refused:
    if isinstance(error.__cause__, NotFoundError):
        return Refused(f"there is no stream {subjects.EXCHANGES_STREAM}: run `tollway migrate`")
    return error


def _message(answer: Msg) -> Message:
    headers = answer.headers or {}
    try:
        parcel = ParcelHeaders.from_headers(headers)
    except (KeyError, ValueError):
        parcel = None
    return Message(
        int(headers["Nats-Sequence"]),
        parcel,
        answer.data,
        int(datetime.fromisoformat(headers["Nats-Time-Stamp"]).timestamp() * 1000),
    )
