"""Every operation of OpenAI's and Anthropic's API descriptions is forwarded and answered intact."""

import re
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

import pytest
from support.echo_provider import EchoProvider
from support.programs import Gateway
from support.stores import NatsServer, PostgresDatabase

from gateway.endpoints.registry import Registry

OPERATIONS = Path(__file__).parents[1] / "data" / "api_operations.tsv"
KEY = "sk-everything"
ID = "id-1.~%C3%A9:x@y"
JSON = (
    b' {"model" : "m-1", "big":123456789012345678901234567890, "dup":1,"dup":2,\n'
    b'"text":"\\u00e9\\ud83d\\ude00\xc3\xa9", "unknown":{"a":[1.10,1e400]} }'
)
MULTIPART = (
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm-1\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    + bytes(range(256))
    + b"\r\n--b--\r\n"
)
REQUESTS = {
    "-": ("", b""),
    "application/json": ("application/json", JSON),
    "multipart/form-data": ("multipart/form-data; boundary=b", MULTIPART),
    "application/sdp": ("application/sdp", b"v=0\r\n\xff"),
}
ANSWERS = {
    "-": b"\x00",
    "application/json": b'{ "id": "x",\n"n":1.10, "unknown":"\\u00e9\xc3\xa9" }',
    "text/event-stream": b': hi\n\nevent: a\nid: 7\ndata: {"x":1}\n\ndata: [DONE]\n\n',
}
BINARY = bytes(range(256)) * 40


class Operation(NamedTuple):
    vendor: str
    method: str
    path: str
    sends: list[str]
    receives: list[str]

    def target(self, filled: str = ID) -> str:
        """Path and query, every parameter filled in."""
        path = re.sub(r"\{\w+\}", filled, self.path)
        mark = "&" if "?" in path else "?"
        return f"{path}{mark}limit=20&include[]=a%2Fb&q=1+2&empty="


def operations() -> list[Operation]:
    rows = [line.split("\t") for line in OPERATIONS.read_text().splitlines()]
    return [
        Operation(vendor, method, path, sends.split("|"), receives.split("|"))
        for vendor, method, path, sends, receives in rows
    ]


def is_of_account(operation: Operation) -> bool:
    return operation.path.startswith(("/v1/organization/", "/v1/projects/"))


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, bus: NatsServer, module_postgres: PostgresDatabase
) -> Iterator[Gateway]:
    """A gateway that forwards the paths of accounts too."""
    program = Gateway(
        tmp_path_factory.mktemp("gateway"),
        {
            "NATS_URL": bus.url,
            "POSTGRES_URL": module_postgres.url,
            "ALLOW_ORGANIZATION_PATHS": "true",
        },
    )
    program.start_ready()
    yield program
    program.kill()


@pytest.fixture(scope="module")
def client(gateway: Gateway, echo: EchoProvider) -> Iterator[HTTPConnection]:
    """A connection of a client whose key may call both vendors; it sends what it is given."""
    settings = [gateway.setting(echo.url, provider=vendor) for vendor in ("openai", "anthropic")]
    gateway.key(KEY, settings[0], settingIds=settings)
    connection = HTTPConnection("127.0.0.1", gateway.proxy_port, timeout=60)
    yield connection
    connection.close()


def ask(client: HTTPConnection, echo: EchoProvider, operation: Operation, target: str) -> None:
    """One call for every media type in and out; both directions arrive byte for byte."""
    for sends in operation.sends:
        for receives in operation.receives:
            content_type, body = REQUESTS[sends]
            answer = ANSWERS.get(receives, BINARY)
            echo.heard.clear()
            echo.tell(answer, content_type=receives, x_from="provider")
            sent = {"x-custom": "kept \xe9", "openai-beta": "assistants=v2"}
            if content_type:
                sent["content-type"] = content_type
            if operation.vendor == "anthropic":
                sent["anthropic-version"] = "2023-06-01"
            client.request(
                operation.method, target, body, {**sent, "authorization": f"Bearer {KEY}"}
            )
            got = client.getresponse()
            content = got.read()

            what = f"{operation.method} {target} {sends} {receives}"
            assert got.status == 200, f"{what}: {content[:300]!r}"
            (heard,) = echo.heard
            assert (heard.method, heard.target) == (operation.method, operation.target()), what
            assert heard.body == body, what
            assert sent.items() <= heard.headers.items(), what
            assert KEY not in str(heard.headers), what
            assert content == answer, what
            assert (got.headers["x-from"], got.headers["content-type"]) == ("provider", receives)
            assert got.headers["access-control-allow-origin"] == "*", what
            assert got.headers["x-request-id"], what


@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
def test_every_operation_reaches_its_provider_intact(client, echo, vendor):
    """Method, path, query, body and headers up; status, headers and body down."""
    mine = [operation for operation in operations() if operation.vendor == vendor]
    assert len(mine) > 90
    for operation in mine:
        ask(client, echo, operation, f"/api/providers/{vendor}{operation.target()}")


@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
def test_every_operation_works_under_the_plain_root(client, echo, vendor):
    """The same without a provider in the path; lists of models are answered by us."""
    for operation in operations():
        is_ours = operation.method == "GET" and operation.path.startswith("/v1/models")
        if operation.vendor == vendor and not is_ours:
            ask(client, echo, operation, operation.target())


def test_every_operation_has_a_template_of_its_own():
    """`allowedPaths` can name each of them; only accounts and what is unknown are wildcards."""
    match = Registry([("openai", "openai"), ("anthropic", "anthropic")]).match
    for operation in operations():
        path = f"/api/providers/{operation.vendor}{operation.target().partition('?')[0]}"
        endpoint = match(operation.method, path)
        described = re.sub(r"\{(\w+)\}", r":\1", operation.path.partition("?")[0])
        wanted = f"/api/providers/{operation.vendor}{described}"
        if is_of_account(operation):
            wanted = f"/api/providers/openai/v1/{operation.path.split('/')[2]}/*wildcard"
        assert endpoint.template == wanted
        assert endpoint.is_closed is is_of_account(operation)
