"""From admission to completion: dispatch, relay and the record of an exchange's end.

The guarantees named in `exchange` are kept here, at the numbered comments.
"""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final, NamedTuple, NoReturn

import msgspec

from contracts.exchange import Attempt, Body, Outcome
from gateway.dispatch.deadlines import Deadlines
from gateway.dispatch.headers import Down
from gateway.dispatch.keeping import CACHE_MISS, Gathered, Keeper
from gateway.dispatch.redaction import StreamRedactor, redacted, redacted_headers
from gateway.dispatch.relay import Transcript, UsageStripper
from gateway.dispatch.uploads import Kept, Upload
from gateway.endpoints.forms import FormReader, known_so_far
from gateway.identity.query import without_credentials
from gateway.ports import (
    ConnectFailed,
    ConnectTimedOut,
    HeaderPairs,
    JournalUnavailable,
    ResetBeforeResponse,
    ResponseCache,
    ResponseCut,
    Upstream,
    UpstreamError,
    UpstreamRequest,
    UpstreamResponse,
)
from gateway.recording.record import Exchange, body_for_event, usage_only, without_content
from gateway.routing.attempts import retry_after_of
from gateway.routing.course import Course, Leg, Stop
from gateway.routing.health import Health, speaks_against
from gateway.routing.plan import Choice
from gateway.routing.targets import upstream_path
from gateway.telemetry import Counters, Tallies
from gateway.values import (
    Call,
    ClientLeft,
    Endpoint,
    Head,
    Inbound,
    Principal,
    Refusal,
    Reply,
    cut_short,
)

_THREAD_BYTES: Final = 256 * 1024
"""Bodies longer than this are hashed and cut in a thread, so that nobody else waits."""


_BODILESS: Final = frozenset({204, 304})
_WHOLE_ANSWER_BYTES_MAX: Final = 65_536
"""An answer that is no JSON and says that it is no longer than this is read whole all the same."""
_TURNED_DOWN_BYTES_MAX: Final = 1024 * 1024
"""Of an error's body that may become the client's answer after all."""


class Limits(msgspec.Struct, frozen=True):
    """The corridor's limits; names as in the settings table."""

    request_body_bytes_max: int
    multipart_body_bytes_max: int
    request_headers_bytes_max: int
    response_body_bytes_max: int
    event_body_bytes_max: int
    stream_hold_bytes_max: int
    proxy_timeout_s: float
    keeps_bodies: bool
    drains_when_client_gone: bool
    serves_unmetered: bool
    drops_user_agent: bool
    opens_accounts: bool


class Means(msgspec.Struct, frozen=True):
    """What an exchange needs on its way."""

    upstream: Upstream
    counters: Counters
    tallies: Tallies
    deadlines: Deadlines
    limits: Limits
    show_error_event: Callable[[Endpoint, Refusal, bytes], bytes]
    health: Health = msgspec.field(default_factory=Health)
    draw: Callable[[], float] = random.Random().random
    cache: ResponseCache | None = None


class BrokenAnswer(Exception):
    """The answer broke after its first byte: the connection is closed without a clean end."""


class Incoming(NamedTuple):
    """A request body that is not held in memory, and the form that is read of it on its way."""

    upload: Upload
    form: FormReader | None


class TurnedDown(UpstreamError):
    """The provider's answer is a failure that another attempt may heal."""

    code = "turned_down"


class StepTimedOut(UpstreamError):
    """No first byte within the time of one attempt."""

    code = "step_timeout"
    is_timeout = True


async def body_in_event(content: bytes, bytes_max: int) -> Body:
    """A body as it travels in an event; long ones are cut in a thread."""
    length = len(content)
    if length <= bytes_max:
        return Body(content, length, None)
    if length <= _THREAD_BYTES:
        return body_for_event(content, bytes_max)
    return await asyncio.to_thread(body_for_event, content, bytes_max)


async def _without_content(body: Body, content: bytes) -> Body:
    """A body without its content; long ones are hashed in a thread."""
    if body.sha256 is None and len(content) > _THREAD_BYTES:
        return await asyncio.to_thread(without_content, body, content)
    return without_content(body, content)


