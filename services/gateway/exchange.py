"""The corridor: the only code that knows the order of an exchange.

    identity → endpoint → entitlements → body → routing → admission → dispatch → relay → completion

Guarantees, numbered where they are kept:
1. An admission is in the journal before a byte goes to a provider.
2. A completion is in the journal before the last byte goes to the client; if it cannot be kept,
   the answer is broken off rather than finished unrecorded.
3. Whatever ends an admitted exchange, it completes exactly once.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol, TypeVar

import msgspec

from contracts.exchange import EMPTY_BODY, Body, Caller, CallFacts
from contracts.ids import new_id, to_text
from gateway.configuration.snapshot import Snapshot
from gateway.custom import CustomErrand
from gateway.dispatch.keeping import CACHE_HIT
from gateway.dispatch.spool import SpoolDirectory
from gateway.dispatch.uploads import WHOLE_BYTES_MAX, Kept, Upload, content_type_of, is_json
from gateway.endpoints.bodies import HIDING, MAY_NAME_MODEL, SILENT, silent
from gateway.endpoints.forms import FormReader, boundary_of, call_of_form, form_of, is_form
from gateway.endpoints.splices import with_model
from gateway.entitlements.access import check_access, check_call
from gateway.entitlements.prices import check_endpoint, excused
from gateway.identity.authenticate import authenticate
from gateway.identity.head import sort_headers
from gateway.identity.query import credential_in, without_credentials
from gateway.listing import Listing
from gateway.passage import (
    Incoming,
    Means,
    Passage,
    body_in_event,
    edited,
    metering_unavailable,
    shutting_down,
)
from gateway.ports import CachedAnswer, HeaderPairs, Journal, JournalUnavailable, Lane
from gateway.recording.record import Exchange
from gateway.routed import RouteErrand, RouteKeeper
from gateway.routing.course import Alternatives, Course, Stop
from gateway.routing.plan import Choice, plan, wish_of
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
    masked,
    too_large,
)
from runtime.settings import parse_duration

_T = TypeVar("_T")
_NO_CALL: Final = Call(None, False, None, False)
_REPLAY_PIECE_BYTES: Final = 65_536


class SnapshotHolder(Protocol):
    """Has the configuration in force."""

    snapshot: Snapshot


class Corridor:
    """Carries exchanges from the client to the provider and back, and records each."""

    def __init__(
        self,
        *,
        configuration: SnapshotHolder,
        match: Callable[[str, str, HeaderPairs], Endpoint | None],
        journal: Journal,
        means: Means,
        listing: Listing,
        spools: SpoolDirectory,
        show_error: Callable[[str, Refusal, bytes], tuple[HeaderPairs, bytes]],
    ) -> None:
        self._configuration = configuration
        self._match = match
        self._journal = journal
        self._means = means
        self._listing = listing
        self._spools = spools
        self._counters = means.counters
        self._limits = means.limits
        self._show_error = show_error
        self._under_way: set[asyncio.Task[object]] = set()
        self._uploads: dict[bytes, Upload] = {}

    async def handle(self, inbound: Inbound, reply: Reply) -> None:
        """One exchange, from its head to its last byte."""
        counters = self._counters
        counters.requests += 1
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        event_id = new_id()
        dialect = "openai"
        try:
            endpoint = self._match(inbound.method, inbound.path, inbound.headers)
            dialect = dialect_of(inbound.path) if endpoint is None else endpoint.dialect
            await self._pass(inbound, reply, endpoint, event_id)
        except Refusal as refusal:
            await self._refuse(reply, dialect, refusal, event_id)
        except ClientLeft:
            counters.client_left += 1
            # Nobody reads this when the connection is gone; it is not when the framing was wrong.
            await self._refuse(reply, dialect, cut_short(), event_id)
        finally:
            self._under_way.discard(task)
            if self._uploads:
                upload = self._uploads.pop(event_id, None)
                if upload is not None:
                    upload.close()

    async def drain(self, seconds: float) -> int:
        """Waits for exchanges under way, then ends the rest; returns how many were ended.

        Those record themselves as `shutting_down` before this returns.
        """
        if self._under_way:
            await asyncio.wait(set(self._under_way), timeout=seconds)
        rest = set(self._under_way)
        for task in rest:
            task.cancel("shutting_down")
        if rest:
            await asyncio.wait(rest, timeout=5)
        return len(rest)

    def knows(self, credential: str) -> bool:
        """Whether this is a key in force."""
        principal = authenticate(credential, self._configuration.snapshot.principal_by_digest)
        if principal is None or principal.is_revoked:
            return False
        return principal.expires_at_ms is None or time.time() * 1000 < principal.expires_at_ms

    @property
    def in_flight(self) -> int:
        """Exchanges under way."""
        return len(self._under_way)

    async def _refuse(self, reply: Reply, dialect: str, refusal: Refusal, event_id: bytes) -> None:
        headers, body = self._show_error(dialect, refusal, event_id)
        await reply.whole(refusal.status, headers, body)

    async def _pass(
        self, inbound: Inbound, reply: Reply, endpoint: Endpoint | None, event_id: bytes
    ) -> None:
        """Every gate in order. Raises Refusal, ClientLeft."""
        limits = self._limits
        snapshot = self._configuration.snapshot
        head = sort_headers(
            inbound.headers,
            drops_user_agent=limits.drops_user_agent,
            head_bytes_max=limits.request_headers_bytes_max,
        )
        if head.origin is not None:
            reply.for_origin(head.origin)
        if head.credential is None and inbound.query:
            head = msgspec.structs.replace(head, credential=credential_in(inbound.query))
        principal = self._identify(head, snapshot, endpoint)
        call, body, body_bytes = _NO_CALL, b"", head.content_length or 0
        incoming: Incoming | None = None
        form: FormReader | None = None
        errand: RouteErrand | CustomErrand | None = None
        keeper: RouteKeeper | None = None
        kept: CachedAnswer | None = None
        course: Course | None = None
        try:
            if endpoint is None:
                self._counters.unknown_path += 1
                raise Refusal(404, "invalid_request_error", "not_found", "route not supported")
            check_access(
                principal,
                head.credential or "",
                inbound.method,
                endpoint.template,
                inbound.received_at_ms,
            )
            check_endpoint(principal, endpoint, opens_accounts=limits.opens_accounts)
            asked, begun = endpoint, snapshot
            if endpoint.kind:
                errand = _errand_of(endpoint, principal, snapshot)
                endpoint = errand.endpoint
            timeout_s = self._timeout(head)
            if errand is None and _comes_in_pieces(endpoint, inbound, head):
                incoming = self._incoming(endpoint, inbound, head, reply)
                self._uploads[event_id] = incoming.upload
                form = incoming.form
                call = await self._settled(incoming, endpoint, principal, snapshot, timeout_s)
                snapshot, principal = self._still_in_force(head, principal, begun, inbound, asked)
            else:
                body = await self._read(reply, head, timeout_s)
                body_bytes = len(body)
                snapshot, principal = self._still_in_force(head, principal, begun, inbound, asked)
                if errand is not None and snapshot is not begun:
                    errand = _errand_of(asked, principal, snapshot)
                    endpoint = errand.endpoint
                if endpoint.parse in MAY_NAME_MODEL and body[:1] != b"{":
                    form = _form_in(inbound, body)
                call = _call_of(endpoint, body, form)
            if endpoint.lists_models:
                answer = await self._listing.answer(endpoint, principal, snapshot)
            elif errand is not None:
                call = errand.call(call)
                trip = errand.trip(principal, call, snapshot, inbound, self._means, timeout_s)
                choice, course = trip.choice, trip.course
                sent = await edited(trip.edit, body)
                keeper = await self._keeper(errand, principal, inbound, body)
                kept = None if keeper is None else await keeper.kept()
            else:
                choice, sent = await self._route(
                    principal, endpoint, call, body, snapshot, inbound, form
                )
                if incoming is not None and form is not None:
                    _swap_model(incoming.upload, form, call, choice)
        except Refusal as refusal:
            request = None
            if incoming is not None:
                request = incoming.upload.kept.body()
                body_bytes = request.length_bytes
            exchange = self._exchange(
                inbound, endpoint, principal, call, head, body_bytes, event_id, self._lane()
            )
            await self._record_refusal(exchange, refusal, body, head, principal, request)
            raise
        if endpoint.lists_models:
            exchange = self._exchange(
                inbound, endpoint, principal, call, head, body_bytes, event_id, self._lane()
            )
            await self._answer(exchange, reply, answer, head, principal)
            return
        if kept is not None:
            call = msgspec.structs.replace(call, model=kept.model or call.model)
            exchange = self._exchange(
                inbound, endpoint, principal, call, head, body_bytes, event_id, self._lane()
            )
            request = await body_in_event(body, limits.event_body_bytes_max)
            await self._answer(exchange, reply, kept.content, head, principal, kept, request)
            return
        lane = self._lane()
        if lane is None:
            if not limits.serves_unmetered:
                self._counters.metering_unavailable += 1
                raise metering_unavailable()
            self._counters.unmetered += 1
        exchange = self._exchange(
            inbound, endpoint, principal, call, head, body_bytes, event_id, lane
        )
        if (
            choice.others
            and inbound.method == "POST"
            and (incoming is None or incoming.upload.is_repeatable)
        ):
            course = _alternatives(choice, endpoint, inbound.query, timeout_s)
        passage = Passage(
            self._means,
            exchange,
            inbound,
            endpoint,
            principal,
            call,
            choice,
            head,
            body,
            sent,
            course,
            keeper,
            incoming,
        )
        await passage.run(reply, timeout_s)

    async def _route(
        self,
        principal: Principal,
        endpoint: Endpoint,
        call: Call,
        body: bytes,
        snapshot: Snapshot,
        inbound: Inbound,
        form: FormReader | None,
    ) -> tuple[Choice, bytes]:
        """Where the call goes, and its body as it goes there. Raises Refusal."""
        wish, gated = None, call
        if endpoint.provider is None and call.model is not None:
            wish = wish_of(call.model, principal, snapshot.aliases, snapshot.target_by_setting)
            if wish is not None and call.model not in (principal.allowed_models or ()):
                gated = msgspec.structs.replace(call, model=wish.model)
        if call.hides_model:
            call = gated = excused(principal, endpoint, call)
        check_call(
            principal,
            gated,
            snapshot.users_by_user_id,
            inbound.method,
            endpoint.template,
            inbound.received_at_ms,
        )
        means = self._means
        targets = snapshot.target_by_setting
        choice = plan(principal, call, endpoint, targets, means.health, means.draw, wish)
        if choice.model is None or call.model is None or choice.model == call.model:
            return choice, body
        if form is not None:
            return choice, _with_model_in_form(body, form, choice.model)
        edit = partial(with_model, asked=call.model, model=choice.model)
        return choice, await edited(edit, body)

    async def _keeper(
        self,
        errand: RouteErrand | CustomErrand,
        principal: Principal,
        inbound: Inbound,
        body: bytes,
    ) -> RouteKeeper | None:
        """What keeps the answer of a call; None when it is not to be kept, or like no other."""
        cache = self._means.cache
        if cache is None or not errand.keeps_s:
            return None
        key = await edited(partial(errand.cache_key, principal, inbound.query), body)
        return RouteKeeper(cache, key, errand.keeps_s) if key else None

    async def _answer(
        self,
        exchange: Exchange,
        reply: Reply,
        answer: bytes,
        head: Head,
        principal: Principal,
        kept: CachedAnswer | None = None,
        request: Body = EMPTY_BODY,
    ) -> None:
        """What needs no provider: recorded as answered, without an attempt, and sent."""
        content_type = "application/json" if kept is None else kept.content_type
        try:
            exchange.complete(
                "answered",
                200,
                None,
                request=request,
                response=await body_in_event(answer, self._limits.event_body_bytes_max),
                content_type=content_type,
                is_cache_hit=kept is not None,
                metadata=head.metadata,
                policy_id=principal.policy_id,
                stores_request=principal.stores_request,
                stores_response=principal.stores_response,
            )
        except JournalUnavailable:
            if not self._limits.serves_unmetered:
                self._counters.metering_unavailable += 1
                raise metering_unavailable() from None
            self._counters.unmetered += 1
        self._counters.answered += 1
        self._counters.succeeded += 1
        headers: HeaderPairs = [
            (b"content-type", content_type.encode("latin-1")),
            (b"x-request-id", to_text(exchange.event_id).encode()),
        ]
        if kept is not None:
            headers.append(CACHE_HIT)
            if kept.is_stream:
                await _replay(reply, headers, answer)
                return
        headers.append((b"content-length", b"%d" % len(answer)))
        await reply.whole(200, headers, answer)

    def _identify(self, head: Head, snapshot: Snapshot, endpoint: Endpoint | None) -> Principal:
        try:
            principal = authenticate(head.credential, snapshot.principal_by_digest)
        except Refusal:
            principal = None
            if endpoint is not None:
                self._counters.unauthenticated += 1
                raise
        if principal is None:
            if endpoint is None:
                self._counters.unknown_path += 1
                raise Refusal(404, "invalid_request_error", "not_found", "route not supported")
            self._counters.unauthenticated += 1
            raise Refusal(
                401,
                "authentication_error",
                "invalid_api_key",
                f"key {masked(head.credential or '')} is not found",
            )
        return principal

    def _still_in_force(
        self,
        head: Head,
        principal: Principal,
        begun: Snapshot,
        inbound: Inbound,
        endpoint: Endpoint,
    ) -> tuple[Snapshot, Principal]:
        """What is in force once the body is there, and who calls. Raises Refusal.

        Who lets a body trickle in does not outlast a revocation by it.
        """
        snapshot = self._configuration.snapshot
        if snapshot is not begun:
            principal = self._identify(head, snapshot, endpoint)
        now_ms = time.time_ns() // 1_000_000
        check_access(principal, head.credential or "", inbound.method, endpoint.template, now_ms)
        return snapshot, principal

    def _timeout(self, head: Head) -> float:
        if head.timeout is None:
            return self._limits.proxy_timeout_s
        try:
            asked = parse_duration(head.timeout)
        except ValueError:
            raise Refusal(400, "invalid_request_error", "bad_request", "invalid timeout") from None
        if not asked > 0:  # Nor when it is no number at all.
            raise Refusal(400, "invalid_request_error", "bad_request", "invalid timeout")
        return min(asked, self._limits.proxy_timeout_s)

    async def _read(self, reply: Reply, head: Head, timeout_s: float) -> bytes:
        bytes_max = self._limits.request_body_bytes_max
        if head.content_length is not None and head.content_length > bytes_max:
            raise too_large(bytes_max)
        return await self._arriving(reply.read_body(bytes_max), timeout_s)

    async def _arriving(self, reading: Awaitable[_T], timeout_s: float) -> _T:
        """What is awaited of the client. Raises Refusal (408) when it takes too long."""
        task = asyncio.current_task()
        assert task is not None
        deadlines = self._means.deadlines
        deadlines.arm(task, timeout_s)
        try:
            return await reading
        except asyncio.CancelledError:
            if not deadlines.disarm(task):
                raise shutting_down() from None
            task.uncancel()
            raise too_slow() from None
        finally:
            deadlines.disarm(task)

    def _incoming(self, endpoint: Endpoint, inbound: Inbound, head: Head, reply: Reply) -> Incoming:
        """A body that is not to be held. Raises Refusal (413) when its head says that it is over."""
        bytes_max = self._limits.multipart_body_bytes_max
        source = reply.pieces(bytes_max)
        if head.content_length is not None and head.content_length > bytes_max:
            raise too_large(bytes_max)
        content_type = content_type_of(inbound.headers)
        form = None
        if endpoint.parse in MAY_NAME_MODEL and is_form(content_type):
            form = FormReader(boundary_of(content_type))
        upload = Upload(
            source,
            head.content_length,
            Kept(self._limits.event_body_bytes_max),
            None if form is None else form.feed,
        )
        return Incoming(upload, form)

    async def _settled(
        self,
        incoming: Incoming,
        endpoint: Endpoint,
        principal: Principal,
        snapshot: Snapshot,
        timeout_s: float,
    ) -> Call:
        """The call that such a body makes, as far as it must be known before it goes on.

        A form is spooled when what it says decides whether, or where, it may go.
        """
        upload, form = incoming
        if endpoint.parse is silent:
            call = SILENT
        elif form is None or not _must_be_known(endpoint, principal, snapshot):
            call = HIDING
        else:
            spool = await self._spools.open()
            await self._arriving(upload.settle(spool), timeout_s)
            form.finish()
            call = call_of_form(form)
        return _with_model_of_path(endpoint, call)

    def _lane(self) -> Lane | None:
        return self._journal.lane() if self._journal.is_accepting else None

    def _exchange(
        self,
        inbound: Inbound,
        endpoint: Endpoint | None,
        principal: Principal,
        call: Call,
        head: Head,
        body_bytes: int,
        event_id: bytes,
        lane: Lane | None,
    ) -> Exchange:
        exchange = Exchange(
            event_id,
            lane,
            Caller(principal.key_id, call.user_id, head.custom_id, principal.tags),
            CallFacts(
                inbound.method,
                inbound.path,
                "" if endpoint is None else endpoint.template,
                "" if endpoint is None else endpoint.name,
                "" if endpoint is None else endpoint.operation,
                call.model,
                call.is_streaming,
                body_bytes,
            ),
            inbound.received_at_ms,
            inbound.received_at_ns,
            time.monotonic_ns,
        )
        if endpoint is not None and endpoint.kind:
            exchange.route_id = endpoint.route_id
            exchange.text_places = endpoint.text_places
        return exchange

    async def _record_refusal(
        self,
        exchange: Exchange,
        refusal: Refusal,
        body: bytes,
        head: Head,
        principal: Principal,
        request: Body | None = None,
    ) -> None:
        """A refusal of a known key is an event; one that cannot be kept is only counted."""
        self._counters.refused += 1
        try:
            exchange.complete(
                "refused",
                refusal.status,
                refusal.code,
                request=request or await body_in_event(body, self._limits.event_body_bytes_max),
                metadata=head.metadata,
                policy_id=principal.policy_id,
                stores_request=principal.stores_request,
                stores_response=principal.stores_response,
            )
        except JournalUnavailable:
            self._counters.metering_unavailable += 1


def _call_of(endpoint: Endpoint, body: bytes, form: FormReader | None) -> Call:
    call = endpoint.parse(body) if form is None else call_of_form(form)
    return _with_model_of_path(endpoint, call)


def _with_model_of_path(endpoint: Endpoint, call: Call) -> Call:
    if endpoint.model is None or endpoint.lists_models:
        return call
    return msgspec.structs.replace(call, model=endpoint.model, hides_model=False)


def _comes_in_pieces(endpoint: Endpoint, inbound: Inbound, head: Head) -> bool:
    """Whether a body is passed on without being held: it is long, and nothing in it is edited."""
    if head.content_length is not None and head.content_length <= WHOLE_BYTES_MAX:
        return False
    if not (endpoint.parse is silent or endpoint.parse in MAY_NAME_MODEL):
        return False
    return not is_json(content_type_of(inbound.headers))


def _must_be_known(endpoint: Endpoint, principal: Principal, snapshot: Snapshot) -> bool:
    """Whether the model or the user of a call decides on anything."""
    if endpoint.provider is None or principal.allowed_models is not None:
        return True
    if snapshot.users_by_user_id:
        return True
    targets = (snapshot.target_by_setting.get(one) for one in principal.setting_ids)
    return any(target is not None and target.allowed_models for target in targets)


def _form_in(inbound: Inbound, body: bytes) -> FormReader | None:
    """The form that a whole body is, None when it is something else."""
    content_type = content_type_of(inbound.headers)
    return form_of(content_type, body) if is_form(content_type) else None


def _with_model_in_form(body: bytes, form: FormReader, model: str) -> bytes:
    field = form.fields[b"model"]
    return body[: field.start] + model.encode() + body[field.end :] if body else body


def _swap_model(upload: Upload, form: FormReader, call: Call, choice: Choice) -> None:
    """What a spooled form asks for goes out as what is asked for in its place."""
    field = form.fields.get(b"model")
    if field is not None and choice.model is not None and choice.model != call.model:
        upload.swap = (field.start, field.end, choice.model.encode())


def _errand_of(
    endpoint: Endpoint, principal: Principal, snapshot: Snapshot
) -> RouteErrand | CustomErrand:
    """A call of what an operator described. Raises Refusal."""
    if endpoint.kind == "route":
        return RouteErrand(endpoint, principal, snapshot)
    return CustomErrand(endpoint, snapshot)


async def _replay(reply: Reply, headers: HeaderPairs, answer: bytes) -> None:
    """A stream that was kept, as a stream."""
    await reply.start(200, headers)
    for at in range(0, len(answer), _REPLAY_PIECE_BYTES):
        await reply.piece(answer[at : at + _REPLAY_PIECE_BYTES])
    await reply.end()


def _alternatives(
    choice: Choice, endpoint: Endpoint, query: bytes, timeout_s: float
) -> Alternatives:
    """The settings of a choice, one after the other, for the same body.

    Under a provider's own path, what it answers is for the client.
    """
    passed = without_credentials(query) if query else b""
    stops = [
        Stop(target, choice.model, endpoint, passed, None)
        for target in (choice.target, *choice.others)
    ]
    deadline_s = time.monotonic() + timeout_s
    return Alternatives(stops, deadline_s, goes_on=endpoint.provider is None)


def dialect_of(path: str) -> str:
    """Whose shape of errors a path gets that nothing is served under."""
    return "anthropic" if path.startswith("/api/providers/anthropic/") else "openai"


def too_slow() -> Refusal:
    """408: a client may not hold a request open for longer than its exchange might last."""
    return Refusal(
        408, "invalid_request_error", "request_timeout", "the request body did not arrive in time"
    )
