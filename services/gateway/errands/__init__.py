"""What a call sets out to do: one mechanism for providers' own paths, the plain root, and for what
operators describe (routes, custom providers)."""

from typing import Protocol

from gateway.asked import Asked
from gateway.configuration.snapshot import Snapshot
from gateway.errands.custom import CustomErrand
from gateway.errands.direct import DirectErrand
from gateway.errands.route import RouteErrand
from gateway.means import Means
from gateway.routing.course import Trip
from gateway.values import Call, Endpoint, Principal


class Errand(Protocol):
    """A call of one kind.

    `endpoint` is what it asks for. `keeps_s` is for how long its answers are kept, in seconds; 0
    when they are not. `takes_pieces` says whether a long body may go on without being held.
    """

    endpoint: Endpoint
    keeps_s: float
    takes_pieces: bool

    def call(self, call: Call) -> Call:
        """What was asked, of what was read in the body."""
        ...

    def trip(self, asked: Asked, means: Means) -> Trip:
        """Where it goes, and where it goes on to. Raises Refusal: 400, 401, 403."""
        ...

    def cache_key(self, asked: Asked, body: bytes) -> bytes:
        """What the same call has alike, empty when that is not clear. To be asked after `trip`."""
        ...


def errand_of(endpoint: Endpoint, principal: Principal, snapshot: Snapshot) -> Errand:
    """Raises Refusal: 404 for what nobody described, 401 when the key may not use it."""
    if not endpoint.kind:
        return DirectErrand(endpoint, principal)
    if endpoint.kind == "route":
        return RouteErrand(endpoint, principal, snapshot)
    return CustomErrand(endpoint, snapshot)
