"""What of the client's head goes on, and what never does."""

import pytest

from gateway.identity.head import sort_headers
from gateway.values import Refusal, masked

CREDENTIALS = [(b"x-api-key", b"one"), (b"api-key", b"two"), (b"authorization", b"Bearer three")]


HOST = (b"host", b"gateway")


def head(*pairs, drops_user_agent=False):
    return sort_headers([HOST, *pairs], drops_user_agent=drops_user_agent)


def test_credentials_are_taken_in_order_and_never_forwarded():
    """x-api-key, then api-key, then the second word of authorization."""
    for first in range(3):
        sorted_head = head(*CREDENTIALS[first:])

        assert sorted_head.credential == ["one", "two", "three"][first]
        assert [name for name, _ in sorted_head.forwarded] == [b"accept-encoding"]


def test_hop_by_hop_headers_stay_here():
    """The fixed ones, and those that Connection names."""
    sorted_head = head(
        (b"connection", b"keep-alive, X-Secret-Hop"),
        (b"x-secret-hop", b"1"),
        (b"te", b"trailers"),
        (b"transfer-encoding", b"chunked"),
        (b"openai-beta", b"assistants=v2"),
        (b"content-type", b"application/json"),
    )

    assert sorted_head.forwarded == [
        (b"accept-encoding", b"identity"),
        (b"openai-beta", b"assistants=v2"),
        (b"content-type", b"application/json"),
    ]


def test_no_header_turns_the_method_into_another_one():
    """What a request costs depends on its method; nor is there a websocket to be shaken hands on."""
    names = (b"x-http-method", b"x-http-method-override", b"x-method-override")
    websocket = (b"key", b"version", b"protocol", b"extensions", b"accept")
    pairs = [(name, b"POST") for name in names]
    pairs += [(b"sec-websocket-" + name, b"13") for name in websocket]

    assert head(*pairs).forwarded == [(b"accept-encoding", b"identity")]


def test_our_own_switches_are_read_and_not_forwarded():
    """Custom id, metadata and timeout are ours."""
    sorted_head = head(
        (b"x-custom-event-id", b"order 7"),
        (b"x-metadata", b'{"a":1}'),
        (b"x-request-timeout", b"5s"),
    )

    assert (sorted_head.custom_id, sorted_head.metadata, sorted_head.timeout) == (
        "order 7",
        '{"a":1}',
        "5s",
    )
    assert sorted_head.forwarded == [(b"accept-encoding", b"identity")]


def test_user_agent_is_dropped_on_request():
    """REMOVE_USER_AGENT."""
    assert (b"user-agent", b"x") in head((b"user-agent", b"x")).forwarded
    assert (b"user-agent", b"x") not in head((b"user-agent", b"x"), drops_user_agent=True).forwarded


@pytest.mark.parametrize(
    ("credential", "shown"), [("sk-12345", "sk-12" + "*" * 46), ("abc", "a*****"), ("", "*****")]
)
def test_a_credential_is_shown_masked(credential, shown):
    """Five characters and 46 asterisks, or less."""
    assert masked(credential) == shown


def test_a_head_over_the_limit_is_refused():
    """Names, values and what stands between them, to the byte."""
    sort_headers([HOST, (b"x", b"y" * 80)], drops_user_agent=False, head_bytes_max=100)
    with pytest.raises(Refusal) as refused:
        sort_headers([HOST, (b"x", b"y" * 81)], drops_user_agent=False, head_bytes_max=100)

    assert refused.value.status == 431
