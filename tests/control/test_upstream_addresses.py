"""What Tollway may be made to call: addresses judged when they are written and when connected to."""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
from support import loopback
from support.programs import Gateway
from support.stores import NatsServer, PostgresDatabase

from gateway.adapters.upstream_guard import UpstreamGuard
from gateway.adapters.upstream_settings import UpstreamSettings
from gateway.adapters.upstreams import Engine, open_upstream
from gateway.administration.invalid import Invalid
from gateway.outbound import upstream_guard
from gateway.ports import ConnectFailed, Origin, UpstreamRequest
from gateway.settings import GatewaySettings

OWN_PORT = 18_002
ALLOW = "ALLOW_PRIVATE_UPSTREAMS=true"


def guard(*, allows_private: bool = False, own_origins: tuple[Origin, ...] = ()) -> UpstreamGuard:
    return UpstreamGuard(
        allows_private=allows_private, own_ports=frozenset({OWN_PORT}), own_origins=own_origins
    )


def own_addresses() -> list[str]:
    """Of this machine towards others, as far as it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return []
        return [probe.getsockname()[0]]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.255.0.9", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.1.1",
        "100.64.0.1", "100.127.255.254", "0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255",
        "192.0.2.1", "198.18.0.1", "[::1]", "[::]", "[fe80::1]", "[fc00::1]", "[fd12::1]",
        "[fec0::1]", "[ff02::1]", "[2001:db8::1]", "[64:ff9b:1::1]",
        "[::ffff:10.0.0.1]", "[::ffff:127.0.0.1]", "[::ffff:8.8.8.8]", "[64:ff9b::10.0.0.1]",
        "[::ffff:0:10.0.0.1]",
        "[64:ff9b::8.8.8.8]", "[2002:a00:1::]", "[::127.0.0.1]", "[::8.8.8.8]",
        "[2001:0:0:0:0:0:f5ff:fffe]",
        "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "127.0.1", "010.0.0.1",
        "134744072", "0x08.8.8.8", "127.0.0.1.", "localhost", "LOCALHOST", "localhost.",
        "\uff11\uff12\uff17.0.0.1", "127\u30020.0.1",
    ],
)  # fmt: skip
async def test_addresses_that_are_not_public_are_refused_unless_allowed(host):
    """Every spelling the resolver takes; the refusal names the setting."""
    url = f"http://{host}:9/v1"
    with pytest.raises(Invalid, match=ALLOW):
        await guard().check_url(url)

    await guard(allows_private=True).check_url(url)


@pytest.mark.parametrize("host", ["8.8.8.8", "1.1.1.1", "[2606:4700:4700::1111]", "99.255.255.1"])
async def test_public_addresses_are_not(host):
    """Nothing to allow."""
    await guard().check_url(f"https://{host}/v1")


@pytest.mark.parametrize("allows_private", [True, False])
@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254", "169.254.170.2", "169.254.169.253", "100.100.100.200", "168.63.129.16",
        "169.254.0.23", "192.0.0.192", "[fd00:ec2::254]", "[fd20:ce::254]",
        "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[64:ff9b::169.254.169.254]",
        "[2002:a9fe:a9fe::]", "[::169.254.169.254]", "[fe80::a9fe:a9fe]",
        "[::ffff:0:169.254.169.254]",
        "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "169.254.169.254.",
        "metadata.google.internal", "Metadata.Google.Internal.", "metadata", "instance-data",
    ],
)  # fmt: skip
async def test_metadata_services_are_refused_always(host, allows_private):
    """Credentials of the machine are there for whoever asks."""
    with pytest.raises(Invalid, match="metadata service"):
        await guard(allows_private=allows_private).check_url(f"http://{host}/")


@pytest.mark.parametrize("allows_private", [True, False])
async def test_tollways_own_ports_are_refused_always(allows_private):
    """On every address of this machine, and where reporting is said to be."""
    reporting = Origin("http", "reporting.example", 8003)
    one = guard(allows_private=allows_private, own_origins=(reporting,))
    hosts = ["127.0.0.1", "127.9.9.9", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]"]
    for host in [*hosts, *own_addresses()]:
        with pytest.raises(Invalid, match="is Tollway itself"):
            await one.check_url(f"http://{host}:{OWN_PORT}/v1")
    with pytest.raises(Invalid, match="is Tollway itself"):
        await one.check_url("http://Reporting.Example:8003/")


@pytest.mark.parametrize(
    "url",
    [
        "", "example.com", "//example.com", "ftp://example.com", "file:///etc/passwd",
        "gopher://example.com", "javascript:alert(1)", "http://", "http:///v1", "http://:80/",
        "http://user@example.com", "http://user:pass@example.com", "http://:@example.com",
        "http://a@b@example.com", "http://example.com\\@10.0.0.1", "http://example.com:0",
        "http://example.com:99999", "http://example.com:x", "http://exa mple.com",
        "http://example.com/a b", "http://example.com/\n", "\thttp://example.com", "http://a\tb.com",
        "http://[::1", "http://[fe80::1%25eth0]/", "http://[zz]/", "http://%31%32%37.0.0.1/",
        "http://\u2100.com", "http://a..b/", "http://" + "a" * 64 + ".com", "http://*/",
        "http://example.com/" + "a" * 8192, "http://\ud800.com",
    ],
)  # fmt: skip
async def test_what_is_no_plain_url_is_refused(url):
    """Whatever another reader would make of it; what was sent is not repeated."""
    with pytest.raises(Invalid) as caught:
        await guard(allows_private=True).check_url(url)

    assert "pass" not in str(caught.value)


async def test_a_name_that_does_not_resolve_is_not_refused():
    """It may tomorrow; connecting judges it again."""
    await guard().check_url("https://does-not-exist.invalid/v1")


def test_the_guard_knows_the_ports_of_its_settings():
    """Reporting's too, when it is on this machine."""
    settings = GatewaySettings(
        proxy_port=1, admin_port=2, reporting_url="http://localhost:3", allow_private_upstreams=True
    )
    one = upstream_guard(settings)
    for port in (1, 2, 3):
        with pytest.raises(ValueError, match="Tollway itself"):
            one.check_address("127.0.0.1", port)
    one.check_address("127.0.0.1", 4)


