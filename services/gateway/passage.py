"""From admission to completion: the attempts of an exchange, and the record of however they end.

The guarantees named in `exchange` are kept here, at the numbered comments.
"""

import asyncio
from typing import NoReturn

from contracts.exchange import EMPTY_BODY, Outcome
from gateway.account import CLIENT_LEFT, Account
from gateway.attempts import Attempts
from gateway.dispatch.keeping import Keeper
from gateway.ports import ConnectTimedOut, JournalUnavailable, UpstreamError
from gateway.refusals import (
    metering_unavailable,
    shutting_down,
    upstream_timeout,
    upstream_unavailable,
)
from gateway.routing.course import Trip
from gateway.values import ClientLeft, Refusal, cut_short


class BrokenAnswer(Exception):
    """The answer broke after its first byte: the connection is closed without a clean end."""


class Passage:
    """An exchange that has passed every gate. `sent` is the body as the provider gets it."""

    __slots__ = ("_account", "_attempts", "_trip")

    def __init__(self, account: Account, trip: Trip, sent: bytes, keeper: Keeper | None) -> None:
        self._account = account
        self._trip = trip
        self._attempts = Attempts(account, trip, sent, keeper)

    async def run(self) -> None:
        """Raises Refusal while nothing has gone out; afterwards a broken answer is an exception."""
        account = self._account
        means, exchange = account.means, account.exchange
        try:
            # Guarantee 1: the admission is kept before the provider hears of it.
            exchange.admit(self._trip.first.target.ref, int(account.asked.timeout_s * 1000))
        except JournalUnavailable:
            if not means.limits.serves_unmetered:
                means.counters.metering_unavailable += 1
                raise metering_unavailable() from None
            means.counters.unmetered += 1
            exchange.forget_journal()
        try:
            await self._carry()
        except JournalUnavailable:
            # Guarantee 2, the other way: what cannot be recorded is not finished.
            means.counters.broken_for_journal += 1
            if account.status:
                raise
            raise metering_unavailable() from None

    async def _carry(self) -> None:
        """The attempts, and the record of however they end. Raises what `run` says."""
        account, attempts = self._account, self._attempts
        asked, counters = account.asked, account.means.counters
        reader = None if account.means.limits.drains_when_client_gone else asked.reply
        try:
            with account.means.deadlines.after(asked.timeout_s, asked.task, reader):
                await attempts.run()
        except UpstreamError as error:
            attempts.note_failure(error)
            if error.is_timeout:
                await self._fail("timed_out", error.code, upstream_timeout())
            refusal = upstream_unavailable(attempts.retry_after_s)
            await self._fail("upstream_failed", error.code, refusal)
        except TimeoutError:
            error_code = account.give_up("proxy_timeout", ConnectTimedOut.code)
            await self._fail("timed_out", error_code, upstream_timeout())
        except ClientLeft:
            # In the middle of its body, or while it waited: nothing more is asked of a provider.
            account.give_up(CLIENT_LEFT)
            self._end(CLIENT_LEFT, account.status, CLIENT_LEFT)
            if not asked.reply.is_gone:
                raise cut_short() from None
        except Refusal as refusal:
            # Of a body that is looked at on its way, as too long.
            account.fail(refusal.code)
            counters.refused += 1
            self._end("refused", refusal.status, refusal.code)
            raise
        except JournalUnavailable:
            raise
        except asyncio.CancelledError:
            # Guarantee 3 on a stop: the record says why there is no whole answer.
            account.give_up("shutting_down")
            self._end("shutting_down", account.status or 503, "shutting_down")
            if account.status:
                await self._say(shutting_down())
                raise
            raise shutting_down() from None
        except BaseException as error:
            account.fail("internal")
            counters.internal += 1
            self._end("upstream_failed", account.status, type(error).__name__)
            raise

    async def _fail(self, outcome: Outcome, error: str, refusal: Refusal) -> NoReturn:
        """No usable answer: before the first byte an error object, afterwards a broken body.

        The break is what tells a client that does not read the error event.
        """
        account = self._account
        if outcome == "timed_out":
            account.means.counters.timed_out += 1
        else:
            account.means.counters.upstream_failed += 1
        self._end(outcome, account.status or refusal.status, error)
        if account.status:
            await self._say(refusal)
            raise BrokenAnswer(refusal.code)
        raise refusal

    async def _say(self, refusal: Refusal) -> None:
        if self._attempts.delivery is not None:
            await self._attempts.delivery.say(refusal)

    def _end(self, outcome: Outcome, status: int, error: str) -> None:
        """The end that nobody wished for; bodies over the limit lose their tail here too."""
        account, delivery = self._account, self._attempts.delivery
        if account.is_complete:
            return
        request = account.asked.body_at_once(account.means.limits.event_body_bytes_max)
        response, content_type, document = EMPTY_BODY, "", None
        if delivery is not None:
            response, content_type, document = delivery.broken()
        account.complete(outcome, status, error, request, response, content_type, document)
