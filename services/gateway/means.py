"""What an exchange needs on its way, and the limits that hold for it."""

import random
from collections.abc import Callable

import msgspec

from gateway.dispatch.deadlines import Deadlines
from gateway.ports import ResponseCache, Upstream
from gateway.routing.health import Health
from gateway.telemetry import Counters, Tallies
from gateway.values import Endpoint, Refusal


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
    """One of each per worker."""

    upstream: Upstream
    counters: Counters
    tallies: Tallies
    deadlines: Deadlines
    limits: Limits
    show_error_event: Callable[[Endpoint, Refusal, bytes], bytes]
    health: Health = msgspec.field(default_factory=Health)
    draw: Callable[[], float] = random.Random().random
    cache: ResponseCache | None = None
