"""What is recorded of an admitted exchange: its attempts as they are made, and its end, once."""

from typing import Final

import msgspec

from contracts.exchange import Attempt, Body, Outcome
from gateway.asked import Asked, Incoming
from gateway.endpoints.forms import known_so_far
from gateway.means import Means
from gateway.ports import ConnectFailed, JournalUnavailable, Lane
from gateway.routing.course import Stop
from gateway.values import Endpoint, Target

CLIENT_LEFT: Final = "client_left"


class Try:
    """One attempt, under way or over. Implements Trail."""

    __slots__ = (
        "_duration_us",
        "endpoint",
        "error",
        "first_byte_us",
        "is_sent",
        "model",
        "request_id",
        "started_us",
        "status",
        "target",
    )

    def __init__(self, stop: Stop, started_us: int) -> None:
        self.target: Target = stop.target
        self.endpoint: Endpoint = stop.endpoint
        self.model = stop.model
        self.started_us = started_us
        self._duration_us: int | None = None
        self.status: int | None = None
        self.error: str | None = None
        self.first_byte_us: int | None = None
        self.request_id: str | None = None
        self.is_sent = False

    def fail(self, error: str, now_us: int) -> str:
        """It is over; what it failed with first is what stays, and is returned."""
        if self.error is None:
            self.error = error
            self._duration_us = now_us - self.started_us
        return self.error

    def facts(self, now_us: int) -> Attempt:
        """As it is recorded."""
        duration_us = self._duration_us
        return Attempt(
            self.target.ref,
            self.model,
            self.status,
            self.error,
            self.started_us,
            now_us - self.started_us if duration_us is None else duration_us,
            self.first_byte_us,
            self.request_id,
        )


class Account:
    """The record of one exchange, and what its client has been told so far.

    `status` is 0 until something of an answer has gone out.
    """

    __slots__ = ("_tries", "asked", "exchange", "is_complete", "means", "status")

    def __init__(self, means: Means, asked: Asked, lane: Lane | None) -> None:
        self.means = means
        self.asked = asked
        self.exchange = asked.exchange(lane)
        self.status = 0
        self.is_complete = False
        self._tries: list[Try] = []

    @property
    def attempt(self) -> Try:
        """The last one; there is one."""
        return self._tries[-1]

    def begin(self, stop: Stop) -> Try:
        """An attempt is made there."""
        attempt = Try(stop, self.exchange.elapsed_us())
        self._tries.append(attempt)
        return attempt

    def fail(self, error: str) -> str:
        """The attempt under way has failed, if there is one; with what, as it is recorded."""
        return self._tries[-1].fail(error, self.exchange.elapsed_us()) if self._tries else error

    def give_up(self, error: str, unsent: str = ConnectFailed.code) -> str:
        """The same when it was ended from here: what was never sent is sure to cost nothing."""
        is_sent = bool(self._tries) and self._tries[-1].is_sent
        return self.fail(error if is_sent else unsent)

    def complete(
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
        self.is_complete = True
        means, asked, exchange = self.means, self.asked, self.exchange
        principal = asked.principal
        last = self._tries[-1] if self._tries else None
        if asked.incoming is not None:
            self._tell_incoming(asked.incoming, last)
        now_us = exchange.elapsed_us()
        try:
            exchange.complete(
                outcome,
                status,
                error,
                request=request,
                response=response,
                content_type=content_type,
                usage_document=document,
                attempts=tuple([attempt.facts(now_us) for attempt in self._tries]),
                cost_map=None if last is None else last.target.cost_map,
                policy_id=principal.policy_id,
                metadata=asked.head.metadata,
                stores_request=principal.stores_request,
                stores_response=principal.stores_response,
            )
        except JournalUnavailable:
            if not means.limits.serves_unmetered:
                raise
            means.counters.unmetered += 1
        is_success = outcome == "answered" and status < 400
        if last is not None:
            means.tallies.add(last.model, last.target.ref.provider, is_success=is_success)
        if outcome == "answered":
            means.counters.answered += 1
            means.counters.succeeded += is_success
        elif outcome == "client_left":
            means.counters.client_left += 1
        elif outcome == "shutting_down":
            means.counters.shutting_down += 1

    def _tell_incoming(self, incoming: Incoming, last: Try | None) -> None:
        """What was not known before the body had come: how long it is, and what its form says."""
        exchange = self.exchange
        call = exchange.call
        if incoming.form is not None and call.model_asked is None:
            known = known_so_far(incoming.form, self.asked.call)
            call = msgspec.structs.replace(call, model_asked=known.model)
            exchange.caller = msgspec.structs.replace(exchange.caller, user_id=known.user_id)
            if last is not None:
                last.model = last.model or known.model
        exchange.call = msgspec.structs.replace(
            call, request_bytes=incoming.upload.kept.length_bytes
        )
