"""Every call that OpenAI's client can make: through the gateway it is what it is without it."""

import functools
import inspect

import openai
import pytest
from calls import FILE, can_stream, methods_of, outcome_of
from conftest import GATEWAY, RECORDED, RECORDER

BASES = ["/api/providers/openai/v1", "/v1"]
if not openai.VERSION.startswith("3"):
    # What the plain root does otherwise, it does whatever the client's version is.
    BASES = BASES[:1]
# No HTTP: they open a WebSocket, or compute something here.
NO_REQUEST = ("connect", "webhooks.unwrap", "webhooks.verify_signature", "prepare", "for_result")
# Of a whole directory, or in several calls of the user's.
NOT_ONE_CALL = {
    "beta.agents.environments.files.prepare_directory",
    "beta.agents.environments.files.upload",
    "beta.agents.sessions.stream",
}
LISTED_HERE = {"models.list", "models.retrieve"}
"""Under the plain root by the gateway, of what the key may use."""
ADDED = b'"stream_options":{"include_usage":true},'
MORE = {
    "responses.stream": {"model": "m-1", "input": "é"},
    "uploads.upload_file_chunked": {"filename": "a.bin", "bytes": len(FILE[1]), "part_size": 777},
}


def client_of(base_url: str, key: str) -> openai.OpenAI:
    """OpenAI's client, with what it may also want to administer the account."""
    admin = {"admin_api_key": key} if "admin_api_key" in OPTIONS else {}
    return openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=60, **admin)


OPTIONS = inspect.signature(openai.OpenAI).parameters
DIRECT = client_of(f"{RECORDER}/v1", "sk-of-the-user")
NAMES = {
    name: method
    for name, method in methods_of(DIRECT)
    if not name.endswith(NO_REQUEST) and name not in NOT_ONE_CALL
}
ADMIN = [name for name in NAMES if name.startswith("admin.")]
CALLS = [
    (name, is_streamed)
    for name, method in NAMES.items()
    if name not in ADMIN
    for is_streamed in ([False, True] if can_stream(method) and "parse" not in name else [False])
]


@pytest.fixture(scope="module", params=BASES)
def client(request):
    """With a key whose setting leads to the recorder."""
    with client_of(GATEWAY + request.param, RECORDED["openai"]) as client:
        yield client


@functools.cache
def without_the_gateway(name, is_streamed):
    """What the call comes to when the client talks to the provider."""
    return outcome_of(DIRECT, name, more_of(name, is_streamed))


def more_of(name, is_streamed):
    """Arguments beside the required ones."""
    return MORE.get(name, {}) | ({"stream": True} if is_streamed else {})


def without_our_question(requests):
    """Of a stream of chat the gateway asks for the usage, which the client is then not told."""
    for request in requests:
        if request["target"].endswith("/completions"):
            request["body"] = request["body"].replace(ADDED, b"")
    return requests


@pytest.mark.parametrize(("name", "is_streamed"), CALLS)
def test_a_call_is_what_it_is_without_the_gateway(client, name, is_streamed):
    """Method, target, headers and body go up; what comes down is the same for the user."""
    if name in LISTED_HERE and str(client.base_url).startswith(f"{GATEWAY}/v1"):
        pytest.skip("answered by the gateway: test_openai.py")
    through = outcome_of(client, name, more_of(name, is_streamed))
    direct = without_the_gateway(name, is_streamed)

    assert through.shown == direct.shown
    assert without_our_question(through.heard) == direct.heard
    assert through.credentials == {"Bearer sk-of-the-provider"}


@pytest.mark.parametrize("name", ADMIN)
def test_the_account_is_not_administered_through_the_gateway(client, name):
    """Refused before anything is sent, unless the operator opens it."""
    with pytest.raises(openai.PermissionDeniedError):
        outcome_of(client, name, {})
