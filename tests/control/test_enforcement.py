"""What keys and end users may do, as callers on 8002 meet it; first without a server, exactly."""

import socket
from collections.abc import Callable
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import loopback
from support.programs import Gateway
from support.stores import PostgresDatabase
from support.workers import store, until_in_force

from contracts.config.keys import AllowedPath, ApiKey
from contracts.config.users import User
from gateway.configuration.draft import apply
from gateway.configuration.items import Changes, Item
from gateway.configuration.snapshot import EMPTY, Snapshot
from gateway.entitlements.access import check_access, check_call
from gateway.values import Call, Refusal

CREATED = 1_767_225_600
METHOD, PATH = "POST", "/v1/chat/completions"
OTHER_PATH = "/api/providers/openai/v1/chat/completions"


def key_of(key_id: str = "k", key: str = "sk-enforced-key", **members: object) -> ApiKey:
    return ApiKey(
        **{
            "key_id": key_id,
            "key_hash": sha256(key.encode()).hexdigest(),
            "name": key_id,
            "created_at": CREATED,
            "updated_at": CREATED,
            "setting_ids": ("s",),
        }
        | members
    )


def user_of(user_id: str = "ada", **members: object) -> User:
    return User(
        **{
            "id": f"id of {user_id}",
            "user_id": user_id,
            "name": user_id,
            "created_at": CREATED,
            "updated_at": CREATED,
        }
        | members
    )


def snapshot_of(*values: ApiKey | User) -> Snapshot:
    items = tuple(
        Item("key", value.key_id, 1, value)
        if isinstance(value, ApiKey)
        else Item("user", value.id, 1, value)
        for value in values
    )
    return apply(EMPTY, Changes(1, items, frozenset(), is_full=True), {})


def refusal(key: ApiKey, *users: User, now_ms: int = CREATED * 1000, **call: object):
    """Status, code and message of what the gates say; None when they let it pass."""
    snapshot = snapshot_of(key, *users)
    principal = snapshot.principal_by_key_id[key.key_id]
    asked = Call(
        **{"model": "m", "is_streaming": False, "user_id": "ada", "asks_usage": False} | call
    )
    try:
        check_access(principal, "sk-enforced-key", METHOD, PATH, now_ms)
        check_call(principal, asked, snapshot.users_by_user_id, METHOD, PATH, now_ms)
    except Refusal as refused:
        return refused.status, refused.code, refused.message
    return None


@pytest.mark.parametrize(
    ("members", "lives_ms"),
    [
        ({"ttl": "10s"}, 10_000),
        ({"ttl": "1.999s"}, 1_000),
        ({"ttl": "1h30m"}, 5_400_000),
        ({"ttl": "1000ms"}, 1_000),
        ({"ttl": "-1s"}, -1_000),
        ({"ttl": "-1ms"}, -1_000),
        ({"expires_at": CREATED + 7}, 7_000),
        ({"expires_at": CREATED + 7, "ttl": "9s"}, 7_000),
        ({"expires_at": CREATED + 7, "ttl": "5s"}, 5_000),
    ],
)
def test_a_key_expires_to_the_millisecond(members, lives_ms):
    """The last millisecond is served, the next is not."""
    end_ms = CREATED * 1000 + lives_ms

    assert refusal(key_of(**members), now_ms=end_ms - 1) is None
    assert refusal(key_of(**members), now_ms=end_ms) == (
        401,
        "api_key_expired",
        f"key sk-en{'*' * 46} has expired",
    )


@pytest.mark.parametrize("ttl", ["", "0s", "0", "999ms", "999999us"])
def test_a_ttl_below_a_second_is_none(ttl):
    """For keys and for users."""
    far = 2**62

    assert refusal(key_of(ttl=ttl), user_of(ttl=ttl), now_ms=far) is None


def test_a_revoked_key_is_told_before_anything_else():
    """It has expired as well, and may not use the path."""
    key = key_of(revoked=True, ttl="1s", allowed_paths=(AllowedPath("/x", "GET"),))

    assert refusal(key, now_ms=2**62) == (
        401,
        "api_key_revoked",
        f"key sk-en{'*' * 46} has been revoked",
    )


