"""Where one call goes, and where it goes on to when that fails: the seam between plans and dispatch."""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from gateway.ports import UpstreamError
from gateway.routing.attempts import Schedule, is_retryable
from gateway.routing.health import speaks_against
from gateway.values import Endpoint, Target


class Stop(msgspec.Struct, frozen=True):
    """One destination of a call: its own target, model, path and query there.

    `edit` makes the body that goes there of the client's; None where it is that of the first stop.
    """

    target: Target
    model: str | None
    endpoint: Endpoint
    query: bytes
    edit: Callable[[bytes], bytes] | None


class Leg(msgspec.Struct, frozen=True):
    """The next stop, after what pause, and for how long it may keep the first byte back."""

    stop: Stop
    wait_s: float
    timeout_s: float


class Course(Protocol):
    """The destinations of one call, in order.

    `keeps_last_answer`: when everything failed, the last answer of a provider is the client's, else
    it is a 502 of ours.
    """

    keeps_last_answer: bool

    def first(self, now_s: float) -> Leg:
        """The attempt that begins at once."""
        ...

    def turns_down(self, status: int) -> bool:
        """Whether an answer of this status is a failure that another attempt may heal."""
        ...

    def after(
        self, error: UpstreamError | None, now_s: float, retry_after_s: float | None
    ) -> Leg | None:
        """What follows a failed attempt, None at the end. `error` is None for an answer turned down."""
        ...


class Trip(msgspec.Struct, frozen=True):
    """Where a call goes first, how the body is made that goes there, and where it goes on to.

    `edit` raises Refusal for a body that it cannot edit; None where it goes as it came. `course`
    begins with `first`; None where a call goes nowhere else.
    """

    first: Stop
    edit: Callable[[bytes], bytes] | None
    course: Course | None


class Alternatives:
    """Several settings that can serve the same call, each tried once.

    Under a provider's own path a call goes on only where it never arrived: what the provider says
    is for the client to judge, as if it had asked the provider itself.
    """

    __slots__ = ("_at", "_deadline_s", "_goes_on", "_stops", "keeps_last_answer")

    def __init__(self, stops: Sequence[Stop], deadline_s: float, *, goes_on: bool) -> None:
        self._stops = stops
        self._deadline_s = deadline_s
        self._goes_on = goes_on
        self._at = 0
        self.keeps_last_answer = False

    def first(self, now_s: float) -> Leg:
        """The best setting."""
        return Leg(self._stops[0], 0.0, max(self._deadline_s - now_s, 0.0))

    def turns_down(self, status: int) -> bool:
        """What another setting may do better."""
        return self._goes_on and (is_retryable(status) or speaks_against(status))

    def after(
        self,
        error: UpstreamError | None,
        now_s: float,
        retry_after_s: float | None,  # noqa: ARG002 - another setting need not wait for this one
    ) -> Leg | None:
        """The next setting."""
        if error is not None and not (self._goes_on or error.sent_nothing):
            return None
        if self._at + 1 >= len(self._stops) or now_s >= self._deadline_s:
            return None
        self._at += 1
        return Leg(self._stops[self._at], 0.0, self._deadline_s - now_s)


class RouteCourse:
    """The steps of a route; the settings of a step's provider take turns in its attempts."""

    __slots__ = ("_is_any", "_schedule", "_steps", "keeps_last_answer")

    def __init__(
        self, steps: Sequence[Sequence[Stop]], schedule: Schedule, *, turns_down_any: bool
    ) -> None:
        self._steps = steps
        self._schedule = schedule
        self._is_any = turns_down_any
        self.keeps_last_answer = True

    def first(self, now_s: float) -> Leg:
        """The first step."""
        at = self._schedule.first(now_s)
        return Leg(self._steps[0][0], 0.0, at.timeout_s)

    def turns_down(self, status: int) -> bool:
        """Any but 200, or what may succeed later or elsewhere."""
        return status != 200 if self._is_any else is_retryable(status)

    def after(
        self,
        error: UpstreamError | None,  # noqa: ARG002 - a step is tried again whatever went wrong
        now_s: float,
        retry_after_s: float | None,
    ) -> Leg | None:
        """Another attempt at the step, or the next step."""
        at = self._schedule.next(now_s, retry_after_s)
        if at is None:
            return None
        stops = self._steps[at.step]
        return Leg(stops[at.number % len(stops)], at.wait_s, at.timeout_s)
