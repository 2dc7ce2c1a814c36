"""Whatever is sent: no 5xx, nothing undocumented, and the gateway goes on.

`make fuzz` runs the same for long; `ARGS=--hypothesis-seed=N` repeats a run.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import loopback
from support.hostile import CONTENT_TYPES, bodies, hostile_texts, in_path, raw_segments
from support.operations import Call, Description, World
from support.programs import Gateway, Program
from support.servers import free_port

ELSEWHERE = {301, 307, 404}
"""A spoilt path may be another one, or none."""
ONE_EACH = httpx.Limits(max_keepalive_connections=0)
"""A request that is answered before it is read ends its connection, and with bad luck the next."""


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    """A client of the admin API."""
    with loopback.Client(base_url=gateway.admin_url, timeout=30, limits=ONE_EACH) as client:
        yield client


@pytest.fixture(scope="module")
def description(client: httpx.Client) -> Description:
    """What 8001 says of itself."""
    return Description(client.get("/openapi.json").json())


@pytest.fixture(scope="module")
def world(client: httpx.Client, description: Description, provider: str) -> World:
    """Things that exist."""
    return World(client, description, provider)


@pytest.fixture(scope="module")
def reporting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Reporting with no store to ask: 503 is what a good question gets."""
    port = free_port()
    program = Program(
        "reporting",
        ["reporting"],
        {
            "REPORTING_PORT": str(port),
            "CLICKHOUSE_URL": f"http://127.0.0.1:{free_port()}",
            "NATS_URL": f"nats://127.0.0.1:{free_port()}",
            "REPORT_NATS_TIMEOUT": "200ms",
        },
        tmp_path_factory.mktemp("reporting") / "reporting.log",
    )
    program.start()
    url = f"http://127.0.0.1:{port}"
    try:
        program.wait_until(lambda: loopback.get(f"{url}/api/health").status_code == 200)
        with loopback.Client(base_url=url, timeout=30, limits=ONE_EACH) as client:
            yield client
    finally:
        program.kill()
    assert events_of(Path(program.log), "reporting.bug") == []


def events_of(log: Path, *names: str) -> list[str]:
    """Lines of these events. Hostile paths stand in a log too, and may be made of our own words."""
    wanted = "|".join(map(re.escape, names))
    line = rf"(?m)^\S+ \w+ +(?:library logger=\S+ message=.)?(?:{wanted}) .*"
    return re.findall(line, log.read_text())


@st.composite
def requests(
    draw: st.DrawFn, client: httpx.Client, call: Call, world: World, document: dict[str, object]
) -> tuple[httpx.Request, bool]:
    """A request that an operation has to bear, and whether its path was spoilt."""
    path, is_spoilt = call.template, False
    for parameter in call.parameters:
        if parameter["in"] == "path":
            is_spoilt = is_spoilt or draw(st.booleans())
    if not is_spoilt:
        path = world.path(call)
    for parameter in call.parameters:
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", draw(raw_segments))
    query = []
    for parameter in call.parameters:
        if parameter["in"] != "query":
            continue
        good = world.query(call).get(parameter["name"], "1")
        values = draw(st.lists(st.one_of(st.just(str(good)), hostile_texts), max_size=2))
        query += [f"{parameter['name']}={in_path(value)}" for value in values]
    url = path + ("?" + "&".join(query) if query else "")
    headers, content = {}, None
    if call.body_example is not None:
        body = draw(bodies(world.body(call), call.body_schema, document))
        headers["content-type"] = draw(st.sampled_from(CONTENT_TYPES))
        is_chunked = draw(st.booleans())
        content = iter([body[:7], body[7:]]) if is_chunked else body
    request = client.build_request(call.method.upper(), url, headers=headers, content=content)
    return request, is_spoilt


def bear(client: httpx.Client, description: Description, world: World, data: st.DataObject) -> None:
    """Sends one request that is not meant well, and judges the answer."""
    call = data.draw(st.sampled_from(description.calls()))
    request, is_spoilt = data.draw(requests(client, call, world, description.document))

    answer = client.send(request)

    if is_spoilt and answer.status_code in ELSEWHERE and not _is_json(answer):
        return
    problems = list(description.problems_of(call, answer))
    assert not problems, (request.method, request.url, problems)


def _is_json(answer: httpx.Response) -> bool:
    return answer.headers.get("content-type", "").startswith("application/json")


OFTEN = settings(
    max_examples=3 * settings().max_examples,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@OFTEN
@given(data=st.data())
def test_the_admin_api_bears_everything(
    client: httpx.Client, description: Description, world: World, data: st.DataObject
) -> None:
    """Reports are passed on to nobody here, which is 502."""
    bear(client, description, world, data)


@OFTEN
@given(data=st.data())
def test_reporting_bears_everything(
    reporting: httpx.Client, world: World, data: st.DataObject
) -> None:
    """It has no ledger here, which is 503."""
    description = Description(reporting.get("/openapi.json").json())

    bear(reporting, description, world, data)


def test_the_gateway_goes_on_after_that(gateway: Gateway, provider: str) -> None:
    """What was accepted can be loaded: a new key is in force, nothing broke on the way."""
    key = gateway.key("after the storm", gateway.setting(provider))

    assert key["name"] == "after the storm"
    broken = ("admin.failed", "configuration.item_broken", "child.died")
    assert events_of(gateway.log, "admin.open") != []
    assert events_of(gateway.log, *broken) == []
    assert "Traceback (most recent" not in gateway.log.read_text()