def test_a_user_is_told_what_it_may_not_do():
    """Status and wording of the original; an expired user has a word of its own."""
    key = key_of()
    assert refusal(key, user_of(revoked=True)) == (401, "user_revoked", "user is revoked: ada")
    assert refusal(key, user_of(allowed_models=("x",))) == (
        403,
        "model_not_allowed",
        "model: m forbidden for user: ada",
    )
    assert refusal(key, user_of(allowed_paths=(AllowedPath("/x", "POST"),))) == (
        403,
        "path_not_allowed",
        f"path: {PATH} forbidden for user: ada",
    )
    assert refusal(key, user_of(key_ids=("other",))) == (
        403,
        "key_not_allowed",
        "key: k forbidden for user: ada",
    )
    assert refusal(key, user_of(ttl="10s"), now_ms=CREATED * 1000 + 10_000) == (
        401,
        "user_expired",
        "user is expired: ada",
    )


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"ttl": "10s"},
        {"key_ids": ("k", "other")},
        {"allowed_models": ("x", "m")},
        {"allowed_models": ()},
        {"allowed_paths": (AllowedPath(PATH, "POST"),)},
        {"allowed_paths": (AllowedPath(PATH, "post"),)},
        {"allowed_paths": ()},
        {"user_id": "somebody else", "revoked": True},
    ],
)
def test_a_user_does_what_it_may(members):
    """An empty list allows all; another user's revocation is not one's own."""
    assert refusal(key_of(), user_of(**members)) is None


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ({"model": "m"}, "model_not_allowed"),
        ({"model": None}, None),
        ({"model": None, "hides_model": True}, "model_not_allowed"),
        ({"model": "gpt"}, None),
    ],
)
def test_models_are_a_gate_for_keys_and_users(call, code):
    """A call that has no model passes, one whose model cannot be told does not."""
    by_key = refusal(key_of(allowed_models=("gpt",)), **call)
    by_user = refusal(key_of(), user_of(allowed_models=("gpt",)), **call)

    assert (by_key and by_key[1]) == code
    assert (by_user and by_user[1]) == code


@given(
    key_tags=st.lists(st.sampled_from("abc"), unique=True),
    users=st.lists(
        st.tuples(
            st.sampled_from(["ada", "bob"]),
            st.lists(st.sampled_from("abc"), unique=True),
            st.booleans(),
        ),
        max_size=5,
    ),
)
def test_every_user_with_the_tags_of_the_key_must_allow(key_tags, users):
    """None of them: nobody described this user, and it passes. Several: the strictest counts."""
    described = [
        user_of(user_id, id=str(number), tags=tuple(tags), revoked=is_revoked)
        for number, (user_id, tags, is_revoked) in enumerate(users)
    ]
    is_refused = any(
        user_id == "ada" and set(key_tags) <= set(tags) and is_revoked
        for user_id, tags, is_revoked in users
    )

    assert (refusal(key_of(tags=tuple(key_tags)), *described) is not None) is is_refused
    assert refusal(key_of(tags=tuple(key_tags)), *described, user_id=None) is None


def test_a_user_whose_end_cannot_be_read_is_barred(caplog):
    """Left out of force it would be a user nobody described."""
    assert refusal(key_of(), user_of(ttl="soon"))[1] == "user_revoked"
    assert "id of ada" in caplog.text


@pytest.fixture(scope="module")
def setting_id(gateway: Gateway, provider: str) -> str:
    """A provider setting for the keys of this file."""
    return gateway.setting(provider)


def ask(gateway: Gateway, key: str, path: str = PATH, content: bytes | None = None, **body: object):
    """Status, type and code of an answer; no type and code when it is one of the provider."""
    answer = loopback.post(
        gateway.proxy_url + path,
        headers={"authorization": f"Bearer {key}"},
        **(
            {"content": content}
            if content is not None
            else {"json": {"model": "gpt-4o", "messages": [], **body}}
        ),
    )
    error = answer.json().get("error", {})
    return answer.status_code, error.get("type"), error.get("code")


SERVED = 200, None, None
EXPIRED = 401, "authentication_error", "api_key_expired"
REVOKED = 401, "authentication_error", "api_key_revoked"
NO_PATH = 403, "permission_error", "path_not_allowed"
NO_MODEL = 403, "permission_error", "model_not_allowed"

