"""What 8001 and 8003 say of themselves is what they do."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import httpx
import pytest
from support import loopback
from support.operations import Description, World
from support.programs import Gateway, Program
from support.servers import RunningServer, free_port
from support.stores import NatsServer, PostgresDatabase, clickhouse_client, migrated

from runtime.openapi_page import CONTENT_SECURITY_POLICY

PASSWORD = "walker"
HEADERS = {"x-api-key": PASSWORD}


@pytest.fixture(scope="module")
def reporting(
    tmp_path_factory: pytest.TempPathFactory,
    bus: NatsServer,
    clickhouse_process: RunningServer,
    module_postgres: PostgresDatabase,
) -> Iterator[str]:
    """A reporting process over real stores; its base URL."""
    database = "t_openapi"
    port = free_port()
    ledger = migrated(clickhouse_process.url, database)
    program = Program(
        "reporting",
        ["reporting"],
        {
            "REPORTING_PORT": str(port),
            "CLICKHOUSE_URL": ledger.url,
            "CLICKHOUSE_DATABASE": ledger.database,
            "NATS_URL": bus.url,
            "POSTGRES_URL": module_postgres.url,
            "REPORT_POSTGRES_TIMEOUT": "60s",
            "REPORT_NATS_TIMEOUT": "60s",
            "ADMIN_PASS": PASSWORD,
        },
        tmp_path_factory.mktemp("reporting") / "reporting.log",
    )
    program.start()
    url = f"http://127.0.0.1:{port}"
    program.wait_until(lambda: loopback.get(f"{url}/api/ready").status_code == 200)
    yield url
    program.kill()
    client = clickhouse_client(clickhouse_process.url)
    client.command(f"DROP DATABASE {database} SYNC")
    client.close()


@pytest.fixture(scope="module")
def described(
    tmp_path_factory: pytest.TempPathFactory,
    bus: NatsServer,
    module_postgres: PostgresDatabase,
    reporting: str,
) -> Iterator[Gateway]:
    """A gateway before that reporting."""
    program = Gateway(
        tmp_path_factory.mktemp("gateway"),
        {
            "NATS_URL": bus.url,
            "POSTGRES_URL": module_postgres.url,
            "ADMIN_PASS": PASSWORD,
            "REPORTING_URL": reporting,
        },
    )
    program.start_ready()
    yield program
    program.kill()


@pytest.fixture(scope="module")
def admin_url(described: Gateway) -> str:
    """Its admin API's base URL."""
    return described.admin_url


