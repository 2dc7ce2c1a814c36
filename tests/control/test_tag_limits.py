"""Limits of a tag over 8001."""

from urllib.parse import quote

import pytest
from support import loopback
from support.programs import Gateway

LIMITS = {
    "costLimitInUsd": 100,
    "costLimits": [{"usd": 10.5, "unit": "mo", "timezone": "Asia/Tokyo"}],
    "rateLimits": [{"limit": 600, "unit": "m"}],
    "tokenLimits": [{"tokens": 1000000, "unit": "d"}],
    "concurrencyLimit": 32,
}


@pytest.fixture(scope="module")
def api(gateway: Gateway):
    """A client of the admin API."""
    with loopback.Client(base_url=gateway.admin_url) as client:
        yield client


def path(tag: str) -> str:
    return f"/api/tags/{quote(tag, safe='')}/limits"


@pytest.mark.parametrize(
    "tag",
    [
        "team-a",
        "R&D, \u00e9t\u00e9 {1}",
        "a b?c#d",
        "\U0001f600",
        "100%",
        "org/team",
        "/",
        "a/100%2F",
    ],
)
def test_limits_of_a_tag_are_set_shown_and_taken_away(api, tag):
    """Whatever the tag is called."""
    assert api.get(path(tag)).status_code == 404

    made = api.put(path(tag), json=LIMITS)
    assert made.status_code == 200, made.text
    assert {name: made.json()[name] for name in LIMITS} == LIMITS
    assert made.json()["tag"] == tag
    assert api.get(path(tag)).json() == made.json()

    less = api.put(path(tag), json={"concurrencyLimit": 1}).json()
    assert not {"costLimits", "rateLimits", "tokenLimits", "costLimitInUsd"} & less.keys()
    assert less["createdAt"] == made.json()["createdAt"]

    for _ in range(2):
        gone = api.delete(path(tag))
        assert (gone.status_code, gone.content) == (200, b"")
    assert api.get(path(tag)).status_code == 404


@pytest.mark.parametrize(
    ("tag", "body"),
    [
        ("t", {}),
        ("t", {"costLimitInUsd": -1}),
        ("t", {"rateLimits": [{"limit": 1, "unit": "year"}]}),
        ("t" * 1025, LIMITS),
        ("\0", LIMITS),
    ],
)
def test_limits_that_limit_nothing_or_cannot_be_are_refused(api, tag, body):
    """None of them is stored."""
    answer = api.put(path(tag), json=body)

    assert answer.status_code == 400, answer.text
    assert answer.json()["title"] == "tag limits validation failed"


@pytest.mark.parametrize("name", ["costLimit", "cost_limits", "budget"])
def test_a_misspelt_limit_beside_a_good_one_is_refused(api, name):
    """It must not look like one."""
    answer = api.put(path("misspelt"), json={"concurrencyLimit": 1, name: [{"usd": 5}]})

    assert answer.status_code == 400
    assert f"unknown member {name}" in answer.json()["detail"]
