"""`tollway import bricksllm` out of a database with BricksLLM's schema, into a running gateway."""

import contextlib
import hashlib
import json
import os
import pty
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import asyncpg
import httpx
import pytest
from support import loopback
from support.bricksllm import BricksDatabase, bricks_database
from support.programs import SECRETS_KEY, Gateway
from support.servers import RunningServer, run_apart
from support.stores import PostgresDatabase

KEYS = "/api/v2/key-management/keys"
SETTINGS = "/api/provider-settings"
HOSTILE = "a,b {c} \"d\" 'e' \\ ; DROP TABLE keys;-- 🙂"
PATHS = [{"path": "/api/providers/openai/v1/chat/completions", "method": "POST"}]
ROUTE_CONFIG = {
    "path": "/chat",
    "target_url": "https://api.acme.example/v2/chat",
    "model_location": "model",
    "request_prompt_location": "messages.#.content",
    "response_completion_location": "choices.#.message.content",
    "stream_location": "",
    "stream_end_word": "",
    "stream_response_completion_location": "",
    "stream_max_empty_messages": 10,
}
STEP = {
    "retries": 2,
    "retryInterval": "500ms",
    "provider": "openai",
    "requestParams": {"temperature": 0.5, "stop": ["a,b"]},
    "params": None,
    "model": "gpt-4o",
    "timeout": "10s",
}


@pytest.fixture
def bricks(postgres_process: RunningServer) -> Iterator[BricksDatabase]:
    """An empty BricksLLM database."""
    with bricks_database(postgres_process.url) as database:
        yield database


@pytest.fixture
def mark() -> str:
    """A word of the test's own: the gateway's database is shared by the tests of this file."""
    return uuid.uuid4().hex[:10]


@pytest.fixture(scope="module")
def api(gateway: Gateway) -> Iterator[httpx.Client]:
    """A client of the admin API."""
    with loopback.Client(base_url=gateway.admin_url) as client:
        yield client


@pytest.fixture
def run(
    gateway: Gateway, module_postgres: PostgresDatabase
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the import into the gateway's database."""

    def call(dsn: str, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(sys.executable, "-c", "from infra.cli import main; main()"),
                *("import", "bricksllm", "--dsn", dsn, *words),
            ],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            env={
                **os.environ,
                "POSTGRES_URL": module_postgres.url,
                "SECRETS_KEY": SECRETS_KEY,
                "ALLOW_PRIVATE_UPSTREAMS": "true",
                "DATA_DIR": str(gateway.data_dir),
                **environ,
            },
        )

    return call


@pytest.fixture
def report(run: Callable[..., Any]) -> Callable[..., tuple[int, dict[str, Any]]]:
    """The same; its exit status and what it says in JSON."""

    def call(dsn: str, *words: str, **environ: str) -> tuple[int, dict[str, Any]]:
        done = run(dsn, "--json", *words, **environ)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    return call


def digest(raw: str) -> str:
    return hashlib.sha256(raw.encode()).hexdigest()


