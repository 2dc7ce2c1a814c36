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
from collections.abc import Callable
from typing import Protocol

import msgspec

from contracts.ids import new_id
from gateway.account import Account
from gateway.arrival import Arrival, call_of
from gateway.asked import Asked
from gateway.configuration.snapshot import Snapshot
from gateway.dispatch.spool import SpoolDirectory
from gateway.entitlements.access import check_access
from gateway.entitlements.prices import check_endpoint
from gateway.errands import Errand, errand_of
from gateway.identity.authenticate import authenticate
from gateway.identity.head import sort_headers
from gateway.identity.query import credential_in
from gateway.kept_answers import keeper_of
from gateway.listing import Listing
from gateway.long_bodies import edited
from gateway.means import Means
from gateway.own_answers import answer_kept, answer_listing
from gateway.passage import Passage
from gateway.ports import HeaderPairs, Journal, JournalUnavailable, Lane
from gateway.refusals import metering_unavailable, not_found
from gateway.values import (
    ClientLeft,
    Endpoint,
    Inbound,
    Principal,
    Refusal,
    Reply,
    cut_short,
    masked,
)
from runtime.settings import parse_duration


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
        self._arrival = Arrival(means.limits, means.deadlines, spools)
        self._counters = means.counters
        self._show_error = show_error
        self._under_way: set[asyncio.Task[object]] = set()

    async def handle(self, inbound: Inbound, reply: Reply) -> None:
        """One exchange, from its head to its last byte."""
        counters = self._counters
        counters.requests += 1
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        asked = Asked(new_id(), inbound, reply, task)
        dialect = "openai"
        try:
            endpoint = self._match(inbound.method, inbound.path, inbound.headers)
            dialect = dialect_of(inbound.path) if endpoint is None else endpoint.dialect
            asked.matched = endpoint
            passage = await self._admit(asked)
            if passage is not None:
                await passage.run()
        except Refusal as refusal:
            await self._refuse(asked, dialect, refusal)
        except ClientLeft:
            counters.client_left += 1
            # Nobody reads this when the connection is gone; it is not when the framing was wrong.
            await self._refuse(asked, dialect, cut_short())
        finally:
            self._under_way.discard(task)
            if asked.incoming is not None:
                asked.incoming.upload.close()

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

    async def _refuse(self, asked: Asked, dialect: str, refusal: Refusal) -> None:
        headers, body = self._show_error(dialect, refusal, asked.event_id)
        await asked.reply.whole(refusal.status, headers, body)

    async def _admit(self, asked: Asked) -> Passage | None:
        """Every gate in order; None for what was answered from here. Raises Refusal, ClientLeft."""
        means = self._means
        asked.snapshot = self._configuration.snapshot
        self._read_head(asked)
        self._identify(asked)
        answer = kept = None
        try:
            errand = self._enter(asked)
            await self._arrival.take(asked, in_pieces=errand.takes_pieces)
            errand = self._still_in_force(asked, errand)
            asked.call = call_of(asked)
            asked.call = errand.call(asked.call)
            if asked.endpoint.lists_models:
                answer = await self._listing.answer(asked.endpoint, asked.principal, asked.snapshot)
            else:
                trip = errand.trip(asked, means)
                sent = asked.body or b""
                if trip.edit is not None:
                    sent = await edited(trip.edit, sent)
                keeper = None
                if errand.keeps_s:
                    keeper = await keeper_of(errand, asked, means.cache)
                    kept = None if keeper is None else await keeper.kept()
        except Refusal as refusal:
            await self._record_refusal(asked, refusal)
            raise
        lane = self._lane()
        if answer is not None:
            await answer_listing(means, asked, asked.exchange(lane), answer)
            return None
        if kept is not None:
            model = kept.model or asked.call.model
            asked.call = msgspec.structs.replace(asked.call, model=model)
            await answer_kept(means, asked, asked.exchange(lane), kept)
            return None
        if lane is None:
            if not means.limits.serves_unmetered:
                self._counters.metering_unavailable += 1
                raise metering_unavailable()
            self._counters.unmetered += 1
        return Passage(Account(means, asked, lane), trip, sent, keeper)

    def _read_head(self, asked: Asked) -> None:
        """Raises Refusal (431)."""
        inbound, limits = asked.inbound, self._means.limits
        head = sort_headers(
            inbound.headers,
            drops_user_agent=limits.drops_user_agent,
            head_bytes_max=limits.request_headers_bytes_max,
        )
        if head.origin is not None:
            asked.reply.for_origin(head.origin)
        if head.credential is None and inbound.query:
            head = msgspec.structs.replace(head, credential=credential_in(inbound.query))
        asked.head = head

    def _identify(self, asked: Asked) -> None:
        """Raises Refusal (401); 404 when nothing is served there either."""
        counters, credential = self._counters, asked.head.credential
        principal: Principal | None = None
        try:
            principal = authenticate(credential, asked.snapshot.principal_by_digest)
        except Refusal:
            if asked.matched is not None:
                counters.unauthenticated += 1
                raise
        if principal is None:
            if asked.matched is None:
                counters.unknown_path += 1
                raise not_found()
            counters.unauthenticated += 1
            raise Refusal(
                401,
                "authentication_error",
                "invalid_api_key",
                f"key {masked(credential or '')} is not found",
            )
        asked.principal = principal

    def _enter(self, asked: Asked) -> Errand:
        """The gates that the head alone can decide. Raises Refusal."""
        endpoint, principal, limits = asked.matched, asked.principal, self._means.limits
        if endpoint is None:
            self._counters.unknown_path += 1
            raise not_found()
        asked.endpoint = endpoint
        self._check_access(asked, asked.inbound.received_at_ms)
        check_endpoint(principal, endpoint, opens_accounts=limits.opens_accounts)
        errand = errand_of(endpoint, principal, asked.snapshot)
        asked.endpoint = errand.endpoint
        asked.timeout_s = limits.proxy_timeout_s
        if asked.head.timeout is not None:
            asked.timeout_s = min(_seconds(asked.head.timeout), asked.timeout_s)
        return errand

    def _still_in_force(self, asked: Asked, errand: Errand) -> Errand:
        """The same once the body is there. Raises Refusal.

        Who lets a body trickle in does not outlast a revocation by it.
        """
        snapshot = self._configuration.snapshot
        is_changed = snapshot is not asked.snapshot
        if is_changed:
            asked.snapshot = snapshot
            self._identify(asked)
        elif asked.principal.expires_at_ms is None:
            return errand
        self._check_access(asked, time.time_ns() // 1_000_000)
        if is_changed and asked.matched is not None:
            errand = errand_of(asked.matched, asked.principal, snapshot)
            asked.endpoint = errand.endpoint
        return errand

    def _check_access(self, asked: Asked, now_ms: int) -> None:
        credential, method = asked.head.credential or "", asked.inbound.method
        check_access(asked.principal, credential, method, asked.endpoint.template, now_ms)

    def _lane(self) -> Lane | None:
        return self._journal.lane() if self._journal.is_accepting else None

    async def _record_refusal(self, asked: Asked, refusal: Refusal) -> None:
        """A refusal of a known key is an event; one that cannot be kept is only counted."""
        self._counters.refused += 1
        principal = asked.principal
        exchange = asked.exchange(self._lane())
        try:
            exchange.complete(
                "refused",
                refusal.status,
                refusal.code,
                request=await asked.body_in_event(self._means.limits.event_body_bytes_max),
                metadata=asked.head.metadata,
                policy_id=principal.policy_id,
                stores_request=principal.stores_request,
                stores_response=principal.stores_response,
            )
        except JournalUnavailable:
            self._counters.metering_unavailable += 1


def _seconds(timeout: str) -> float:
    """How long a client is ready to wait. Raises Refusal (400)."""
    try:
        seconds = float(parse_duration(timeout))
    except ValueError:
        seconds = 0.0
    if not seconds > 0:  # Nor when it is no number at all.
        raise Refusal(400, "invalid_request_error", "bad_request", "invalid timeout")
    return seconds


def dialect_of(path: str) -> str:
    """Whose shape of errors a path gets that nothing is served under."""
    return "anthropic" if path.startswith("/api/providers/anthropic/") else "openai"
