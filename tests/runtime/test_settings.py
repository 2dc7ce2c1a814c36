"""What is refused when settings are read, and what is not."""

from typing import Annotated

import msgspec
import pytest

from runtime.settings import BadSettings, Secret, load, url
from runtime.urls import without_password


class Urls(msgspec.Struct, frozen=True):
    """One that is secret, and a list."""

    database_url: Annotated[Secret | None, url("a database")] = None
    servers_url: Annotated[str, url("servers, comma separated")] = "nats://127.0.0.1"


GOOD = [
    "",
    "postgresql://tollway@127.0.0.1:5432/tollway",
    "postgresql://me:p%40s:s@a.example:5432,b.example:65535,c.example/tollway?sslmode=require",
    "postgresql:///tollway?host=/var/run/postgresql&port=5433",
    "postgresql://%2Fvar%2Frun/tollway",
    "http://[::1]:8123",
    "http://[::1]",
    "http://a.example:/",
    "nats://a:4222,nats://me:hush@b:4223, tls://c",
    "nats://a:4222,b:4223",
    "a.example:4222",
    "redis://:hush@a.example:1/0",
    "unix:///run/redis.sock",
    # Only Postgres takes a port from a query.
    "https://seal.example/encrypt?port=hush",
]
BAD = [
    "postgresql://me:hush@127.0.0.1:54x2/tollway",
    "postgresql://me:hush@127.0.0.1:99999/tollway",
    "postgresql://me:hush@127.0.0.1:0/tollway",
    "postgresql://me:hush@127.0.0.1:-1/tollway",
    "postgresql://me:hush@127.0.0.1:+1/tollway",
    "postgresql://me:hush@127.0.0.1:٣/tollway",
    "postgresql://me:hush@a:5432,b:x/tollway",
    "postgresql://me@/tollway?port=hush",
    # A password whose slash is not written %2F.
    "postgresql://me:hush/word@127.0.0.1:5432/tollway",
    "http://[::1]:hush",
    "http://[::1",
    "nats://a:4222,nats://me:hush@b:65536",
    "a.example:hush",
]


@pytest.mark.parametrize("text", GOOD)
@pytest.mark.parametrize("name", ["database_url", "servers_url"])
def test_an_address_is_taken_as_it_is(name, text):
    """With a port or without, one or several, with credentials or in a file system."""
    value = getattr(load(Urls, {name.upper(): text}), name)

    assert (value.reveal() if isinstance(value, Secret) else value or "") == text


@pytest.mark.parametrize("text", BAD)
@pytest.mark.parametrize("name", ["database_url", "servers_url"])
def test_an_address_whose_port_cannot_be_is_named_and_not_shown(name, text):
    """What stands in the port's place may be a part of a password."""
    with pytest.raises(BadSettings) as caught:
        load(Urls, {name.upper(): text})
    [problem] = caught.value.problems

    assert problem.startswith(f"{name.upper()}: ")
    assert "65535" in problem or "no URL" in problem
    assert "hush" not in problem


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nats://me:hush@a:4222", "nats://a:4222"),
        ("nats://me:hush@a:4222, tls://hush@b:4223", "nats://a:4222, tls://b:4223"),
        ("postgresql://me:hush@a:1,[::1]:2/tollway?password=hush", "postgresql://a:1,[::1]:2"),
        ("127.0.0.1:4222", "127.0.0.1:4222"),
        # A token whose number sign is not written %23.
        ("nats://hush#token@a:4222", "nats"),
        ("redis://:hush@a", "redis"),
    ],
)
def test_where_an_address_points_is_shown_without_its_password(text, shown):
    """Several of them, too."""
    assert without_password(text) == shown