def fill(bricks: BricksDatabase, mark: str, url: str) -> None:
    """What an installation of some years holds."""
    bricks.insert(
        "custom_providers",
        id=f"{mark}-acme",
        provider=f"acme-{mark}",
        route_configs=[ROUTE_CONFIG],
        authentication_param="apikey",
    )
    bricks.insert("provider_settings", id=f"{mark}-s1", setting={"apikey": "sk-1", "url": url})
    bricks.insert(
        "provider_settings",
        id=f"{mark}-s2",
        provider="azure",
        setting={"apikey": "sk-2", "resourceName": "ours"},
        name=HOSTILE,
        allowed_models=["gpt-4o", "a,b"],
        cost_map={"promptCostPerModel": {"gpt-4o": 0.0001}, "completionCostPerModel": None},
    )
    bricks.insert(
        "provider_settings",
        id=f"{mark}-s3",
        provider=f"acme-{mark}",
        setting={"apikey": "sk-3"},
        cost_map=None,
    )
    bricks.insert(
        "provider_settings",
        id=f"{mark}-s4",
        provider="bedrock",
        setting={
            "awsAccessKeyId": "sk-4",
            "awsSecretAccessKey": "sk-5",
            "awsRegion": "eu-central-1",
        },
    )
    bricks.insert(
        "policies",
        id=f"{mark}-p1",
        name="no secrets",
        tags=["org", HOSTILE],
        config={"rules": {"email": "block"}},
        regex_config={"rules": [{"definition": "AKIA[0-9A-Z]{16}", "action": "allow_but_redact"}]},
    )
    bricks.insert(
        "keys",
        name=HOSTILE,
        key_id=f"{mark}-k1",
        key=digest(f"raw-{mark}-1"),
        tags=[mark, "x,y", "{z}", '"q"', HOSTILE],
        setting_id=f"{mark}-s1",
        allowed_paths=PATHS,
        cost_limit_in_usd=0.1,
        cost_limit_in_usd_over_time=1e-7,
        cost_limit_in_usd_unit="mo",
        rate_limit_over_time=1000,
        rate_limit_unit="h",
        ttl="876000h",
        policy_id=f"{mark}-p1",
        should_log_request=True,
    )
    bricks.insert(
        "keys",
        key_id=f"{mark}-k2",
        key=f"raw-{mark}-2",
        is_key_not_hashed=True,
        created_at=1_700_000_001,
        tags=None,
        setting_ids=[f"{mark}-s4", f"{mark}-s1", f"{mark}-s2"],
        setting_id="",
        allowed_paths="null",
        cost_limit_in_usd=0,
        cost_limit_in_usd_over_time=0,
        cost_limit_in_usd_unit="",
        rate_limit_over_time=0,
        rate_limit_unit="",
        rotation_enabled=True,
    )
    bricks.insert(
        "keys",
        key_id=f"{mark}-k3",
        key=digest(f"raw-{mark}-3"),
        created_at=1_700_000_002,
        tags=[mark],
        revoked=True,
        revoked_reason="expired",
        setting_id=f"{mark}-s2",
        setting_ids=[f"{mark}-s1"],
        allowed_paths="[]",
    )
    bricks.insert(
        "users",
        id=f"{mark}-u1",
        user_id=HOSTILE,
        tags=[mark],
        key_ids=[f"{mark}-k1"],
        allowed_models=[],
        allowed_paths="null",
        rate_limit_over_time=5,
        rate_limit_unit="m",
    )
    bricks.insert(
        "routes",
        id=f"{mark}-r1",
        path=f"/{mark}/chat",
        key_ids=[f"{mark}-k1", "deleted-since"],
        steps=[STEP],
        cache_config={"enabled": True, "ttl": "1h"},
        retry_strategy="exponential",
        request_format=None,
    )


def keys_of(api: httpx.Client, *ids: str) -> list[dict[str, Any]]:
    answer = api.post(KEYS, json={"keyIds": list(ids), "order": "asc"})
    assert answer.status_code == 200
    return list(answer.json()["keys"])


