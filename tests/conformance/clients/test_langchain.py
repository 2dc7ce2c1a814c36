"""langchain-openai with the gateway as its base: chat, streams, tools, structured output, vectors."""

import openai
import pytest
from conftest import ALL, ARGUMENTS, ERRORS, GATEWAY
from langchain_core.tools import tool
from langchain_openai import AzureChatOpenAI, ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel


class Toll(BaseModel):
    """What a toll is for."""

    carts: int
    road: str


@tool
def toll_of(carts: int, road: str) -> int:
    """The toll of so many carts on a road."""
    return carts


@pytest.fixture(params=["/v1", "/api/providers/openai/v1"])
def base(request):
    """Where the client is pointed to."""
    return GATEWAY + request.param


def chat(base: str, **options) -> ChatOpenAI:
    """As users make it."""
    return ChatOpenAI(
        **{"base_url": base, "api_key": ALL, "model": "gpt-4o", "max_retries": 0, **options}
    )


def test_invoke_and_stream(base):
    """The same text, and usage from both: the client asks streams for it by its option."""
    whole = chat(base).invoke("what does the toll cost?")
    pieces = list(chat(base, stream_usage=True).stream("what does the toll cost?"))
    joined = pieces[0]
    for piece in pieces[1:]:
        joined += piece

    assert joined.content == whole.content
    assert joined.usage_metadata["total_tokens"] == whole.usage_metadata["total_tokens"] > 0


async def test_the_asynchronous_calls(base):
    """ainvoke, astream and abatch."""
    model = chat(base)
    whole = await model.ainvoke("hello")
    text = "".join([piece.content async for piece in model.astream("hello")])
    several = await model.abatch(["hello", "hello"])

    assert {text, *(one.content for one in several)} == {whole.content}


def test_tools_and_structured_output(base):
    """Tools bound, and a schema that is one."""
    bound = chat(base).bind_tools([toll_of], tool_choice="any")
    (call,) = bound.invoke("two carts").tool_calls
    structured = chat(base).with_structured_output(Toll, method="function_calling")

    assert (call["name"], call["args"]) == ("toll_of", ARGUMENTS)
    assert structured.invoke("two carts") == Toll(**ARGUMENTS)


def test_the_responses_api(base):
    """The same class over /v1/responses."""
    model = chat(base, use_responses_api=True)

    assert model.invoke("hello").text == "".join(piece.text for piece in model.stream("hello"))


def test_embeddings(base):
    """Of several texts at once, as text."""
    embeddings = OpenAIEmbeddings(
        base_url=base,
        api_key=ALL,
        model="text-embedding-3-small",
        dimensions=8,
        check_embedding_ctx_length=False,
    )

    assert [len(one) for one in embeddings.embed_documents(["a", "b"])] == [8, 8]


def test_azure():
    """Its client for Azure."""
    model = AzureChatOpenAI(
        azure_endpoint=f"{GATEWAY}/api/providers/azure",
        azure_deployment="gpt-4o",
        api_version="2024-10-21",
        api_key=ALL,
        max_retries=0,
    )

    assert model.invoke("hello").content == "".join(p.content for p in model.stream("hello"))


def test_errors(base):
    """They are OpenAI's."""
    with pytest.raises(openai.AuthenticationError):
        chat(base, api_key="sk-nobody").invoke("hello")
    with pytest.raises(openai.RateLimitError):
        chat(base, api_key=ERRORS["openai"], default_headers={"x-demo-status": "429"}).invoke(
            "hello"
        )
