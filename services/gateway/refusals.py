"""What more than one place says no with."""

import math
from typing import Final

from gateway.values import Refusal

_TIMED_OUT: Final = "the provider did not answer in time"


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


def not_found() -> Refusal:
    """404: nothing is served there."""
    return Refusal(404, "invalid_request_error", "not_found", "route not supported")


def too_slow() -> Refusal:
    """408: a client may not hold a request open for longer than its exchange might last."""
    return Refusal(
        408, "invalid_request_error", "request_timeout", "the request body did not arrive in time"
    )


def upstream_timeout() -> Refusal:
    """504: a clock ran out, the provider's or ours."""
    return Refusal(504, "api_error", "upstream_timeout", _TIMED_OUT)


def upstream_unavailable(retry_after_s: float | None) -> Refusal:
    """502: no provider gave an answer; the shortest time that any of them asked to wait, if so."""
    return Refusal(
        502,
        "api_error",
        "upstream_unavailable",
        "the provider gave no usable answer",
        retry_after_s=None if retry_after_s is None else math.ceil(retry_after_s),
    )
