"""Provider secrets at rest: sealed, rotated, or encrypted by the operator's own endpoints."""

import asyncio
import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from support import loopback
from support.programs import Gateway
from support.servers import run_apart
from support.stores import NatsServer, PostgresDatabase

from contracts.config.provider_settings import ProviderSetting
from contracts.exchange import SettingRef
from gateway.configuration.draft import apply
from gateway.configuration.items import Changes, Item
from gateway.configuration.snapshot import EMPTY
from gateway.configuration.targets import TargetsInTime
from gateway.ports import SealUnavailable
from gateway.providers.registry import PROVIDERS
from gateway.routing.targets import make_target
from gateway.values import Target
from runtime.sealing import (
    BadKeys,
    Damaged,
    KeyRing,
    SealKey,
    UnknownKey,
    key_id_of,
    make_key_file,
    parse_keys,
    read_key_file,
    write_key_file,
)

SETTINGS = "/api/provider-settings"
ASK = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
ANSWER = {
    "id": "c",
    "object": "chat.completion",
    "model": "gpt-4o",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


# Sealing.


def test_what_is_sealed_is_unsealed_by_any_key_of_the_ring_for_its_owner_only():
    """Another owner's, a damaged one, and one of a key that is not here are told apart."""
    old, new = SealKey.new(), SealKey.new()
    sealed = KeyRing((old,)).seal(b"secret", "setting a")
    ring = KeyRing((new, old))

    assert ring.unseal(sealed, "setting a") == b"secret"
    assert key_id_of(sealed) == old.id
    assert key_id_of(ring.seal(b"secret", "setting a")) == new.id
    assert KeyRing((old,)).seal(b"secret", "setting a") != sealed
    with pytest.raises(Damaged):
        ring.unseal(sealed, "setting b")
    with pytest.raises(UnknownKey, match=old.id):
        KeyRing((new,)).unseal(sealed, "setting a")
    scheme, key_id, text = sealed.split(" ")
    content = bytearray(base64.b64decode(text))
    for i in range(len(content)):
        content[i] ^= 1
        changed = f"{scheme} {key_id} {base64.b64encode(content).decode()}"
        with pytest.raises(Damaged):
            ring.unseal(changed, "setting a")
        content[i] ^= 1
    for changed in (
        f"{scheme} {key_id} ",
        f"{scheme} {key_id} \u20ac",
        f"{scheme} {key_id} {text}=",
    ):
        with pytest.raises(Damaged):
            ring.unseal(changed, "setting a")


def test_a_key_never_shows_itself():
    """Neither in a text made of it nor in an error."""
    key = SealKey.new()
    assert key.text() not in f"{key} {key!r} {KeyRing((key,))}"
    with pytest.raises(BadKeys) as caught:
        parse_keys([key.text()[:-6]])
    assert key.text()[:8] not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [("not base64!", "not base64"), ("QUJD", "3 bytes instead of 32"), ("\u20ac", "ASCII")],
)
def test_a_key_file_that_holds_no_keys_is_refused(tmp_path, content, reason):
    """In words that name the file."""
    path = tmp_path / "keys"
    path.write_text(content, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(BadKeys, match=reason) as caught:
        read_key_file(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_key_file_that_others_may_use_is_refused(tmp_path, mode):
    """The error says how to mend it."""
    path = tmp_path / "keys"
    assert make_key_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(mode)
    with pytest.raises(BadKeys, match=f"chmod 600 {path}"):
        read_key_file(path)


def test_a_key_file_is_made_once_and_keeps_its_order(tmp_path):
    """Newest first, comments passed over; an absent one is an empty ring."""
    path = tmp_path / "keys"
    assert read_key_file(path) == KeyRing()
    assert make_key_file(path)
    assert not make_key_file(path)
    ring = read_key_file(path)
    more = KeyRing((SealKey.new(), *ring.keys))
    write_key_file(path, more)
    assert read_key_file(path) == more
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["keys"]


# Targets whose secrets come late.


def stored(name: str, revision: int, **changes: Any) -> Item:
    setting = ProviderSetting("s1", "openai", 0, 0, name=name, sealed="k", **changes)
    return Item("provider_setting", "s1", revision, setting)


class Endpoint:
    """Unseals while it is up."""

    def __init__(self) -> None:
        self.is_up = True

    async def target(self, setting: ProviderSetting, revision: int) -> Target:
        if not self.is_up:
            raise SealUnavailable("down")
        return make_target(setting, revision, {"apikey": f"key-{revision}"}, PROVIDERS)


async def test_a_setting_whose_secrets_cannot_be_read_now_stays_as_it_was_until_they_can():
    """The others go on; what became ready is told, and taken once."""
    endpoint = Endpoint()
    woken = asyncio.Event()
    targets = TargetsInTime(endpoint.target, woken.set)
    full = Changes(1, (stored("one", 1),), frozenset(), is_full=True)
    before = apply(EMPTY, *await targets.of(full, EMPTY.target_by_setting))
    endpoint.is_up = False
    for is_full in (False, True):
        changes = Changes(2, (stored("two", 2),), frozenset(), is_full=is_full)
        after = apply(before, *await targets.of(changes, before.target_by_setting))
        assert after.revision == 2
        assert after.target_by_setting["s1"] == before.target_by_setting["s1"]
    endpoint.is_up = True
    await asyncio.wait_for(woken.wait(), 60)
    items, late = targets.take_late()
    final = apply(after, Changes(2, items, frozenset(), is_full=False), late)

    assert final.target_by_setting["s1"].ref == SettingRef("s1", 2, "openai")
    assert targets.take_late() == ((), {})
    await targets.close()


@pytest.mark.parametrize("ends", ["deleted", "replaced", "closed"])
async def test_a_late_setting_that_is_no_longer_wanted_does_not_come(ends):
    """Deleted, replaced by a newer one, or at the end."""
    endpoint = Endpoint()
    targets = TargetsInTime(endpoint.target, lambda: None)
    endpoint.is_up = False
    first = Changes(1, (stored("one", 1),), frozenset(), is_full=True)
    changes, made = await targets.of(first, {})
    assert (changes.items, made) == ((), {})
    endpoint.is_up = True
    if ends == "deleted":
        gone = frozenset({("provider_setting", "s1")})
        await targets.of(Changes(2, (), gone, is_full=False), {})
    elif ends == "replaced":
        newer = Changes(2, (stored("two", 2),), frozenset(), is_full=False)
        assert (await targets.of(newer, {}))[1]["s1"].ref.revision == 2
    else:
        await targets.close()
    await asyncio.sleep(0.7)

    assert targets.take_late() == ((), {})
    await targets.close()


# A gateway with a key file.


class Elsewhere:
    """A provider, encrypting endpoints and a metadata server, as a test's programs meet them."""

    def __init__(self) -> None:
        self.credentials: list[str] = []
        self.calls: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.mode = "up"
        self.tokens = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, answer = outer.metadata(self.path, self.headers["metadata-flavor"])
                self.reply(status, answer)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                if self.path.endswith("/chat/completions"):
                    outer.credentials.append(headers["authorization"])
                    self.reply(200, json.dumps(ANSWER).encode())
                    return
                while outer.mode == "hangs":
                    time.sleep(0.02)
                if outer.mode != "up":
                    self.reply(503, b"{}")
                    return
                outer.calls.append((self.path, body, headers))
                self.reply(200, json.dumps(outer.crypt(self.path, body["secret"])).encode())

            def reply(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def crypt(self, path: str, secret: str) -> dict[str, str]:
        if path == "/encrypt":
            return {"encryptedSecret": base64.b32encode(secret.encode()).decode()}
        return {"decryptedSecret": base64.b32decode(secret).decode()}

    def metadata(self, path: str, flavor: str | None) -> tuple[int, bytes]:
        wanted = "/computeMetadata/v1/instance/service-accounts/default/identity?audience=https"
        if not path.startswith(wanted) or flavor != "Google":
            return 404, b""
        self.tokens += 1
        claims = base64.urlsafe_b64encode(json.dumps({"exp": time.time() + 3600}).encode())
        return 200, b"e30." + claims.rstrip(b"=") + b".c2ln"

    def stop(self) -> None:
        self.mode = "up"
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    """The outside, for the tests of this file."""
    outside = Elsewhere()
    yield outside
    outside.stop()


@pytest.fixture(scope="module")
def keyed(
    tmp_path_factory: pytest.TempPathFactory, bus: NatsServer, module_postgres: PostgresDatabase
) -> Iterator[Gateway]:
    """A gateway whose key is in the file of its data directory."""
    environ = {"NATS_URL": bus.url, "POSTGRES_URL": module_postgres.url, "SECRETS_KEY": ""}
    program = Gateway(tmp_path_factory.mktemp("keyed"), environ)
    program.data_dir.mkdir()
    make_key_file(program.data_dir / "secrets.key")
    program.start_ready()
    yield program
    program.kill()


def ask(gateway: Gateway, key: str) -> int:
    return loopback.post(
        f"{gateway.proxy_url}/v1/chat/completions",
        headers={"authorization": f"Bearer {key}"},
        json=ASK,
    ).status_code


def becomes(wanted: int, gateway: Gateway, key: str, seconds: float = 60.0) -> bool:
    """Whether calls are answered so within the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if ask(gateway, key) == wanted:
            return True
        time.sleep(0.05)
    return False


def put(gateway: Gateway, **members: Any) -> httpx.Response:
    body = {"provider": "openai", "setting": {"apikey": "sk-at-rest-0123456789"}, **members}
    return loopback.put(f"{gateway.admin_url}{SETTINGS}", json=body)


def sealed_texts(postgres: PostgresDatabase) -> dict[str, str]:
    """What is stored of the secrets, by setting."""

    async def read() -> dict[str, str]:
        connection = await asyncpg.connect(postgres.url)
        try:
            rows = await connection.fetch(
                "SELECT id, document ->> 'sealed' AS sealed, document::text AS document"
                " FROM configuration_items WHERE kind = 'provider_setting'"
            )
            assert not any("sk-at-rest" in row["document"] for row in rows)
            return {row["id"]: row["sealed"] for row in rows if row["sealed"]}
        finally:
            await connection.close()

    return run_apart(read())


def execute(postgres: PostgresDatabase, statement: str, *arguments: object) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(postgres.url)
        try:
            await connection.execute(statement, *arguments)
        finally:
            await connection.close()

    run_apart(run())


def command(gateway: Gateway, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """`tollway secrets` as it runs."""
    return subprocess.run(
        [sys.executable, "-m", "gateway.secrets_command", *words],
        env={**os.environ, **gateway._env, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def key_file(keyed: Gateway) -> Path:
    """The key file of the gateway."""
    return keyed.data_dir / "secrets.key"


def test_a_secret_is_stored_sealed_and_sent_in_clear(keyed, key_file, elsewhere, module_postgres):
    """The provider gets it; the database does not, nor does any log."""
    setting = put(keyed, setting={"apikey": "sk-at-rest-0123456789", "url": elsewhere.url})
    keyed.key("sk-sealed-0123456789", setting.json()["id"])

    assert ask(keyed, "sk-sealed-0123456789") == 200
    assert elsewhere.credentials[-1] == "Bearer sk-at-rest-0123456789"
    sealed = sealed_texts(module_postgres)[setting.json()["id"]]
    newest = read_key_file(key_file).newest
    assert newest is not None
    assert sealed.startswith(f"aesgcm {newest.id} ")
    assert "sk-at-rest" not in keyed.log.read_text()


def test_rotation_seals_everything_anew_and_nobody_notices(
    keyed, key_file, elsewhere, module_postgres
):
    """Also what an older release stored in clear; the old key is gone afterwards."""
    setting = put(keyed, setting={"apikey": "sk-at-rest-rotated-1", "url": elsewhere.url}).json()
    key = "sk-rotated-0123456789"
    keyed.key(key, setting["id"])
    clear = put(keyed).json()["id"]
    execute(
        module_postgres,
        "UPDATE configuration_items SET document = jsonb_set(document, '{sealed}', $2::jsonb)"
        " WHERE id = $1",
        clear,
        json.dumps('clear {"apikey": "sk-of-old"}'),
    )
    before, old = sealed_texts(module_postgres), read_key_file(key_file)

    dry = json.loads(command(keyed, "rotate", "--dry-run", "--json").stdout)
    assert (dry["dry_run"], dry["resealed"], dry["is_new"]) == (True, len(before), True)
    assert sealed_texts(module_postgres) == before
    assert read_key_file(key_file) == old
    assert json.loads(command(keyed, "status", "--json").stdout)["sealed"]["clear"] == 1

    done = command(keyed, "rotate", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    ring = read_key_file(key_file)
    assert [one.id for one in ring.keys] == [told["key"]]
    assert told["dropped"] == [one.id for one in old.keys]
    after = sealed_texts(module_postgres)
    assert after.keys() == before.keys()
    assert {key_id_of(text) for text in after.values()} == {told["key"]}
    assert becomes(200, keyed, key)
    assert elsewhere.credentials[-1] == "Bearer sk-at-rest-rotated-1"
    # A process of the gateway that ran all along seals with the new key.
    assert key_id_of(sealed_of(module_postgres, put(keyed))) == told["key"]
    log = loopback.get(f"{keyed.admin_url}/api/audit-log", params={"limit": 100}).text
    assert "tollway secrets rotate" in log
    assert told["key"] not in log


def sealed_of(postgres: PostgresDatabase, answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return sealed_texts(postgres)[answer.json()["id"]]


def test_older_keys_stay_when_they_are_kept(keyed, key_file, module_postgres):
    """For a database restored from a backup; they unseal, and seal nothing."""
    old = read_key_file(key_file)
    told = json.loads(command(keyed, "rotate", "--keep-old", "--json").stdout)

    assert told["dropped"] == []
    assert [one.id for one in read_key_file(key_file).keys] == [
        told["key"],
        *(one.id for one in old.keys),
    ]
    assert {key_id_of(text) for text in sealed_texts(module_postgres).values()} == {told["key"]}


def test_rotation_refuses_while_a_secret_cannot_be_read(keyed, key_file, module_postgres):
    """Nothing is changed; the setting is named, can be mended by a patch, or deleted."""
    setting = put(keyed).json()["id"]
    sealed = KeyRing((SealKey.new(),)).seal(b"{}", f"provider_setting {setting}")
    execute(
        module_postgres,
        "UPDATE configuration_items SET document = jsonb_set(document, '{sealed}', to_jsonb($2::text))"
        " WHERE id = $1",
        setting,
        sealed,
    )
    before, ring = sealed_texts(module_postgres), read_key_file(key_file)

    done = command(keyed, "rotate")
    assert done.returncode == 1
    assert setting in done.stderr
    assert "Traceback" not in done.stderr
    assert (sealed_texts(module_postgres), read_key_file(key_file)) == (before, ring)
    shown = command(keyed, "status", "--json")
    assert shown.returncode == 1
    assert setting in json.loads(shown.stdout)["unreadable"]
    patched = loopback.patch(
        f"{keyed.admin_url}{SETTINGS}/{setting}", json={"setting": {"apikey": "sk-mended"}}
    )
    assert patched.status_code == 200
    assert command(keyed, "status").returncode == 0


def test_a_key_of_the_environment_goes_before_the_file(keyed, key_file, module_postgres):
    """Then no key is made and no file touched: its operator has both."""
    ring = read_key_file(key_file)
    mine = SealKey.new()
    told = json.loads(command(keyed, "rotate", "--json", SECRETS_KEY=mine.text()).stdout)
    assert (told["key"], told["is_new"], told["dropped"]) == (mine.id, False, [])
    assert read_key_file(key_file) == ring
    assert {key_id_of(text) for text in sealed_texts(module_postgres).values()} == {mine.id}
    # And back: the new key's place is before the old.
    both = f"{ring.keys[0].text()},{mine.text()}"
    told = json.loads(command(keyed, "rotate", "--json", SECRETS_KEY=both).stdout)
    assert told["key"] == ring.keys[0].id
    assert command(keyed, "status").returncode == 0


def test_two_rotations_do_not_run_at_once(keyed, key_file):
    """Each would drop the other's key."""
    import fcntl

    with key_file.with_name("secrets.key.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = command(keyed, "rotate")
    assert (done.returncode, done.stderr) == (1, "tollway: another rotation is under way\n")


@pytest.mark.parametrize("fault", ["absent", "readable by others", "damaged"])
def test_without_a_key_no_secret_is_taken_and_everything_else_goes_on(
    keyed, key_file, elsewhere, fault
):
    """The problem names what to set; what is in force stays so."""
    key = f"sk-{fault}-0123456789"
    setting = put(keyed, setting={"apikey": "sk-at-rest-9", "url": elsewhere.url}).json()["id"]
    keyed.key(key, setting)
    kept = key_file.read_bytes()
    aside = key_file.with_name("aside")
    key_file.rename(aside)
    reason = "set SECRETS_KEY"
    if fault == "readable by others":
        key_file.write_bytes(kept)
        key_file.chmod(0o644)
        reason = "chmod 600"
    elif fault == "damaged":
        key_file.write_text("hm\n")
        key_file.chmod(0o600)
        reason = "not base64"
    try:
        answer = put(keyed)
        assert answer.status_code == 503
        assert answer.json()["type"] == "/errors/unavailable"
        assert reason in answer.json()["detail"]
        assert "sk-at-rest" not in answer.text
        assert put(keyed, provider="vllm", setting={"url": elsewhere.url}).status_code == 200
        renamed = loopback.patch(f"{keyed.admin_url}{SETTINGS}/{setting}", json={"name": "other"})
        assert renamed.status_code == 200
        assert ask(keyed, key) == 200
        if fault != "absent":
            started = subprocess.run(
                [sys.executable, "-m", "gateway", "--check-config"],
                env={**os.environ, **keyed._env},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert started.returncode == 1
            assert str(key_file) in started.stdout + started.stderr
    finally:
        aside.rename(key_file)
    assert put(keyed).status_code == 200
    assert becomes(200, keyed, key)


# Encryption by endpoints.


@pytest.fixture(scope="module")
def encrypting(
    tmp_path_factory: pytest.TempPathFactory,
    bus: NatsServer,
    module_postgres: PostgresDatabase,
    elsewhere: Elsewhere,
) -> Iterator[Gateway]:
    """A gateway that leaves its secrets to endpoints."""
    program = Gateway(
        tmp_path_factory.mktemp("encrypting"),
        {
            "NATS_URL": bus.url,
            "POSTGRES_URL": module_postgres.url,
            "SECRETS_KEY": "",
            "ENABLE_ENCRYPTION": "true",
            "ENCRYPTION_ENDPOINT": f"{elsewhere.url}/encrypt",
            "DECRYPTION_ENDPOINT": f"{elsewhere.url}/decrypt",
            "ENCRYPTION_TIMEOUT": "5s",
            "AUDIENCE": "https://crypt.example",
            "GCE_METADATA_HOST": f"127.0.0.1:{elsewhere.port}",
        },
    )
    program.start_ready()
    yield program
    elsewhere.mode = "up"
    program.kill()


def test_endpoints_encrypt_and_decrypt(encrypting, elsewhere, module_postgres):
    """POST {secret}, X-UPDATED-AT, an ID token; the database holds what came back."""
    answer = put(encrypting, setting={"apikey": "sk-at-rest-out", "url": elsewhere.url})
    assert answer.status_code == 200, answer.text
    setting = answer.json()
    encrypting.key("sk-outside-0123456789", setting["id"])
    assert becomes(200, encrypting, "sk-outside-0123456789")

    assert elsewhere.credentials[-1] == "Bearer sk-at-rest-out"
    encrypted = base64.b32encode(b"sk-at-rest-out").decode()
    calls = {path: (body, headers) for path, body, headers in elsewhere.calls}
    assert calls["/encrypt"][0] == {"secret": "sk-at-rest-out"}
    assert calls["/decrypt"][0] == {"secret": encrypted}
    for _, headers in calls.values():
        assert int(headers["x-updated-at"]) >= setting["createdAt"]
        assert headers["authorization"].startswith("Bearer e30.")
    assert sealed_texts(module_postgres)[setting["id"]].startswith("external ")
    assert encrypted in sealed_texts(module_postgres)[setting["id"]]
    assert elsewhere.tokens <= 2
    assert "sk-at-rest" not in encrypting.log.read_text()


@pytest.mark.parametrize("mode", ["down", "hangs"])
def test_endpoints_that_fail_hold_up_nothing(encrypting, elsewhere, mode):
    """Settings stay in force, other changes take effect, and the setting follows when they are back."""
    key, late_key = f"sk-{mode}-0123456789", f"sk-late-{mode}-0123456789"
    setting = put(encrypting, setting={"apikey": f"sk-{mode}-1", "url": elsewhere.url}).json()["id"]
    encrypting.key(key, setting)
    assert becomes(200, encrypting, key)
    elsewhere.mode = mode
    try:
        refused = put(encrypting)
        assert refused.status_code == 503
        assert "ENCRYPTION_ENDPOINT" in refused.json()["detail"]
        assert "sk-at-rest" not in refused.text
        path = f"{encrypting.admin_url}{SETTINGS}/{setting}"
        assert loopback.patch(path, json={"allowedModels": ["none"]}).status_code == 200
        assert becomes(403, encrypting, key)
        assert loopback.patch(path, json={"allowedModels": []}).status_code == 200
        assert becomes(200, encrypting, key)
        elsewhere.mode = "up"
        made = put(encrypting, setting={"apikey": f"sk-{mode}-2", "url": elsewhere.url})
        assert made.status_code == 200
    finally:
        elsewhere.mode = "up"
    encrypting.key(late_key, made.json()["id"])
    assert becomes(200, encrypting, late_key)


def test_a_start_without_the_endpoint_serves_when_it_is_back(
    encrypting, elsewhere, module_postgres
):
    """Nothing is remembered across a start: the worker asks again until it is answered."""
    key = "sk-restart-0123456789"
    setting = put(encrypting, setting={"apikey": "sk-r", "url": elsewhere.url}).json()["id"]
    encrypting.key(key, setting)
    assert becomes(200, encrypting, key)
    encrypting.stop()
    elsewhere.mode = "down"
    encrypting.start_ready()
    assert ask(encrypting, key) == 401
    elsewhere.mode = "up"

    assert becomes(200, encrypting, key)


def test_encryption_without_its_endpoints_is_no_setting(encrypting):
    """Both are named."""
    started = subprocess.run(
        [sys.executable, "-m", "gateway", "--check-config"],
        env={**os.environ, **encrypting._env, "ENCRYPTION_ENDPOINT": "", "DECRYPTION_ENDPOINT": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert started.returncode == 1
    assert "ENCRYPTION_ENDPOINT" in started.stdout + started.stderr
    assert "DECRYPTION_ENDPOINT" in started.stdout + started.stderr