@pytest.fixture(scope="module")
def client(admin_url: str) -> Iterator[httpx.Client]:
    """A client with the password."""
    with loopback.Client(base_url=admin_url, headers=HEADERS, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def description(client: httpx.Client, described: Gateway) -> Description:
    """What 8001 says of itself. A route that promises nothing is named in the log."""
    answer = client.get("/openapi.json")
    assert answer.status_code == 200, described.log.read_text()[-500:]
    return Description(answer.json())


@pytest.fixture(scope="module")
def world(client: httpx.Client, description: Description, provider: str) -> World:
    """Things to refer to."""
    return World(client, description, provider)


@pytest.fixture(scope="module")
def documents(description: Description, reporting: str) -> list[Description]:
    """Both documents."""
    answer = loopback.get(f"{reporting}/openapi.json")
    assert answer.status_code == 200
    return [description, Description(answer.json())]


def test_every_example_does_what_is_documented(
    client: httpx.Client, description: Description, world: World
) -> None:
    """200, in the documented shape, for each operation of 8001, reports passed on included."""
    problems: list[str] = []
    for call in description.calls():
        answer = world.send(call)
        if answer.status_code != 200:
            problems.append(f"{call!r}: {answer.status_code}: {answer.text}")
        problems += description.problems_of(call, answer)

    assert not problems, "\n".join(problems)


def test_every_example_of_reporting_does_what_is_documented(
    documents: list[Description], reporting: str, world: World
) -> None:
    """The same on 8003 itself."""
    problems: list[str] = []
    with loopback.Client(base_url=reporting, headers=HEADERS, timeout=30) as client:
        for call in documents[1].calls():
            answer = client.request(
                call.method.upper(),
                world.path(call),
                params=world.query(call),
                **({"json": call.body_example} if call.body_example is not None else {}),
            )
            if answer.status_code != 200:
                problems.append(f"{call!r}: {answer.status_code}: {answer.text}")
            problems += documents[1].problems_of(call, answer)

    assert not problems, "\n".join(problems)


def test_every_write_is_in_the_audit_log(
    client: httpx.Client, description: Description, world: World
) -> None:
    """Each operation that changes something leaves who did it and what it was and is."""
    token = world.make("/api/admin-tokens")
    name = next(one["name"] for one in client.get("/api/admin-tokens").json() if one["id"] == token)
    assert name
    unseen = []
    for call in description.calls():
        if not call.writes:
            continue
        path = world.path(call)
        before = _newest(client)
        answer = client.request(
            call.method.upper(),
            path,
            params=world.query(call),
            **({"json": world.body(call)} if call.body_example is not None else {}),
        )
        assert answer.status_code == 200, f"{call!r}: {answer.text}"
        after = _newest(client)
        actions = {"delete": "delete", "patch": "update"}
        wanted = {actions.get(call.method, "create"), "update"}
        if after["id"] == before["id"] or after["action"] not in wanted:
            unseen.append(repr(call))
        assert after["actor"] == "admin"

    assert not unseen


def _newest(client: httpx.Client) -> dict[str, object]:
    entries = client.get("/api/audit-log", params={"limit": 1}).json()["entries"]
    return dict(entries[0])


def test_examples_are_of_the_documented_shape(documents: list[Description]) -> None:
    """Those of bodies and those of answers."""
    problems = []
    for description in documents:
        for call in description.calls():
            if call.body_schema is not None:
                assert call.body_example is not None, f"{call!r} has a body and no example"
                found = description.mismatches(call.body_schema, call.body_example)
                problems += [f"{call!r}: body: {problem}" for problem in found]
            for status, response in call.operation["responses"].items():
                for media in response.get("content", {}).values():
                    if "example" in media:
                        found = description.mismatches(media["schema"], media["example"])
                        problems += [f"{call!r}: {status}: {problem}" for problem in found]

    assert not problems, "\n".join(problems)


def test_documents_are_whole(documents: list[Description]) -> None:
    """Ids are unique, references lead somewhere, every operation has a group and a summary."""
    for description in documents:
        document = description.document
        calls = description.calls()
        ids = [call.operation["operationId"] for call in calls]
        tags = {tag["name"] for tag in document["tags"]}
        schemas = set(document["components"]["schemas"])
        text = json.dumps(document)
        assert len(set(ids)) == len(ids)
        assert set(re.findall(r'"#/components/schemas/([^"]+)"', text)) <= schemas
        for call in calls:
            assert set(call.operation["tags"]) <= tags, call
            assert call.operation["summary"], call
            named = {one["name"] for one in call.parameters if one["in"] == "path"}
            assert named == set(re.findall(r"\{([^}]+)\}", call.template)), call


def test_both_documents_describe_a_report_alike(documents: list[Description]) -> None:
    """8001 passes on what 8003 answers, every report of it."""
    admin, reporting = (one.document["paths"] for one in documents)
    reports = {path for path in reporting if path.startswith("/api/") and "health" not in path}
    reports -= {"/api/ready"}

    for path in reports:
        for method, operation in reporting[path].items():
            passed_on = admin[path][method]
            for part in ("parameters", "requestBody", "summary", "x-scope"):
                assert passed_on.get(part) == operation.get(part), (path, part)
            assert passed_on["responses"]["200"] == operation["responses"]["200"]
            assert set(passed_on["responses"]) == {*operation["responses"], "502"}


class _Page(HTMLParser):
    """What a page holds and refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.references: set[str] = set()
        self.ids: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See HTMLParser."""
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name in ("href", "src"):
                self.references.add(value or "")
            if name == "id":
                self.ids.append(value or "")


@pytest.mark.parametrize("which", [0, 1])
def test_the_page_needs_nothing_from_outside(
    documents: list[Description], admin_url: str, reporting: str, which: int
) -> None:
    """No script, no resource, links that lead somewhere; it shows every operation."""
    answer = loopback.get(f"{(admin_url, reporting)[which]}/docs")

    page = _Page()
    page.feed(answer.text)
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert not page.tags & {"script", "link", "img", "iframe", "form", "object"}
    assert not {name for name in page.attributes if name.startswith("on") or name == "style"}
    assert len(set(page.ids)) == len(page.ids)
    anchors = {f"#{name}" for name in page.ids}
    assert page.references <= anchors | {"/openapi.json"}
    for call in documents[which].calls():
        assert call.operation["operationId"] in page.ids, call