KEYS: dict[str, tuple[dict[str, object], tuple[object, ...]]] = {
    "sk-plain": ({}, SERVED),
    "sk-revoked": ({"revoked": True}, REVOKED),
    "sk-old": ({"ttl": "1h"}, EXPIRED),
    "sk-long": ({"ttl": "876000h"}, SERVED),
    "sk-past": ({"expires_at": CREATED}, EXPIRED),
    "sk-future": ({"expires_at": 2**40}, SERVED),
    "sk-path": ({"allowed_paths": (AllowedPath(PATH, "POST"),)}, SERVED),
    "sk-other-path": ({"allowed_paths": (AllowedPath(OTHER_PATH, "POST"),)}, NO_PATH),
    "sk-other-method": ({"allowed_paths": (AllowedPath(PATH, "GET"),)}, NO_PATH),
    "sk-model": ({"allowed_models": ("gpt-4o",)}, SERVED),
    "sk-other-model": ({"allowed_models": ("gpt-4",)}, NO_MODEL),
    "sk-no-models": ({"allowed_models": ()}, SERVED),
}


@pytest.fixture(scope="module")
def keys(gateway: Gateway, setting_id: str, module_postgres: PostgresDatabase) -> None:
    """One key of each kind, in force."""
    values = [
        (name, key_of(name, name, setting_ids=(setting_id,), **members))
        for name, (members, _) in KEYS.items()
    ]
    store(module_postgres.url, *values)
    until_in_force(gateway, module_postgres.url)


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("name", KEYS)
def test_a_key_is_held_to_what_was_set(gateway, name):
    """Over HTTP, with a body that can be read."""
    assert ask(gateway, name) == KEYS[name][1]


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("content", [b"", b"{", b'{"model":1}', b"[]", b"\xff\xff"])
@pytest.mark.parametrize("name", ["sk-revoked", "sk-old", "sk-past", "sk-other-path"])
def test_a_body_that_cannot_be_read_is_no_way_around(gateway, name, content):
    """What the head decides is said whatever the body is."""
    assert ask(gateway, name, content=content) == KEYS[name][1]


@pytest.mark.usefixtures("keys")
def test_a_key_with_models_needs_a_body_that_names_one(gateway):
    """No answer of the provider without a model that can be told."""
    for content in (b'{"messages":[]}', b'{"model":1,"messages":[]}', b'{"model":"gpt-4o"'):
        assert ask(gateway, "sk-model", content=content)[0] in (400, 403)


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("path", [PATH, "/v1/images/generations"])
@pytest.mark.parametrize(
    "members",
    [
        '"model":"gpt-4","model":"gpt-4o"',
        '"model":"gpt-4o","model":"gpt-4"',
        '"model":"gpt-4o","Model":"gpt-4"',
        '"MODEL":"gpt-4","model":"gpt-4o"',
        '"\\u006dodel":"gpt-4","model":"gpt-4o"',
        '"model":"gpt-4o","\\u004Dodel":"gpt-4"',
        '"model":"gpt-4o", "mode\\u006C" : null',
    ],
)
def test_a_body_that_names_two_models_is_refused(gateway, path, members):
    """Which of them the provider takes, nobody knows: some are blind to upper and lower case."""
    body = f'{{"messages":[],"tools":[{{"model":1}}],{members}}}'.encode()

    answer = ask(gateway, "sk-model", path, content=body)

    assert answer == (400, "invalid_request_error", "invalid_model")


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"gpt-4o","messages":[{"model":"gpt-4","Model":1}],"metadata":{"model":"x"}}',
        b'{"\\u006dodel":"gpt-4o","messages":[]}',
        b'{"messages":[{"content":"\\u0061, \\"model\\":"}] , "model" : "gpt-4o"}',
    ],
)
def test_a_model_in_a_nested_member_is_no_second_one(gateway, body):
    """Nor is one model, however it is written."""
    assert ask(gateway, "sk-model", content=body) == SERVED


