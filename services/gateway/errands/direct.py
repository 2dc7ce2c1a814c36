"""Calls under a provider's own path, and under the plain root, where the model decides."""

import time
from functools import partial

from msgspec.structs import replace

from gateway.asked import Asked
from gateway.endpoints.forms import FormReader
from gateway.endpoints.splices import with_model
from gateway.entitlements.access import check_call
from gateway.entitlements.prices import excused
from gateway.identity.query import without_credentials
from gateway.means import Means
from gateway.routing.course import Alternatives, Stop, Trip
from gateway.routing.plan import plan, wish_of
from gateway.values import Call, Endpoint, Principal


class DirectErrand:
    """A call to one of the key's settings. Its answers are not kept."""

    __slots__ = ("_principal", "endpoint", "keeps_s", "takes_pieces")

    def __init__(self, endpoint: Endpoint, principal: Principal) -> None:
        self._principal = principal
        self.endpoint = endpoint
        self.keeps_s = 0.0
        self.takes_pieces = True

    def call(self, call: Call) -> Call:
        """What was asked, as it was read."""
        return excused(self._principal, self.endpoint, call) if call.hides_model else call

    def trip(self, asked: Asked, means: Means) -> Trip:
        """To the best of the settings, and on to the others.

        Under a provider's own path, what it answers is for the client. Raises Refusal as `plan`
        and `check_call` do.
        """
        endpoint, principal, snapshot = self.endpoint, self._principal, asked.snapshot
        call, inbound = asked.call, asked.inbound
        targets = snapshot.target_by_setting
        wish, gated = None, call
        if endpoint.provider is None and call.model is not None:
            wish = wish_of(call.model, principal, snapshot.aliases, targets)
            if wish is not None and call.model not in (principal.allowed_models or ()):
                gated = replace(call, model=wish.model)
        check_call(
            principal,
            gated,
            snapshot.users_by_user_id,
            inbound.method,
            endpoint.template,
            inbound.received_at_ms,
        )
        choice = plan(principal, call, endpoint, targets, means.health, means.draw, wish)
        query = without_credentials(inbound.query) if inbound.query else b""
        first = Stop(choice.target, choice.model, endpoint, query, None)
        trip = Trip(first, None, None)
        if choice.others and inbound.method == "POST" and _is_repeatable(asked):
            others = [replace(first, target=target) for target in choice.others]
            deadline_s = time.monotonic() + asked.timeout_s
            goes_on = endpoint.provider is None
            course = Alternatives([first, *others], deadline_s, goes_on=goes_on)
            trip = replace(trip, course=course)
        if choice.model is None or call.model is None or choice.model == call.model:
            return trip
        return _asking_for(choice.model, call.model, asked, trip)

    def cache_key(self, _asked: Asked, _body: bytes) -> bytes:
        """Empty: nothing is kept."""
        return b""


def _is_repeatable(asked: Asked) -> bool:
    return asked.incoming is None or asked.incoming.upload.is_repeatable


def _asking_for(model: str, named: str, asked: Asked, trip: Trip) -> Trip:
    """The same for a body that asks for another model than it named."""
    form, incoming = asked.form, asked.incoming
    if form is None:
        return replace(trip, edit=partial(with_model, asked=named, model=model))
    if incoming is None:
        return replace(trip, edit=partial(_with_model_in_form, form=form, model=model))
    field = form.fields.get(b"model")
    if field is not None:
        incoming.upload.swap = (field.start, field.end, model.encode())
    return trip


def _with_model_in_form(body: bytes, form: FormReader, model: str) -> bytes:
    field = form.fields[b"model"]
    return body[: field.start] + model.encode() + body[field.end :]
