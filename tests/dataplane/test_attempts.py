"""The schedule of a call's attempts: order, pauses, time limits and what ends it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.attempts import (
    ATTEMPTS_MAX,
    RETRY_AFTER_FAR_S,
    RETRY_AFTER_PATIENCE_S,
    Schedule,
    Step,
    Try,
    is_retryable,
    retry_after_of,
)


def middle() -> float:
    return 0.5


def schedule(*steps: Step, deadline_s: float = 1000.0) -> Schedule:
    return Schedule(steps, deadline_s, middle)


def test_each_step_is_tried_once_and_so_many_times_again():
    """Retries are counted beside the first try, then the next step follows without a pause."""
    plan = schedule(Step(2, 1.0, False, 5.0), Step(0, 1.0, False, 7.0))

    assert plan.first(0.0) == Try(0, 0, 0.0, 5.0)
    assert plan.next(0.1) == Try(0, 1, 1.0, 5.0)
    assert plan.next(1.2) == Try(0, 2, 1.0, 5.0)
    assert plan.next(2.3) == Try(1, 0, 0.0, 7.0)
    assert plan.next(2.4) is None


def test_exponential_pauses_grow_by_half_up_to_a_minute():
    """500 ms, 750 ms, ...: the interval of the step is not looked at."""
    plan = schedule(Step(20, 9.0, True, 5.0), deadline_s=10_000.0)
    plan.first(0.0)

    waits = [found.wait_s for _ in range(20) if (found := plan.next(0.0)) is not None]

    assert waits[:3] == [0.5, 0.75, 1.125]
    assert max(waits) == waits[-1] == 60.0


@given(st.floats(0, 1, exclude_max=True))
def test_jitter_stays_within_half_of_the_pause(drawn):
    """The first pause is from 250 to 750 ms."""
    plan = Schedule([Step(1, 0.0, True, 5.0)], 100.0, lambda: drawn)
    plan.first(0.0)

    found = plan.next(0.0)

    assert found is not None
    assert 0.25 <= found.wait_s <= 0.75


def test_what_the_provider_asks_for_is_waited_when_it_is_longer():
    """Retry-After over the step's own pause."""
    plan = schedule(Step(1, 1.0, False, 5.0))
    plan.first(0.0)

    assert plan.next(0.0, 20.0) == Try(0, 1, 20.0, 5.0)


def test_an_impatient_call_goes_on_to_the_next_step():
    """Where there is another step, a provider is not waited for longer than it takes to go on."""
    plan = schedule(Step(3, 1.0, False, 5.0), Step(0, 0.0, False, 5.0))
    plan.first(0.0)

    assert plan.next(0.0, RETRY_AFTER_PATIENCE_S + 1) == Try(1, 0, 0.0, 5.0)


def test_an_absurd_retry_after_ends_the_call():
    """Nobody waits an hour for the last step."""
    plan = schedule(Step(3, 1.0, False, 5.0))
    plan.first(0.0)

    assert plan.next(0.0, 3600.0) is None


def test_a_pause_that_outlasts_the_deadline_is_not_made():
    """The time that is left goes to the next step; when none is left the call ends."""
    plan = schedule(Step(1, 10.0, False, 50.0), Step(0, 0.0, False, 50.0), deadline_s=8.0)

    assert plan.first(0.0) == Try(0, 0, 0.0, 8.0)
    assert plan.next(3.0) == Try(1, 0, 0.0, 5.0)
    assert plan.next(8.0) is None


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=20),
    st.lists(st.none() | st.floats(0, 100), max_size=30),
)
def test_no_call_is_tried_without_end(retries, asked):
    """Steps never go back, and all attempts together have a limit and end in time."""
    steps = [Step(count, 0.1, False, 5.0) for count in retries]
    plan = Schedule(steps, 50.0, middle)
    now_s, at, count = 0.0, plan.first(0.0), 1

    while (found := plan.next(now_s, asked[count] if count < len(asked) else None)) is not None:
        assert (found.step, found.number) in {(at.step, at.number + 1), (at.step + 1, 0)}
        assert now_s + found.wait_s + found.timeout_s <= 50.0 + 1e-9
        now_s, at, count = now_s + found.wait_s, found, count + 1

    assert count <= ATTEMPTS_MAX


def test_what_may_succeed_later_is_tried_again():
    """Timeouts, conflicts, limits and failures of the provider; not what the client got wrong."""
    statuses = [status for status in range(100, 600) if is_retryable(status)]

    assert statuses == [408, 409, 429, *range(500, 600)]


def test_retry_after_is_seconds_or_a_date():
    """Both forms of RFC 9110; a number without end is longer than anybody waits."""
    now_s = 1_792_567_680.0
    assert retry_after_of(b"12") == 12.0
    assert retry_after_of(b" 12 ") == 12.0
    assert retry_after_of(b"1.5") == 1.5
    assert retry_after_of(b"9" * 5000) == RETRY_AFTER_FAR_S
    assert retry_after_of(b"99999999999") == RETRY_AFTER_FAR_S
    assert retry_after_of(b"Wed, 21 Oct 2026 07:28:10 GMT", now_s) == 10.0
    assert retry_after_of(b"Wednesday, 21-Oct-26 07:28:10 GMT", now_s) == 10.0
    assert retry_after_of(b"Wed Oct 21 07:28:10 2026", now_s) == 10.0
    assert retry_after_of(b"Wed, 21 Oct 2026 07:27:00 GMT", now_s) == 0.0
    assert retry_after_of(b"Wed, 21 Oct 2126 07:28:10 GMT", now_s) == RETRY_AFTER_FAR_S


@pytest.mark.parametrize(
    "text",
    [
        *(None, b"", b"-1", b"1e3", b"nan", b"inf", b"soon", b"\xff", b"1.", b"1_0"),
        *(b"Wed, 99 Oct 2026 07:28:00 GMT", b"Wed, 21 Oct 99999 07:28:00 GMT", b"a" * 100),
    ],
)
def test_a_retry_after_that_is_neither_is_nothing_to_wait_for(text):
    """Nor does it raise."""
    assert retry_after_of(text) is None