def chat(gateway: Gateway, key: str, wanted: int) -> httpx.Response:
    """The first answer with the status, or what it is after some seconds."""
    deadline = time.monotonic() + 60
    while True:
        answer = loopback.post(
            f"{gateway.proxy_url}/api/providers/openai/v1/chat/completions",
            headers={"authorization": f"Bearer {key}"},
            json={"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]},
        )
        if answer.status_code == wanted or time.monotonic() > deadline:
            return answer
        time.sleep(0.05)


def test_everything_is_there_and_clients_keep_their_keys(
    api, bricks, gateway, mark, provider, report
):
    """A dry run writes nothing, the first run all of it, the second finds it there."""
    fill(bricks, mark, provider)

    status, dry = report(bricks.url, "--dry-run")
    assert (status, dry["written"], dry["refused"], dry["dry_run"]) == (0, False, False, True)
    assert keys_of(api, f"{mark}-k1") == []

    status, first = report(bricks.url)
    assert (status, first["written"], first["invalid"], first["conflicts"]) == (0, True, [], [])
    found = {"custom_providers": 1, "provider_settings": 4, "policies": 1, "keys": 3}
    for table, count in {**found, "users": 1, "routes": 1}.items():
        counts = first["tables"][table]
        assert (counts["found"], counts["imported"], counts["left_out"]) == (count, count, 0)
        assert dry["tables"][table] == counts
    assert {(note["table"], note["id"]) for note in first["notes"]} == {
        ("provider_settings", f"{mark}-s4"),
        ("users", f"{mark}-u1"),
        ("routes", f"{mark}-r1"),
    }

    one, two, three = keys_of(api, f"{mark}-k1", f"{mark}-k2", f"{mark}-k3")
    assert (one["name"], one["tags"]) == (HOSTILE, [mark, "x,y", "{z}", '"q"', HOSTILE])
    assert one["key"] == digest(f"raw-{mark}-1")
    assert (one["settingId"], one["settingIds"]) == (f"{mark}-s1", [])
    assert (one["costLimitInUsd"], one["costLimitInUsdOverTime"]) == (0.1, 1e-7)
    assert (one["costLimitInUsdUnit"], one["rateLimitOverTime"]) == ("mo", 1000)
    assert (one["rateLimitUnit"], one["ttl"], one["policyId"]) == ("h", "876000h", f"{mark}-p1")
    assert (one["createdAt"], one["updatedAt"]) == (1_700_000_000, 1_700_000_500)
    assert (one["allowedPaths"], one["shouldLogRequest"]) == (PATHS, True)
    assert (two["key"], two["isKeyNotHashed"]) == (f"raw-{mark}-2", True)
    assert two["settingIds"] == [f"{mark}-s4", f"{mark}-s1", f"{mark}-s2"]
    assert two["rotationEnabled"] is True
    assert (two["tags"], two["allowedPaths"], two["rateLimitOverTime"]) == (None, None, 0)
    assert (three["revoked"], three["revokedReason"]) == (True, "expired")
    assert (three["settingIds"], three["allowedPaths"]) == ([f"{mark}-s2", f"{mark}-s1"], [])

    shown = api.get(SETTINGS, params={"ids": [f"{mark}-s{i}" for i in (1, 2, 3, 4)]})
    assert "sk-" not in shown.text
    openai, azure, acme, bedrock = shown.json()
    assert (bedrock["provider"], bedrock["setting"]) == ("bedrock", {"awsRegion": "eu-central-1"})
    assert openai["setting"] == {"url": provider}
    assert (azure["name"], azure["allowedModels"]) == (HOSTILE, ["gpt-4o", "a,b"])
    assert azure["setting"] == {"resourceName": "ours"}
    assert azure["costMap"]["promptCostPerModel"] == {"gpt-4o": 0.0001}
    assert (acme["provider"], acme["costMap"], "setting" in acme) == (f"acme-{mark}", None, False)
    custom = next(
        one for one in api.get("/api/custom/providers").json() if one["id"] == f"{mark}-acme"
    )
    assert custom["route_configs"] == [ROUTE_CONFIG]
    policy = api.get(f"/api/policies/{mark}-p1").json()
    assert policy["tags"] == ["org", HOSTILE]
    assert policy["regexConfig"]["rules"][0]["definition"] == "AKIA[0-9A-Z]{16}"
    assert policy["customConfig"] == {"rules": None}
    user = api.get(f"/api/users/{mark}-u1").json()
    assert (user["userId"], user["keyIds"]) == (HOSTILE, [f"{mark}-k1"])
    assert (user["allowedModels"], user["allowedPaths"]) == ([], None)
    route = api.get(f"/api/routes/{mark}-r1").json()
    assert (route["steps"], route["keyIds"]) == ([STEP], [f"{mark}-k1"])
    assert (route["cacheConfig"], route["requestFormat"]) == ({"enabled": True, "ttl": "1h"}, "")

    assert chat(gateway, f"raw-{mark}-1", 200).status_code == 200
    assert chat(gateway, f"raw-{mark}-2", 200).status_code == 200
    assert chat(gateway, f"raw-{mark}-3", 401).status_code == 401
    logged = api.get("/api/audit-log", params={"itemId": f"{mark}-s1"})
    assert "sk-1" not in logged.text
    assert "tollway import bricksllm" in logged.text

    status, second = report(bricks.url)
    assert (status, second["written"], second["conflicts"]) == (0, False, [])
    for counts in second["tables"].values():
        assert (counts["already_there"], counts["imported"]) == (counts["found"], 0)


def test_rows_that_cannot_be_are_named_and_left_out_on_request(
    api, bricks, gateway, mark, provider, run, report
):
    """Nothing is written before; what refers to them loses that, and a policy is not lost."""
    fill(bricks, mark, provider)
    bricks.insert("provider_settings", id=f"{mark}-bedrock", provider="bedrock", setting={"a": "b"})
    bricks.insert("provider_settings", id=f"{mark}-empty", setting={})
    bricks.insert("provider_settings", id=f"{mark}-odd", setting={"apikey": 5})
    broken = {"rules": [{"definition": "(", "action": "block"}]}
    bricks.insert("policies", id=f"{mark}-p2", regex_config=broken)
    bricks.insert(
        "policies", id=f"{mark}-p3", regex_config={"rules": [{"definition": "x", "action": "burn"}]}
    )
    for name, members in {
        "k4": {"policy_id": f"{mark}-p2"},
        "k5": {"tags": ["a", None]},
        "k6": {"cost_limit_in_usd": float("nan")},
        "k7": {"ttl": "2d"},
        "k8": {"rate_limit_over_time": 5},
        "k9": {"setting_ids": []},
        "k10": {"key": digest(f"raw-{mark}-2"), "created_at": 1_700_000_009},
    }.items():
        row = {"key": f"raw-{mark}-{name}", "setting_ids": [f"{mark}-s1"], **members}
        bricks.insert("keys", key_id=f"{mark}-{name}", **row)
    bricks.insert(
        "keys",
        key_id=f"{mark}-k11",
        key=digest(f"raw-{mark}-11"),
        setting_ids=[f"{mark}-bedrock", f"{mark}-s1", f"{mark}-never"],
        policy_id="deleted-since",
    )
    bricks.insert("routes", id=f"{mark}-r2", path=f"/{mark}/chat", key_ids=["x"], steps=[STEP])
    bricks.insert("routes", id=f"{mark}-r3", path="relative", key_ids=["x"], steps=[STEP])
    bricks.insert("users", id=f"{mark}-u2", user_id="")

    status, refused = report(bricks.url)
    reasons = {
        remark["id"].removeprefix(f"{mark}-"): remark["text"] for remark in refused["invalid"]
    }
    assert (status, refused["refused"], refused["written"]) == (1, True, False)
    assert reasons.pop("odd").startswith("setting: Expected `str`")
    assert reasons.pop("k5").startswith("tags: Expected `str`")
    assert reasons == {
        "bedrock": "provider bedrock is missing fields awsAccessKeyId,awsSecretAccessKey,awsRegion",
        "empty": "provider openai is missing fields apikey",
        "p2": "policy is not valid: regex rule at index [0] cannot be compiled",
        "p3": "policy is not valid: action of regex rule at index [0] must be one of"
        " block, allow_but_warn, allow_but_redact, allow",
        "k4": f"its policy {mark}-p2 cannot be taken over",
        "k6": "fields [costLimitInUsd] are invalid",
        "k7": "fields [ttl] are invalid",
        "k8": "rate limit unit can not be empty if rate limit over time is specified",
        "k9": "settingId is not set in either setting_id or setting_ids field",
        "k10": f"it is the same key as {mark}-k2",
        "r2": f"route {mark}-r1 has the same path",
        "r3": "invalid fields in route: path",
        "u2": "fields [userId] are invalid",
    }
    assert keys_of(api, f"{mark}-k1", f"{mark}-k11") == []
    as_text = run(bricks.url)
    assert as_text.returncode == 1
    assert f"provider_settings {mark}-bedrock: provider bedrock is missing" in as_text.stdout
    assert "--skip-invalid" in as_text.stdout.splitlines()[-1]

    status, done = report(bricks.url, "--skip-invalid")
    assert (status, done["written"]) == (0, True)
    counts = done["tables"]["keys"]
    assert (counts["found"], counts["imported"], counts["left_out"]) == (11, 4, 7)
    (key,) = keys_of(api, f"{mark}-k11")
    assert (key["settingIds"], key["policyId"]) == ([f"{mark}-s1"], "")
    assert {note["text"] for note in done["notes"] if note["id"] == f"{mark}-k11"} == {
        f"loses provider setting {mark}-bedrock, which is not taken over",
        f"loses provider setting {mark}-never, which is not taken over",
        "has policy deleted-since, which does not exist: now none",
    }
    assert chat(gateway, f"raw-{mark}-11", 200).status_code == 200
    assert keys_of(api, f"{mark}-k4") == []


def test_conflicts_are_named_and_decided_by_whoever_imports(
    api, bricks, gateway, mark, provider, report
):
    """Another's key, path or name, or other values under the same id."""
    fill(bricks, mark, provider)
    assert report(bricks.url)[0] == 0
    assert api.patch(f"{SETTINGS}/{mark}-s1", json={"name": "ours"}).status_code == 200
    bricks.execute("UPDATE users SET rate_limit_over_time = 9")
    # The same key is here under another id.
    here = gateway.key(f"raw-{mark}-12", f"{mark}-s1")["keyId"]
    bricks.insert(
        "keys", key_id=f"{mark}-k12", key=digest(f"raw-{mark}-12"), setting_ids=[f"{mark}-s1"]
    )
    bricks.insert("users", id=f"{mark}-u3", user_id="u3", key_ids=[f"{mark}-k12"])

    status, refused = report(bricks.url)
    assert (status, refused["refused"], refused["written"]) == (1, True, False)
    differs = "is here already, and is not the same"
    assert [(one["id"], one["text"], one["outcome"]) for one in refused["conflicts"]] == [
        (f"{mark}-s1", differs, ""),
        (f"{mark}-k12", f"{here} has the same key here", ""),
        (f"{mark}-u1", differs, ""),
    ]
    assert report(bricks.url, "--dry-run")[0] == 1

    status, replaced = report(bricks.url, "--on-conflict", "replace")
    assert (status, replaced["refused"]) == (1, True)
    assert [one["outcome"] for one in replaced["conflicts"]] == ["replaced", "", "replaced"]
    assert api.get(f"/api/users/{mark}-u3").status_code == 404

    status, kept = report(bricks.url, "--on-conflict", "keep")
    assert (status, kept["written"]) == (0, True)
    assert [one["outcome"] for one in kept["conflicts"]] == ["kept", "left out", "kept"]
    assert api.get(SETTINGS, params={"ids": f"{mark}-s1"}).json()[0]["name"] == "ours"
    assert api.get(f"/api/users/{mark}-u1").json()["rateLimitOverTime"] == 5
    assert api.get(f"/api/users/{mark}-u3").json()["keyIds"] == [here]

    assert api.delete(f"/api/key-management/keys/{here}").status_code == 200
    bricks.execute("DELETE FROM users WHERE user_id = 'u3'")
    status, replaced = report(bricks.url, "--on-conflict", "replace")
    assert (status, replaced["written"]) == (0, True)
    assert replaced["tables"]["users"]["replaced"] == 1
    assert api.get(SETTINGS, params={"ids": f"{mark}-s1"}).json()[0]["name"] == ""
    assert api.get(f"/api/users/{mark}-u1").json()["rateLimitOverTime"] == 9
    assert chat(gateway, f"raw-{mark}-1", 200).status_code == 200


def test_a_secret_that_was_changed_is_a_conflict(api, bricks, mark, provider, report):
    """Though every sealing looks different."""
    bricks.insert("provider_settings", id=mark, setting={"apikey": "sk-1", "url": provider})
    assert report(bricks.url)[0] == 0
    bricks.insert("provider_settings", id=f"{mark}-2")
    assert report(bricks.url)[1]["tables"]["provider_settings"]["already_there"] == 1

    bricks.execute("""UPDATE provider_settings SET setting = setting || '{"apikey": "sk-2"}'""")

    assert [one["id"] for one in report(bricks.url)[1]["conflicts"]] == [mark, f"{mark}-2"]


def test_older_releases_have_fewer_tables_and_columns(api, mark, postgres_process, report):
    """In another order; what is not there has its default, and is said."""
    schema = """
        CREATE TABLE provider_settings (
            setting JSONB, provider VARCHAR(255), updated_at BIGINT, id VARCHAR(255) PRIMARY KEY,
            created_at BIGINT);
        CREATE TABLE keys (
            key VARCHAR(255), setting_id VARCHAR(255), key_id VARCHAR(255) PRIMARY KEY,
            created_at BIGINT, name VARCHAR(255), tags VARCHAR(255)[]);
    """
    with bricks_database(postgres_process.url, schema) as bricks:
        bricks.execute(
            "INSERT INTO provider_settings (id, provider, setting, created_at)"
            """ VALUES ($1, 'openai', '{"apikey": "sk"}', 5)""",
            mark,
        )
        bricks.execute(
            "INSERT INTO keys (key_id, key, name, setting_id, created_at)"
            " VALUES ($1, $2, 'old', $1, 6)",
            mark,
            f"raw-{mark}",
        )
        status, done = report(bricks.url)

    assert (status, done["written"]) == (0, True)
    assert {note["table"] for note in done["notes"]} == {
        "custom_providers",
        "policies",
        "users",
        "routes",
    }
    (key,) = keys_of(api, mark)
    # It was stored as it is, though nothing says so: it is not shown from now on.
    assert (key["key"], key["isKeyNotHashed"]) == (digest(f"raw-{mark}"), False)
    assert (key["createdAt"], key["updatedAt"], key["revoked"]) == (6, 6, False)


def test_a_failure_at_the_end_undoes_the_beginning(
    api, bricks, mark, module_postgres, provider, run
):
    """The last row cannot be written, so the first one was not."""
    fill(bricks, mark, provider)

    def on_target(statement: str) -> None:
        async def execute() -> None:
            connection = await asyncpg.connect(module_postgres.url, timeout=60)
            await connection.execute(statement)
            await connection.close()

        run_apart(execute())

    on_target(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no routes today'; END $$;"
        "CREATE TRIGGER refuse BEFORE INSERT ON configuration_items FOR EACH ROW"
        " WHEN (NEW.kind = 'route') EXECUTE FUNCTION refuse()"
    )
    try:
        done = run(bricks.url)
    finally:
        on_target("DROP FUNCTION refuse CASCADE")

    assert done.returncode == 1
    assert done.stderr == "tollway: nothing was written: no routes today\n"
    assert keys_of(api, f"{mark}-k1") == []
    assert run(bricks.url).returncode == 0


@pytest.fixture
def endpoint() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """An operator's endpoint that decrypts by turning texts round, and what it was asked."""
    asked: list[tuple[str, str]] = []

    class Decrypting(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append((self.headers["x-updated-at"], body["secret"]))
            answer = json.dumps({"decryptedSecret": body["secret"][::-1]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Decrypting)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/decrypt", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_secrets_of_encryption_endpoints_are_decrypted_on_request(
    bricks, endpoint, gateway, mark, provider, report, run
):
    """With the time they were encrypted at; whoever has such endpoints says whether they are."""
    url, asked = endpoint
    secret = "sk-ahead-and-back"
    bricks.insert("provider_settings", id=mark, setting={"apikey": secret[::-1], "url": provider})
    bricks.insert("keys", key_id=mark, key=digest(f"raw-{mark}"), setting_ids=[mark])

    undecided = run(bricks.url, DECRYPTION_ENDPOINT=url)
    unequipped = run(bricks.url, "--encrypted")
    assert (undecided.returncode, unequipped.returncode) == (1, 1)
    assert "--encrypted" in undecided.stderr
    assert "--no-encrypted" in undecided.stderr
    assert "DECRYPTION_ENDPOINT" in unequipped.stderr
    assert asked == []
    closed = "http://127.0.0.1:9/decrypt"
    status, refused = report(bricks.url, "--encrypted", DECRYPTION_ENDPOINT=closed)
    assert status == 1
    assert refused["invalid"][0]["text"].startswith("its secrets cannot be decrypted: ")

    status, done = report(bricks.url, "--encrypted", DECRYPTION_ENDPOINT=url)
    assert (status, done["written"], asked) == (0, True, [("1700000500", secret[::-1])])
    again = report(bricks.url, "--encrypted", DECRYPTION_ENDPOINT=url)[1]
    assert again["tables"]["provider_settings"]["already_there"] == 1
    clear = report(bricks.url, "--no-encrypted", DECRYPTION_ENDPOINT=url)[1]
    assert [one["id"] for one in clear["conflicts"]] == [mark]
    assert chat(gateway, f"raw-{mark}", 200).status_code == 200


def test_databases_that_cannot_be_read_are_said_to_be_so(bricks, module_postgres, run):
    """In one line, without the password, with exit status 2."""
    bricks.execute("DROP TABLE keys")
    for dsn, told in (
        (bricks.url, "this is no BricksLLM database: it has no keys.key_id"),
        (f"{bricks.url}-not", "the BricksLLM database cannot be opened: "),
        ("postgres://me:hush@127.0.0.1:9/bricks", "the BricksLLM database does not answer: "),
        ("nonsense:hush", "the BricksLLM database cannot be opened: "),
        (module_postgres.url, "this is no BricksLLM database: it has no keys.key_id"),
    ):
        done = run(dsn)
        assert done.returncode == 2
        assert done.stderr.startswith(f"tollway: {told}")
        assert done.stderr.count("\n") == 1
        assert "hush" not in done.stderr
        assert done.stdout == ""
    unreachable = run(bricks.url, POSTGRES_URL="postgres://me:hush@127.0.0.1:9/tollway")
    assert unreachable.returncode == 2


def read_to_its_end(terminal: int) -> bytes:
    """What was written to a terminal that its writers have left: it may come in pieces."""
    pieces = []
    with contextlib.suppress(OSError):
        while piece := os.read(terminal, 65_536):
            pieces.append(piece)
    return b"".join(pieces)


def test_progress_is_shown_on_a_terminal(bricks, gateway, mark, module_postgres):
    """On standard error, to the end, for checking and for writing."""
    bricks.insert("provider_settings", id=mark)
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "gateway.import_command", "bricksllm", "--dsn", bricks.url],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        timeout=100,
        check=False,
        env={
            **os.environ,
            "POSTGRES_URL": module_postgres.url,
            "SECRETS_KEY": SECRETS_KEY,
            "DATA_DIR": str(gateway.data_dir),
            "TERM": "xterm",
        },
    )
    os.close(theirs)
    shown = read_to_its_end(ours).decode()
    os.close(ours)

    assert done.returncode == 0
    for name in ("checking", "writing"):
        assert name in shown
        assert "100%" in shown.rpartition(name)[2]


def test_an_empty_installation_has_nothing_to_write(bricks, run):
    """And that is no failure; whoever imports is told what is never imported."""
    done = run(bricks.url)

    assert done.returncode == 0
    assert "Events, and what keys and users have spent so far, are not imported" in done.stdout
    assert done.stdout.endswith("Nothing to write: everything is already there.\n")
