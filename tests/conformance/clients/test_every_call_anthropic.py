"""Every call that Anthropic's client can make: through the gateway it is what it is without it."""

import functools

import anthropic
import pytest
from calls import can_stream, methods_of, outcome_of
from conftest import GATEWAY, RECORDED, RECORDER

BASES = ["", "/api/providers/anthropic"]
# No request: they compute something, or are objects that make requests later.
NO_REQUEST = ("webhooks.unwrap", "webhooks.parse_unverified", "messages.thread")
# The client gets them from an absolute address in an answer, whatever its own base address is.
ELSEWHERE = {"messages.batches.results", "beta.messages.batches.results"}
# Under the plain root by the gateway, of what the key may use.
LISTED_HERE = {"models.list", "models.retrieve", "beta.models.list", "beta.models.retrieve"}


def client_of(base_url: str, key: str) -> anthropic.Anthropic:
    """Anthropic's client."""
    return anthropic.Anthropic(base_url=base_url, api_key=key, max_retries=0, timeout=60)


DIRECT = client_of(RECORDER, "sk-of-the-user")
NAMES = {
    name: method
    for name, method in methods_of(DIRECT)
    if not name.endswith(NO_REQUEST) and name not in ELSEWHERE
}
ADMIN = [name for name in NAMES if name.startswith(("organization.", "beta.organization."))]
CALLS = [
    (name, is_streamed)
    for name, method in NAMES.items()
    if name not in ADMIN
    for is_streamed in ([False, True] if can_stream(method) and "parse" not in name else [False])
]


@pytest.fixture(scope="module", params=BASES)
def client(request):
    """With a key whose setting leads to the recorder."""
    with client_of(GATEWAY + request.param, RECORDED["anthropic"]) as client:
        yield client


@functools.cache
def without_the_gateway(name, is_streamed):
    """What the call comes to when the client talks to the provider."""
    return outcome_of(DIRECT, name, {"stream": True} if is_streamed else {})


@pytest.mark.parametrize(("name", "is_streamed"), CALLS)
def test_a_call_is_what_it_is_without_the_gateway(client, name, is_streamed):
    """Method, target, headers and body go up; what comes down is the same for the user."""
    if name in LISTED_HERE and str(client.base_url).strip("/") == GATEWAY:
        pytest.skip("answered by the gateway: test_anthropic.py")
    through = outcome_of(client, name, {"stream": True} if is_streamed else {})
    direct = without_the_gateway(name, is_streamed)

    assert through.shown == direct.shown
    assert through.heard == direct.heard
    assert through.credentials == {"sk-of-the-provider"}


@pytest.mark.parametrize("name", ADMIN)
def test_the_account_is_not_administered_through_the_gateway(client, name):
    """Refused before anything is sent, unless the operator opens it."""
    with pytest.raises(anthropic.PermissionDeniedError):
        outcome_of(client, name, {})