def metering_unavailable() -> Refusal:
    """503: nothing can be kept at the moment."""
    return Refusal(
        503,
        "api_error",
        "metering_unavailable",
        "usage cannot be recorded at the moment; try again later",
        retry_after_s=5,
    )


def shutting_down() -> Refusal:
    """503: the gateway stopped before it had an answer; another one is there to be asked."""
    return Refusal(
        503, "api_error", "shutting_down", "the gateway is stopping; try again", retry_after_s=1
    )


async def edited(edit: Callable[[bytes], bytes], body: bytes) -> bytes:
    """A body with a splice; long ones are edited in a thread."""
    return await asyncio.to_thread(edit, body) if len(body) > _THREAD_BYTES else edit(body)


def _upstream_refusal(error: UpstreamError, retry_after_s: float | None) -> Refusal:
    if error.is_timeout:
        return Refusal(504, "api_error", "upstream_timeout", "the provider did not answer in time")
    return Refusal(
        502,
        "api_error",
        "upstream_unavailable",
        "the provider gave no usable answer",
        retry_after_s=None if retry_after_s is None else math.ceil(retry_after_s),
    )


class _Answer(NamedTuple):
    """An answer that was turned down, which is the client's when nothing better comes."""

    status: int
    down: Down
    content: bytes


