"""Tries one destination of a call after the other, until an answer is on its way to the client."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Final, NamedTuple

from gateway.account import Account, Try
from gateway.delivery import Delivery, Pieces, Stream, deliver_whole
from gateway.dispatch.headers import Down
from gateway.dispatch.keeping import Keeper
from gateway.dispatch.redaction import redacted, redacted_headers
from gateway.long_bodies import edited
from gateway.ports import (
    ConnectTimedOut,
    HeaderPairs,
    ResetBeforeResponse,
    UpstreamError,
    UpstreamRequest,
    UpstreamResponse,
)
from gateway.routing.attempts import retry_after_of
from gateway.routing.course import Course, Leg, Stop, Trip
from gateway.routing.health import speaks_against
from gateway.routing.targets import upstream_path
from gateway.values import Call, ClientLeft

_BODILESS: Final = frozenset({204, 304})
_WHOLE_ANSWER_BYTES_MAX: Final = 65_536
"""An answer that is no JSON and says that it is no longer than this is read whole all the same."""
_TURNED_DOWN_BYTES_MAX: Final = 1024 * 1024
"""Of an error's body that may become the client's answer after all."""


class TurnedDown(UpstreamError):
    """The provider's answer is a failure that another attempt may heal."""

    code = "turned_down"


class StepTimedOut(UpstreamError):
    """No first byte within the time of one attempt."""

    code = "step_timeout"
    is_timeout = True


class _Answer(NamedTuple):
    """An answer that was turned down, which is the client's when nothing better comes."""

    status: int
    down: Down
    content: bytes
    model: str | None