@pytest.fixture
async def secret_server() -> AsyncIterator[tuple[int, list[bytes]]]:
    """Something on loopback that must not be reached: its port, and what came."""
    came: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], came
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("engine", ["fast", "httpx"])
async def test_a_name_that_changes_its_address_is_refused_when_it_is_connected_to(
    engine: Engine, secret_server, monkeypatch
):
    """DNS rebinding: public when it was written, loopback when it is called."""
    port, came = secret_server
    answers = ["93.184.215.14", "127.0.0.1"]
    loop = asyncio.get_running_loop()

    async def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        address = answers[0] if len(answers) == 1 else answers.pop(0)
        family = socket.AF_INET if ipaddress.ip_address(address).version == 4 else socket.AF_INET6
        return [(family, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    one = guard()
    await one.check_url(f"http://rebind.example:{port}/v1")
    upstream = open_upstream(engine, UpstreamSettings(), one.check_address)
    try:
        with pytest.raises(ConnectFailed) as caught:
            await upstream.send(
                UpstreamRequest(
                    Origin("http", "rebind.example", port), b"POST", b"/v1", [], b"{}", 5.0
                )
            )
    finally:
        await upstream.close()

    assert caught.value.sent_nothing
    assert came == []


async def test_what_an_outbound_proxy_resolves_is_judged_as_far_as_it_can_be(secret_server):
    """The proxy is not asked for addresses, or names of metadata services."""
    port, came = secret_server
    settings = UpstreamSettings(proxy_url=f"http://127.0.0.1:{port}")
    upstream = open_upstream("auto", settings, guard().check_address)
    try:
        for host in ("127.0.0.1", "2130706433", "169.254.169.254", "metadata.google.internal"):
            with pytest.raises(ConnectFailed):
                await upstream.send(
                    UpstreamRequest(Origin("http", host, 80), b"POST", b"/", [], b"{}", 5.0)
                )
    finally:
        await upstream.close()

    assert came == []


@pytest.fixture(scope="module")
def strict(
    tmp_path_factory: pytest.TempPathFactory, bus: NatsServer, module_postgres: PostgresDatabase
) -> Iterator[Gateway]:
    """A gateway that allows no private address, on the database of the one that does."""
    program = Gateway(
        tmp_path_factory.mktemp("strict"),
        {
            "NATS_URL": bus.url,
            "POSTGRES_URL": module_postgres.url,
            "ALLOW_PRIVATE_UPSTREAMS": "false",
        },
    )
    program.start_ready()
    yield program
    program.kill()


def test_a_gateway_refuses_to_store_and_to_call(gateway, strict, provider):
    """What was stored while it was allowed is not called by one that does not allow it."""
    key = "sk-private-0123456789"
    gateway.key(key, gateway.setting(provider))
    strict.await_key(key)

    refused = loopback.put(
        f"{strict.admin_url}/api/provider-settings",
        json={"provider": "openai", "setting": {"apikey": "k", "url": provider}},
    )
    assert refused.status_code == 400
    assert ALLOW in refused.json()["detail"]
    ask = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
    headers = {"authorization": f"Bearer {key}"}
    statuses = [
        loopback.post(f"{one.proxy_url}/v1/chat/completions", headers=headers, json=ask).status_code
        for one in (gateway, strict)
    ]
    assert statuses == [200, 502]


def test_a_gateway_does_not_call_itself(gateway):
    """Its data plane, its admin API, its reports: not as a provider either."""
    for port in (gateway.proxy_port, gateway.admin_port, gateway.reporting_port):
        answer = loopback.put(
            f"{gateway.admin_url}/api/provider-settings",
            json={"provider": "vllm", "setting": {"url": f"http://localhost:{port}/v1"}},
        )
        assert answer.status_code == 400
        assert "Tollway itself" in answer.json()["detail"]
