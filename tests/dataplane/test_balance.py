"""The order in which a key's settings are tried."""

import random
from collections import Counter

import pytest

from contracts.exchange import SettingRef
from gateway.ports import Origin
from gateway.providers.registry import PROVIDERS
from gateway.routing.balance import in_order
from gateway.routing.health import REST_DENIED_S, REST_MAX_S, Health, speaks_against
from gateway.values import Principal, Target


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def target(name: str, *, weight: int = 1, priority: int = 0) -> Target:
    return Target(
        ref=SettingRef(name, 1, "openai"),
        provider=PROVIDERS["openai"],
        origin=Origin("http", "h", 80),
        base_path=b"",
        auth_headers={"openai": ()},
        secrets=(),
        allowed_models=frozenset(),
        cost_map=None,
        asks_usage_on_streams=True,
        weight=weight,
        priority=priority,
    )


def principal(balancing: str, key_id: str = "k") -> Principal:
    return Principal(
        key_id, bytes(32), 1, (), (), None, None, None, False, "", False, False, "",
        balancing=balancing,
    )  # fmt: skip


ABC = [target("a"), target("b"), target("c")]


def names(candidates, balancing="first", *, user=None, model="m", health=None, draw=None):
    ordered = in_order(
        candidates,
        principal(balancing),
        user,
        model,
        health or Health(),
        draw or random.Random(7).random,
    )
    return [one.ref.setting_id for one in ordered]


@pytest.mark.parametrize("balancing", ["first", "random", "weighted", "least_busy", "sticky"])
def test_the_lowest_priority_number_goes_first(balancing):
    """Balancing shares calls within one priority only; the rest is there to fall back on."""
    found = names([target("late", priority=9, weight=100), target("early", priority=1)], balancing)

    assert found == ["early", "late"]


def test_first_keeps_the_order_of_the_key():
    """Without a balancing every call goes to the same setting."""
    assert names(ABC) == ["a", "b", "c"]


def test_random_spreads_over_all_alike():
    """Every setting comes first about as often."""
    draw = random.Random(1).random
    counts = Counter(names(ABC, "random", draw=draw)[0] for _ in range(3000))

    assert min(counts.values()) > 900


def test_weighted_shares_calls_by_weight():
    """Three to one."""
    draw = random.Random(2).random
    pair = [target("heavy", weight=3), target("light")]
    counts = Counter(names(pair, "weighted", draw=draw)[0] for _ in range(4000))

    assert 0.72 < counts["heavy"] / 4000 < 0.78


def test_least_busy_goes_where_fewest_calls_are_under_way():
    """Calls that are over do not count."""
    health = Health()
    for name in ("a", "a", "b", "c"):
        health.begin(name)
    health.end("c")

    assert names(ABC, "least_busy", health=health) == ["c", "b", "a"]


def test_sticky_sends_one_end_user_to_one_setting_and_many_to_all():
    """The same in every worker: nothing is remembered."""
    again = {names(ABC, "sticky", user="u", draw=random.Random(n).random)[0] for n in range(20)}
    many = Counter(names(ABC, "sticky", user=f"u{n}")[0] for n in range(600))

    assert len(again) == 1
    assert min(many.values()) > 150


def test_sticky_moves_only_those_whose_setting_is_gone():
    """What a provider has cached for the others stays useful."""
    moved = 0
    for n in range(200):
        before = names(ABC, "sticky", user=f"u{n}")
        after = names(ABC[:2], "sticky", user=f"u{n}")
        if before[0] == "c":
            moved += 1
            assert after[0] == before[1]
        else:
            assert after[0] == before[0]
    assert moved


def test_who_failed_rests_and_comes_last():
    """Whatever its priority; the one that rests least goes first when all do."""
    clock = Clock()
    health = Health(clock)
    health.failed("a", 500)
    assert names(ABC, health=health) == ["b", "c", "a"]

    health.failed("b", 429, 20.0)
    health.failed("c", 401)
    assert names(ABC, health=health) == ["a", "b", "c"]

    clock.now_s += REST_DENIED_S
    assert names(ABC, health=health) == ["a", "b", "c"]
    assert not health.is_clear


def test_rests_grow_until_a_call_succeeds():
    """One, two, four seconds, up to a minute; then as good as new."""
    clock = Clock()
    health = Health(clock)
    rests = []
    for _ in range(9):
        health.failed("a")
        rests.append(health.rests_for_s("a"))
        clock.now_s += rests[-1]
    health.failed("a")
    health.failed("a")
    assert health.rests_for_s("a") == REST_MAX_S
    health.succeeded("a")

    assert rests[:4] == [1.0, 2.0, 4.0, 8.0]
    assert rests[-1] == REST_MAX_S
    assert health.rests_for_s("a") == 0
    assert health.is_clear


def test_failures_of_calls_that_began_before_the_rest_count_once():
    """A hundred calls under way when a provider goes down are one failure."""
    clock = Clock()
    health = Health(clock)
    for _ in range(100):
        health.failed("a", 503)

    assert health.rests_for_s("a") == 1.0


def test_a_provider_cannot_ask_for_a_rest_without_end():
    """Retry-After is bounded."""
    health = Health(Clock())
    health.failed("a", 429, 86_400.0)

    assert health.rests_for_s("a") == REST_MAX_S


def test_only_answers_about_the_setting_speak_against_it():
    """Not those about the request."""
    assert [status for status in (200, 400, 401, 403, 404, 408, 409, 422, 429, 500, 503)
            if speaks_against(status)] == [401, 403, 429, 500, 503]  # fmt: skip
