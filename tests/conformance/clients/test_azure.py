"""OpenAI's client for Azure: deployments in the path, `api-version`, the key in `api-key`."""

import openai
import pytest
from conftest import ALL, CHAT, GATEWAY

VERSION = "2024-10-21"


@pytest.fixture
def client():
    """By its endpoint, as users of Azure write it."""
    with openai.AzureOpenAI(
        azure_endpoint=f"{GATEWAY}/api/providers/azure",
        api_key=ALL,
        api_version=VERSION,
        max_retries=0,
        timeout=60,
    ) as client:
        yield client


def test_chat(client):
    """Whole and streamed; the client writes the deployment into the path by itself."""
    whole = client.chat.completions.create(model="gpt-4o", messages=CHAT)
    streamed = client.chat.completions.create(model="gpt-4o", messages=CHAT, stream=True)
    text = "".join(event.choices[0].delta.content or "" for event in streamed)

    assert whole.choices[0].message.content == text
    assert whole.usage.total_tokens > 0


def test_embeddings(client):
    """Of a deployment."""
    answer = client.embeddings.create(model="text-embedding-3-small", input="a", dimensions=8)

    assert len(answer.data[0].embedding) == 8


def test_a_deployment_given_beforehand():
    """`azure_deployment` becomes a part of the base."""
    with openai.AzureOpenAI(
        azure_endpoint=f"{GATEWAY}/api/providers/azure",
        azure_deployment="gpt-4o",
        api_key=ALL,
        api_version=VERSION,
        max_retries=0,
    ) as client:
        assert client.chat.completions.create(model="gpt-4o", messages=CHAT).choices


def test_an_entra_token_takes_the_keys_place():
    """A client that shows a bearer token shows the gateway's key as one."""
    with openai.AzureOpenAI(
        azure_endpoint=f"{GATEWAY}/api/providers/azure",
        azure_ad_token=ALL,
        api_version=VERSION,
        max_retries=0,
    ) as client:
        assert client.chat.completions.create(model="gpt-4o", messages=CHAT).choices


def test_the_newer_api_without_versions():
    """The plain client on `/openai/v1`."""
    with openai.OpenAI(
        base_url=f"{GATEWAY}/api/providers/azure/openai/v1", api_key=ALL, max_retries=0
    ) as client:
        assert client.responses.create(model="gpt-4o", input="hello").output_text
        assert client.chat.completions.create(model="gpt-4o", messages=CHAT).choices


@pytest.mark.parametrize(
    ("status", "raised"), [(404, openai.NotFoundError), (400, openai.BadRequestError)]
)
def test_errors(client, status, raised):
    """The provider's status as its exception."""
    with pytest.raises(raised):
        client.chat.completions.create(
            model="gpt-4o", messages=CHAT, extra_headers={"x-demo-status": str(status)}
        )


def test_a_key_that_nobody_made(client):
    """The gateway's own 401."""
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-nobody").chat.completions.create(
            model="gpt-4o", messages=CHAT
        )