class Passage:
    """An admitted exchange: dispatch, relay, completion."""

    __slots__ = (
        "_attempt_error",
        "_attempt_status",
        "_body",
        "_call",
        "_course",
        "_dispatched_us",
        "_earlier",
        "_endpoint",
        "_exchange",
        "_first_byte_us",
        "_following",
        "_head",
        "_inbound",
        "_incoming",
        "_is_client_gone",
        "_is_complete",
        "_is_stream",
        "_keeper",
        "_kept",
        "_last_pieces",
        "_limit",
        "_means",
        "_model",
        "_principal",
        "_query",
        "_request_id",
        "_retry_after_s",
        "_sent",
        "_status",
        "_target",
        "_turned_down",
        "is_sent",
    )

    def __init__(
        self,
        means: Means,
        exchange: Exchange,
        inbound: Inbound,
        endpoint: Endpoint,
        principal: Principal,
        call: Call,
        choice: Choice,
        head: Head,
        body: bytes,
        sent: bytes,
        course: Course | None = None,
        keeper: Keeper | None = None,
        incoming: Incoming | None = None,
    ) -> None:
        """`body` as the client sent it, which is recorded; `sent` as the provider gets it.

        In the place of both, `incoming` is a body that is passed on in pieces.

        `course` says where the call goes on to when it fails, from `choice` and `sent`, its first
        stop.
        """
        self._means = means
        self._inbound = inbound
        self._exchange = exchange
        self._endpoint = endpoint
        self._principal = principal
        self._call = call
        self._target, self._model = choice.target, choice.model
        self._course = course
        self._keeper = keeper
        self._incoming = incoming
        self._kept: Kept | None = None
        self._query: bytes | None = None
        self._earlier: tuple[Attempt, ...] = ()
        self._retry_after_s: float | None = None
        self._head = head
        self._body = body
        self._sent = sent
        self._is_complete = False
        self._is_stream = False
        self._is_client_gone = False
        self._last_pieces = (b"", b"")
        self._status = 0
        self._attempt_status: int | None = None
        self._attempt_error: str | None = None
        self._first_byte_us: int | None = None
        self._request_id: str | None = None
        self._dispatched_us = 0
        self.is_sent = False

    async def run(self, reply: Reply, timeout_s: float) -> None:
        """Raises Refusal while nothing has gone out; afterwards a broken answer is an exception."""
        means = self._means
        counters = means.counters
        try:
            # Guarantee 1: the admission is kept before the provider hears of it.
            self._exchange.admit(self._target.ref, int(timeout_s * 1000))
        except JournalUnavailable:
            if not means.limits.serves_unmetered:
                counters.metering_unavailable += 1
                raise metering_unavailable() from None
            counters.unmetered += 1
            self._exchange.forget_journal()
        try:
            await self._carry(reply, timeout_s)
        except JournalUnavailable:
            # Guarantee 2, the other way: what cannot be recorded is not finished.
            counters.broken_for_journal += 1
            if self._status:
                raise
            raise metering_unavailable() from None

    async def _carry(self, reply: Reply, timeout_s: float) -> None:
        """Dispatch, relay, and the record of however that ends. Raises what `run` says."""
        means = self._means
        counters = means.counters
        transcript = Transcript(means.limits.event_body_bytes_max)
        try:
            await self._in_time(reply, transcript, timeout_s)
        except UpstreamError as error:
            self._attempt_error = error.code
            self._note_failure(error)
            outcome: Outcome = "timed_out" if error.is_timeout else "upstream_failed"
            await self._fail(
                outcome, _upstream_refusal(error, self._retry_after_s), transcript, reply
            )
        except TimeoutError:
            self._attempt_error = "proxy_timeout" if self.is_sent else ConnectTimedOut.code
            refusal = Refusal(
                504, "api_error", "upstream_timeout", "the provider did not answer in time"
            )
            await self._fail("timed_out", refusal, transcript, reply)
        except ClientLeft:
            # In the middle of its body, or while it waited: nothing more is asked of a provider.
            self._attempt_error = self._attempt_error or self._given_up("client_left")
            self._complete("client_left", self._status, "client_left", transcript)
            if not reply.is_gone:
                raise cut_short() from None
        except Refusal as refusal:
            # Of a body that is looked at on its way, as too long.
            self._attempt_error = refusal.code
            counters.refused += 1
            self._complete("refused", refusal.status, refusal.code, transcript)
            raise
        except JournalUnavailable:
            raise
        except asyncio.CancelledError:
            # Guarantee 3 on a stop: the record says why there is no whole answer.
            self._attempt_error = self._attempt_error or self._given_up("shutting_down")
            self._complete("shutting_down", self._status or 503, "shutting_down", transcript)
            if self._status:
                await self._say(shutting_down(), reply)
                raise
            raise shutting_down() from None
        except BaseException as error:
            self._attempt_error = self._attempt_error or "internal"
            counters.internal += 1
            self._complete("upstream_failed", self._status, type(error).__name__, transcript)
            raise

    async def _in_time(self, reply: Reply, transcript: Transcript, timeout_s: float) -> None:
        """Dispatch and relay.

        Raises TimeoutError when that takes longer than the client may wait, ClientLeft when nobody
        waits any more.
        """
        task = asyncio.current_task()
        assert task is not None
        deadlines = self._means.deadlines
        drains = self._means.limits.drains_when_client_gone
        deadlines.arm(task, timeout_s, None if drains else reply)
        try:
            if self._course is None:
                await self._dispatch(reply, transcript, timeout_s)
            else:
                await self._in_turn(self._course, reply, transcript, timeout_s)
        except asyncio.CancelledError:
            reason = deadlines.disarm(task)
            if reason is None:
                raise
            task.uncancel()
            raise reason from None
        finally:
            deadlines.disarm(task)

    async def _in_turn(
        self, course: Course, reply: Reply, transcript: Transcript, timeout_s: float
    ) -> None:
        """One attempt after the other until one has its first byte on the way to the client.

        Raises the last one's UpstreamError when there is no answer for the client.
        """
        self._turned_down: _Answer | None = None
        leg = course.first(time.monotonic())
        self._head_for(leg.stop)
        while True:
            self._following: Leg | None = None
            try:
                await self._attempt(leg, reply, transcript, timeout_s)
                return
            except UpstreamError as error:
                if self._status:
                    raise
                following = self._following
                self._attempt_error = error.code
                if not isinstance(error, TurnedDown):
                    following = course.after(error, time.monotonic(), None)
                if following is None and self._turned_down is None:
                    raise
                self._note_failure(error)
                if following is None:
                    assert self._turned_down is not None
                    await self._hand_over(*self._turned_down, reply)
                    return
            failed = self._attempt_facts()
            if following.wait_s:
                await asyncio.sleep(following.wait_s)
            if reply.is_gone:
                raise ClientLeft
            self._earlier = (*self._earlier, failed)
            leg = following
            self._head_for(leg.stop)
            if leg.stop.edit is not None:
                self._sent = await edited(leg.stop.edit, self._body)

    def _head_for(self, stop: Stop) -> None:
        """The next attempt goes there."""
        self._target, self._model = stop.target, stop.model
        self._endpoint = stop.endpoint
        self._query = stop.query
        self._attempt_status = self._attempt_error = None
        self._first_byte_us = self._request_id = None
        self._dispatched_us = self._exchange.elapsed_us()

    async def _attempt(
        self, leg: Leg, reply: Reply, transcript: Transcript, timeout_s: float
    ) -> None:
        """One of several. Raises UpstreamError."""
        health = self._means.health
        setting_id = leg.stop.target.ref.setting_id
        health.begin(setting_id)
        try:
            async with asyncio.timeout(leg.timeout_s) as self._limit:
                await self._dispatch(reply, transcript, timeout_s)
        except TimeoutError:
            raise (StepTimedOut if self.is_sent else ConnectTimedOut) from None
        finally:
            health.end(setting_id)

    async def _judge(self, response: UpstreamResponse, down: Down, course: Course) -> None:
        """Whether the answer is the client's. Raises TurnedDown when it is not."""
        if not course.turns_down(response.status):
            return
        retry_after_s = retry_after_of(_value_of(response.headers, b"retry-after"))
        if retry_after_s is not None:
            heard_s = self._retry_after_s
            self._retry_after_s = retry_after_s if heard_s is None else min(retry_after_s, heard_s)
        self._following = course.after(None, time.monotonic(), retry_after_s)
        if course.keeps_last_answer:
            if self._following is None:
                return
            try:
                content = await response.read(_TURNED_DOWN_BYTES_MAX)
            except UpstreamError:
                content = None
            if content is not None:
                content = redacted(content, self._target.secrets)
                self._turned_down = _Answer(response.status, down, content)
        raise TurnedDown

    def _note_failure(self, error: UpstreamError) -> None:
        """A setting that cannot be reached rests; one that answered has been noted by its status."""
        if error.sent_nothing or isinstance(error, ResetBeforeResponse):
            self._means.health.failed(self._target.ref.setting_id)

    async def _begun(self, response: UpstreamResponse) -> AsyncIterator[bytes]:
        """The pieces of a stream, once the first of them is here: until then it may yet fail over."""
        pieces = response.chunks()
        first = await anext(pieces, b"")
        self._lift_limit()

        async def all_pieces() -> AsyncIterator[bytes]:
            if first:
                yield first
            async for piece in pieces:
                yield piece

        return all_pieces()

    def _lift_limit(self) -> None:
        """From the first byte on, only the whole exchange has a limit."""
        self._limit.reschedule(None)

    async def _dispatch(self, reply: Reply, transcript: Transcript, timeout_s: float) -> None:
        inbound = self._inbound
        means, target, call = self._means, self._target, self._call
        body = self._sent
        strips = False
        endpoint = self._endpoint
        if (
            call.is_streaming
            and not call.asks_usage
            and endpoint.ask_usage is not None
            and target.asks_usage_on_streams
            and (endpoint.can_report_usage is None or endpoint.can_report_usage(inbound.query))
        ):
            body = await edited(endpoint.ask_usage, body)
            strips = True
        path = upstream_path(target, endpoint.upstream_path)
        query = self._query
        if query is None:
            query = without_credentials(inbound.query) if inbound.query else b""
        upload = None if self._incoming is None else self._incoming.upload
        request = UpstreamRequest(
            target.origin,
            inbound.method.encode("ascii"),
            path + b"?" + query if query else path,
            [*self._head.forwarded, *target.auth_headers[endpoint.dialect]],
            body if upload is None else upload.pieces(),
            timeout_s,
            content_length=None if upload is None else upload.sent_length,
            trail=self,
        )
        self.is_sent = False
        self._dispatched_us = self._exchange.elapsed_us()
        response = await means.upstream.send(request)
        try:
            self._first_byte_us = self._exchange.elapsed_us()
            self._attempt_status = response.status
            down = Down(
                redacted_headers(response.headers, target.secrets),
                _id_text(self._exchange.event_id),
                is_error=response.status >= 400,
            )
            self._request_id = down.upstream_request_id
            if response.status >= 400:
                if speaks_against(response.status):
                    retry_after_s = retry_after_of(_value_of(response.headers, b"retry-after"))
                    means.health.failed(target.ref.setting_id, response.status, retry_after_s)
            elif not means.health.is_clear:
                means.health.succeeded(target.ref.setting_id)
            if self._course is not None:
                await self._judge(response, down, self._course)
            if down.is_event_stream:
                await self._relay(response, down, reply, transcript, strips)
            elif (
                not down.is_json or endpoint.template.endswith("/content")
            ) and self._goes_down_in_pieces(response, down):
                await self._pass_down(response, down, reply)
            else:
                await self._answer(response, down, reply)
        finally:
            await response.close()

    def _goes_down_in_pieces(self, response: UpstreamResponse, down: Down) -> bool:
        """Whether an answer in which there is no usage is passed on without being held."""
        if response.status >= 400 or response.status in _BODILESS:
            return False
        if self._inbound.method == "HEAD" or self._keeper is not None:
            return False
        return down.length_bytes is None or down.length_bytes > _WHOLE_ANSWER_BYTES_MAX

    async def _pass_down(self, response: UpstreamResponse, down: Down, reply: Reply) -> None:
        """Sound, pictures, files: piece by piece; the last byte waits for the record."""
        pieces = response.chunks() if self._course is None else await self._begun(response)
        limits = self._means.limits
        self._kept = kept = Kept(limits.event_body_bytes_max)
        left = down.length_bytes
        if left is not None:
            down.headers.append((b"content-length", b"%d" % left))
        self._status = response.status
        self._exchange.first_byte_us = self._exchange.elapsed_us()
        await reply.start(response.status, down.headers)
        last = b""
        outcome: Outcome = "answered"
        try:
            async for content in pieces:
                if reply.is_gone:
                    outcome = "client_left"
                    break
                kept.add(content)
                if left is not None:
                    left -= len(content)
                    if left <= 0:
                        last += content
                        continue
                await reply.piece(content)
            if reply.is_gone:
                outcome = "client_left"
            elif left:
                raise ResponseCut("the body is not as long as its head said")
            error = "client_left" if outcome == "client_left" else None
            request = await self._request_in_event()
            # Guarantee 2: the record before the last byte.
            self._record(
                outcome, self._status, error, request, kept.body(), down.content_type, None
            )
            if outcome == "answered":
                if last:
                    await reply.piece(last)
                await reply.end()
        finally:
            self._is_client_gone = reply.is_gone

    async def _request_in_event(self) -> Body:
        """The client's body as it travels in the event."""
        if self._incoming is not None:
            return self._incoming.upload.kept.body()
        return await body_in_event(self._body, self._means.limits.event_body_bytes_max)

    async def _without_request(self, request: Body) -> Body:
        """The same without its content."""
        if self._incoming is not None:
            return self._incoming.upload.kept.body(keeps_content=False)
        return await _without_content(request, self._body)

    async def _answer(self, response: UpstreamResponse, down: Down, reply: Reply) -> None:
        """An answer that is no stream: read whole, recorded, then sent in one go."""
        content = await response.read(self._means.limits.response_body_bytes_max)
        if response.status >= 400:
            content = redacted(content, self._target.secrets)
        if self._course is not None:
            self._lift_limit()
        await self._hand_over(response.status, down, content, reply)

    async def _hand_over(self, status: int, down: Down, content: bytes, reply: Reply) -> None:
        """A whole answer, recorded, then sent in one go."""
        limits = self._means.limits
        self._exchange.first_byte_us = self._exchange.elapsed_us()
        request = await self._request_in_event()
        kept = await body_in_event(content, limits.event_body_bytes_max)
        document = None
        if not limits.keeps_bodies or kept.sha256 is not None:
            document = usage_only(content)
            if document is not None and not limits.keeps_bodies:
                request = await self._without_request(request)
                kept = await _without_content(kept, content)
        outcome: Outcome = "answered"
        is_good = status == 200
        if reply.is_gone:
            outcome, status = "client_left", 0
        error = None if outcome == "answered" else outcome
        self._record(outcome, status, error, request, kept, down.content_type, document)
        if self._keeper is not None:
            down.headers.append(CACHE_MISS)
            if is_good:
                self._keeper.keep(down.content_type, content, self._model, is_stream=False)
        if outcome != "answered":
            return
        headers = down.headers
        if down.length is not None and self._inbound.method == "HEAD":
            headers.append((b"content-length", down.length))
        elif status not in _BODILESS:
            headers.append((b"content-length", b"%d" % len(content)))
        self._status = status
        await reply.whole(status, headers, content)

    async def _relay(
        self,
        response: UpstreamResponse,
        down: Down,
        reply: Reply,
        transcript: Transcript,
        strips: bool,
    ) -> None:
        """A stream: every piece goes on as it comes; the end waits for the record."""
        means = self._means
        counters = means.counters
        limits = means.limits
        stripper = UsageStripper(limits.stream_hold_bytes_max) if strips else None
        redactor = StreamRedactor(self._target.secrets)
        pieces = response.chunks() if self._course is None else await self._begun(response)
        gathered = None
        if self._keeper is not None:
            down.headers.append(CACHE_MISS)
            if response.status == 200:
                gathered = Gathered(self._keeper.bytes_max)
        self._status = response.status
        self._is_stream = True
        await reply.start(response.status, down.headers)
        counters.streams_open += 1
        outcome: Outcome = "answered"
        try:
            async for piece in pieces:
                if self._exchange.first_byte_us is None:
                    self._exchange.first_byte_us = self._exchange.elapsed_us()
                content = redactor.feed(piece)
                transcript.add(content)
                if reply.is_gone:
                    outcome = "client_left"
                    if not limits.drains_when_client_gone:
                        break
                    continue
                passed = content if stripper is None else stripper.feed(content)
                if passed:
                    self._last_pieces = (self._last_pieces[1], passed)
                    if gathered is not None:
                        gathered.add(passed)
                    await reply.piece(passed)
            rest = redactor.finish()
            transcript.add(rest)
            if stripper is not None:
                rest = stripper.feed(rest) + stripper.finish()
                transcript.document = stripper.document
            if rest and not reply.is_gone:
                if gathered is not None:
                    gathered.add(rest)
                await reply.piece(rest)
            if reply.is_gone:
                outcome = "client_left"
            error = "client_left" if outcome == "client_left" else None
            # Guarantee 2: the record before the last byte.
            await self._complete_stream(outcome, error, transcript, down.content_type)
            if outcome == "answered":
                whole = None if gathered is None else gathered.whole()
                if whole is not None and self._keeper is not None:
                    self._keeper.keep(down.content_type, whole, self._model, is_stream=True)
                await reply.end()
        finally:
            self._is_client_gone = reply.is_gone
            counters.streams_open -= 1

    async def _complete_stream(
        self, outcome: Outcome, error: str | None, transcript: Transcript, content_type: str
    ) -> None:
        limits = self._means.limits
        request = await self._request_in_event()
        kept = transcript.body()
        document = transcript.usage_document()
        if document is not None and not limits.keeps_bodies:
            request = await self._without_request(request)
            kept = await _without_content(kept, kept.content)
        self._record(outcome, self._status, error, request, kept, content_type, document)

    async def _say(self, refusal: Refusal, reply: Reply) -> None:
        """The error as the last event of a stream that breaks, if it stands between two events."""
        if self._is_client_gone or not self._is_stream:
            return
        last = self._last_pieces[0][-4:] + self._last_pieces[1]
        if not last or last.endswith((b"\n\n", b"\r\n\r\n")):
            event_id = self._exchange.event_id
            await reply.piece(self._means.show_error_event(self._endpoint, refusal, event_id))

    async def _fail(
        self, outcome: Outcome, refusal: Refusal, transcript: Transcript, reply: Reply
    ) -> NoReturn:
        """No usable answer: before the first byte an error object, afterwards a broken body.

        The break is what tells a client that does not read the error event.
        """
        counters = self._means.counters
        if outcome == "timed_out":
            counters.timed_out += 1
        else:
            counters.upstream_failed += 1
        if self._status:
            self._complete(outcome, self._status, self._attempt_error, transcript)
            await self._say(refusal, reply)
            raise BrokenAnswer(refusal.code)
        self._complete(outcome, refusal.status, self._attempt_error, transcript)
        raise refusal

    def _complete(
        self, outcome: Outcome, status: int, error: str | None, transcript: Transcript
    ) -> None:
        """The end that nobody wished for; bodies over the limit lose their tail here too."""
        if self._is_complete:
            return
        bytes_max = self._means.limits.event_body_bytes_max
        if self._incoming is None:
            request = body_for_event(self._body, bytes_max)
        else:
            request = self._incoming.upload.kept.body()
        if self._kept is not None:
            self._record(outcome, status, error, request, self._kept.body(), "", None)
            return
        kept = transcript.body()
        self._record(
            outcome,
            status,
            error,
            request,
            kept,
            "text/event-stream" if kept.length_bytes else "",
            transcript.usage_document(),
        )

    def _record(
        self,
        outcome: Outcome,
        status: int,
        error: str | None,
        request: Body,
        response: Body,
        content_type: str,
        document: bytes | None,
    ) -> None:
        """Guarantee 3: once. Raises JournalUnavailable."""
        self._is_complete = True
        exchange, target, principal = self._exchange, self._target, self._principal
        if self._incoming is not None:
            self._tell_incoming(self._incoming)
        attempt = self._attempt_facts()
        complete = partial(
            exchange.complete,
            outcome,
            status,
            error,
            request=request,
            response=response,
            content_type=content_type,
            usage_document=document,
            attempts=(*self._earlier, attempt) if self._earlier else (attempt,),
            cost_map=target.cost_map,
            policy_id=principal.policy_id,
            metadata=self._head.metadata,
            stores_request=principal.stores_request,
            stores_response=principal.stores_response,
        )
        try:
            complete()
        except JournalUnavailable:
            if not self._means.limits.serves_unmetered:
                raise
            self._means.counters.unmetered += 1
        means = self._means
        is_success = outcome == "answered" and status < 400
        means.tallies.add(self._model, target.ref.provider, is_success=is_success)
        if outcome == "answered":
            means.counters.answered += 1
            means.counters.succeeded += is_success
        elif outcome == "client_left":
            means.counters.client_left += 1
        elif outcome == "shutting_down":
            means.counters.shutting_down += 1

    def _tell_incoming(self, incoming: Incoming) -> None:
        """What was not known before the body had come: how long it is, and what its form says."""
        exchange = self._exchange
        call = exchange.call
        if incoming.form is not None and call.model_asked is None:
            known = known_so_far(incoming.form, self._call)
            call = msgspec.structs.replace(call, model_asked=known.model)
            exchange.caller = msgspec.structs.replace(exchange.caller, user_id=known.user_id)
            self._model = self._model or known.model
        exchange.call = msgspec.structs.replace(
            call, request_bytes=incoming.upload.kept.length_bytes
        )

    def _given_up(self, reason: str) -> str:
        """The code of an attempt that was ended from here: what was never sent costs nothing."""
        return reason if self.is_sent else ConnectFailed.code

    def _attempt_facts(self) -> Attempt:
        """The attempt that is under way, or has just failed, as it is recorded."""
        return Attempt(
            self._target.ref,
            self._model,
            self._attempt_status,
            self._attempt_error,
            self._dispatched_us,
            self._exchange.elapsed_us() - self._dispatched_us,
            self._first_byte_us,
            self._request_id,
        )


def _value_of(headers: HeaderPairs, wanted: bytes) -> bytes | None:
    """The first header of that lower-case name."""
    return next((value for name, value in headers if name.lower() == wanted), None)


def _id_text(event_id: bytes) -> bytes:
    text = event_id.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}".encode()