class Attempts:
    """Those of one exchange. `sent` is the body as the first destination gets it.

    `delivery` is the answer of which a part has gone down; `retry_after_s` the shortest time that a
    provider asked to wait.
    """

    __slots__ = (
        "_account",
        "_following",
        "_keeper",
        "_limit",
        "_sent",
        "_trip",
        "_turned_down",
        "delivery",
        "retry_after_s",
    )

    def __init__(self, account: Account, trip: Trip, sent: bytes, keeper: Keeper | None) -> None:
        self._account = account
        self._trip = trip
        self._sent = sent
        self._keeper = keeper
        self._following: Leg | None = None
        self._turned_down: _Answer | None = None
        self._limit: asyncio.Timeout | None = None
        self.delivery: Delivery | None = None
        self.retry_after_s: float | None = None

    def run(self) -> Coroutine[None, None, None]:
        """Raises UpstreamError when there is no answer for the client, ClientLeft without a client."""
        trip = self._trip
        return self._dispatch(trip.first) if trip.course is None else self._follow(trip.course)

    async def _follow(self, course: Course) -> None:
        """One attempt after the other. Raises as `run` does."""
        leg = course.first(time.monotonic())
        while True:
            try:
                await self._attempt(leg)
                return
            except UpstreamError as error:
                following = self._after(course, error)
                if following is None:
                    answer = self._turned_down
                    if answer is None or self._account.status:
                        raise
                    self.note_failure(error)
                    await deliver_whole(self._account, self._keeper, *answer)
                    return
                self.note_failure(error)
            if following.wait_s:
                await asyncio.sleep(following.wait_s)
            leg = following
            if leg.stop.edit is not None:
                self._sent = await edited(leg.stop.edit, self._account.asked.body or b"")

    def note_failure(self, error: UpstreamError) -> None:
        """A setting that cannot be reached rests; one that answered has been noted by its status."""
        account = self._account
        account.fail(error.code)
        if error.sent_nothing or isinstance(error, ResetBeforeResponse):
            account.means.health.failed(account.attempt.target.ref.setting_id)

    def _after(self, course: Course, error: UpstreamError) -> Leg | None:
        """What follows an attempt that failed; nothing once the client has seen a byte."""
        if self._account.status:
            return None
        if isinstance(error, TurnedDown):
            return self._following
        return course.after(error, time.monotonic(), None)

    async def _attempt(self, leg: Leg) -> None:
        """One of several. Raises UpstreamError."""
        health = self._account.means.health
        setting_id = leg.stop.target.ref.setting_id
        health.begin(setting_id)
        try:
            async with asyncio.timeout(leg.timeout_s) as self._limit:
                await self._dispatch(leg.stop)
        except TimeoutError:
            is_sent = self._account.attempt.is_sent
            raise (StepTimedOut if is_sent else ConnectTimedOut) from None
        finally:
            health.end(setting_id)

    async def _dispatch(self, stop: Stop) -> None:
        """Send the request, hand down the answer. Raises UpstreamError, ClientLeft."""
        account = self._account
        means, asked = account.means, account.asked
        target, endpoint, call = stop.target, stop.endpoint, asked.call
        if asked.reply.is_gone:
            raise ClientLeft
        attempt = account.begin(stop)
        body = self._sent
        strips = call.is_streaming and _needs_usage(stop, call, asked.inbound.query)
        if strips and endpoint.ask_usage is not None:
            body = await edited(endpoint.ask_usage, body)
            attempt.started_us = account.exchange.elapsed_us()
        path = upstream_path(target, endpoint.upstream_path)
        upload = None if asked.incoming is None else asked.incoming.upload
        response = await means.upstream.send(
            UpstreamRequest(
                target.origin,
                asked.inbound.method.encode("ascii"),
                path + b"?" + stop.query if stop.query else path,
                [*asked.head.forwarded, *target.auth_headers[endpoint.dialect]],
                body if upload is None else upload.pieces(),
                asked.timeout_s,
                content_length=None if upload is None else upload.sent_length,
                trail=attempt,
            )
        )
        try:
            attempt.first_byte_us = account.exchange.elapsed_us()
            down = self._begun(attempt, response)
            if self._trip.course is not None:
                await self._judge(attempt, response, down, self._trip.course)
            await self._deliver(attempt, response, down, strips=strips)
        finally:
            await response.close()

    def _begun(self, attempt: Try, response: UpstreamResponse) -> Down:
        """What the head of an answer says, for the client, the record and the setting's health."""
        health, target = self._account.means.health, attempt.target
        status = attempt.status = response.status
        down = Down(
            redacted_headers(response.headers, target.secrets),
            self._account.asked.request_id,
            is_error=status >= 400,
        )
        attempt.request_id = down.upstream_request_id
        if status < 400:
            if not health.is_clear:
                health.succeeded(target.ref.setting_id)
        elif speaks_against(status):
            health.failed(target.ref.setting_id, status, _retry_after(response.headers))
        return down

    async def _judge(
        self, attempt: Try, response: UpstreamResponse, down: Down, course: Course
    ) -> None:
        """Whether the answer is the client's. Raises TurnedDown when it is not."""
        if not course.turns_down(response.status):
            return
        retry_after_s = _retry_after(response.headers)
        if retry_after_s is not None:
            heard_s = self.retry_after_s
            self.retry_after_s = retry_after_s if heard_s is None else min(retry_after_s, heard_s)
        self._following = course.after(None, time.monotonic(), retry_after_s)
        if course.keeps_last_answer:
            if self._following is None:
                return
            try:
                content = await response.read(_TURNED_DOWN_BYTES_MAX)
            except UpstreamError:
                content = None
            if content is not None:
                content = redacted(content, attempt.target.secrets)
                self._turned_down = _Answer(response.status, down, content, attempt.model)
        raise TurnedDown

    async def _deliver(
        self, attempt: Try, response: UpstreamResponse, down: Down, *, strips: bool
    ) -> None:
        account, keeper, status = self._account, self._keeper, response.status
        if down.is_event_stream:
            stream = self.delivery = Stream(account, attempt.endpoint, strips=strips)
            pieces = await self._first_of(response)
            secrets = attempt.target.secrets
            await stream.run(status, down, pieces, secrets, keeper, attempt.model)
        elif (
            not down.is_json or attempt.endpoint.template.endswith("/content")
        ) and self._goes_down_in_pieces(status, down):
            download = self.delivery = Pieces(account)
            await download.run(status, down, await self._first_of(response))
        else:
            content = await response.read(account.means.limits.response_body_bytes_max)
            if status >= 400:
                content = redacted(content, attempt.target.secrets)
            if self._limit is not None:
                self._limit.reschedule(None)
            await deliver_whole(account, keeper, status, down, content, attempt.model)

    def _goes_down_in_pieces(self, status: int, down: Down) -> bool:
        """Whether an answer in which there is no usage is passed on without being held."""
        if status >= 400 or status in _BODILESS or self._keeper is not None:
            return False
        if self._account.asked.inbound.method == "HEAD":
            return False
        return down.length_bytes is None or down.length_bytes > _WHOLE_ANSWER_BYTES_MAX

    async def _first_of(self, response: UpstreamResponse) -> AsyncIterator[bytes]:
        """The pieces of an answer; where it can fail over, once the first of them is here.

        From then on only the whole exchange has a limit.
        """
        pieces = response.chunks()
        if self._limit is None:
            return pieces
        first = await anext(pieces, b"")
        self._limit.reschedule(None)
        return _behind(first, pieces)


async def _behind(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for piece in pieces:
        yield piece


def _needs_usage(stop: Stop, call: Call, query: bytes) -> bool:
    """Whether a stream reports its usage only if it is asked to, and the client did not."""
    endpoint = stop.endpoint
    return (
        not call.asks_usage
        and endpoint.ask_usage is not None
        and stop.target.asks_usage_on_streams
        and (endpoint.can_report_usage is None or endpoint.can_report_usage(query))
    )


def _retry_after(headers: HeaderPairs) -> float | None:
    """What the first such header says."""
    value = next((value for name, value in headers if name.lower() == b"retry-after"), None)
    return retry_after_of(value)