def test_a_change_of_a_user_is_in_force_in_no_time(gateway, setting_id, module_postgres):
    """Created, changed and deleted over 8001, asked over 8002."""
    gateway.key("sk-of-users", setting_id, tags=["team"])
    other = gateway.key("sk-other-of-users", setting_id)
    url = f"{gateway.admin_url}/api/users"

    def answers() -> tuple[object, ...]:
        until_in_force(gateway, module_postgres.url)
        return ask(gateway, "sk-of-users", user="grace")

    assert answers() == SERVED
    user = loopback.post(url, json={"name": "G", "userId": "grace", "tags": ["team", "b"]}).json()
    one = f"{url}/{user['id']}"
    assert answers() == SERVED
    loopback.patch(one, json={"allowedModels": ["o3"]})
    assert answers() == NO_MODEL
    loopback.patch(url, params={"userId": "grace", "tags": "b"}, json={"allowedModels": []})
    assert answers() == SERVED
    loopback.patch(one, json={"allowedPaths": [{"path": OTHER_PATH, "method": "POST"}]})
    assert answers() == NO_PATH
    assert ask(gateway, "sk-of-users", OTHER_PATH, user="grace") == SERVED
    loopback.patch(one, json={"allowedPaths": [], "keyIds": [other["keyId"]]})
    assert answers() == (403, "permission_error", "key_not_allowed")
    loopback.patch(one, json={"keyIds": [], "revoked": True})
    assert answers() == (401, "authentication_error", "user_revoked")
    loopback.delete(one)
    assert answers() == SERVED


@pytest.mark.parametrize(
    ("member", "code"), [({"revoked": True}, b"api_key_revoked"), (None, b"invalid_api_key")]
)
def test_a_body_that_is_held_back_does_not_outlast_its_key(
    gateway, setting_id, module_postgres, member, code
):
    """Its head came while the key was good, its last byte when the key was no more."""
    key = f"sk-held-back-{code.decode()}"
    one = f"{gateway.admin_url}/api/key-management/keys/{gateway.key(key, setting_id)['keyId']}"

    def bar() -> None:
        loopback.delete(one) if member is None else loopback.patch(one, json=member)

    assert code in answer_when_held_back(gateway, module_postgres.url, key, bar)


def test_a_body_that_is_held_back_does_not_outlast_its_user(gateway, setting_id, module_postgres):
    """As with keys."""
    gateway.key("sk-of-held-back", setting_id)
    users = f"{gateway.admin_url}/api/users"

    def bar() -> None:
        loopback.post(users, json={"name": "H", "userId": "held back"})
        loopback.patch(users, params={"userId": "held back"}, json={"revoked": True})

    assert b"user_revoked" in answer_when_held_back(
        gateway, module_postgres.url, "sk-of-held-back", bar
    )


def test_a_body_that_is_held_back_does_not_outlast_its_route(gateway, setting_id, module_postgres):
    """As with keys."""
    key_id = gateway.key("sk-of-a-route", setting_id)["keyId"]
    routes = f"{gateway.admin_url}/api/routes"
    route = {
        "name": "r",
        "path": "/held-back",
        "keyIds": [key_id],
        "steps": [{"provider": "openai", "model": "gpt-4o"}],
        "cacheConfig": {"enabled": False},
    }
    made = loopback.post(routes, json=route).json()

    def bar() -> None:
        loopback.delete(f"{routes}/{made['id']}")

    answer = answer_when_held_back(
        gateway, module_postgres.url, "sk-of-a-route", bar, "/api/routes/held-back"
    )
    assert b"route_not_found" in answer


def answer_when_held_back(
    gateway: Gateway, url: str, key: str, meanwhile: Callable[[], None], path: str = PATH
) -> bytes:
    """What a call gets whose body is sent after something was done."""
    body = b'{"model":"gpt-4o","messages":[],"user":"held back"}'
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
        f"connection: close\r\nexpect: 100-continue\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    until_in_force(gateway, url)
    with socket.create_connection(("127.0.0.1", gateway.proxy_port), timeout=60) as client:
        client.sendall(head.encode())
        # Said when the body is asked for: what the head decides has been decided.
        assert client.recv(65_536).startswith(b"HTTP/1.1 100 Continue")
        meanwhile()
        until_in_force(gateway, url)
        client.sendall(body)
        return b"".join(iter(lambda: client.recv(65_536), b""))
