"""Keys beyond the checklist: generated ones, limits of several windows, changes at the same time."""

import json
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import loopback
from support.programs import Gateway

from contracts.client_keys import is_shaped_as_client_key, new_client_key, public_id_of

KEYS = "/api/key-management/keys"


@pytest.fixture(scope="module")
def api(gateway: Gateway):
    """A client of the admin API."""
    with loopback.Client(base_url=gateway.admin_url) as client:
        yield client


@pytest.fixture(scope="module")
def setting_id(gateway: Gateway) -> str:
    """A setting for keys to name."""
    return gateway.setting("http://127.0.0.1:9")


@pytest.fixture
def create(api, setting_id, request):
    """Creates a key of the test's own."""

    def make(**members: object) -> httpx.Response:
        body = {"name": request.node.name, "settingIds": [setting_id], **members}
        return api.put(KEYS, json=body)

    return make


def shown(answer: httpx.Response) -> dict[str, object]:
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_generated_key_is_shown_once_and_works(api, create, gateway):
    """Whoever missed it needs another: afterwards there is only its hash."""
    made = shown(create(tags=["generated"]))
    raw = str(made["key"])
    assert public_id_of(raw) == made["publicId"]

    (listed,) = shown(api.post("/api/v2" + KEYS[4:], json={"keyIds": [made["keyId"]]}))["keys"]
    assert listed["key"] == sha256(raw.encode()).hexdigest()
    assert listed["publicId"] == made["publicId"]
    gateway.await_key(raw)
    answer = loopback.post(f"{gateway.proxy_url}/v1/chat/completions", headers={"x-api-key": raw})
    assert answer.json()["error"]["code"] == "empty_body"


def test_a_mistyped_generated_key_is_not_taken_for_a_key(create):
    """It would never work for whoever holds the right one."""
    raw = new_client_key().text
    swapped = raw[:20] + ("a" if raw[20] != "a" else "b") + raw[21:]

    answer = create(key=swapped)

    assert answer.status_code == 400
    assert "checksum" in answer.json()["detail"]


@given(st.text(max_size=60))
def test_a_text_of_chance_is_no_generated_key(text):
    """The checksum and the form tell them apart."""
    assert public_id_of(text) is None
    assert not is_shaped_as_client_key(text)


def test_any_wrong_character_breaks_the_checksum():
    """Each of the 53, in a key of chance."""
    raw = new_client_key().text
    for at in range(3, len(raw)):
        other = "A" if raw[at] != "A" else "B"
        assert public_id_of(raw[:at] + other + raw[at + 1 :]) is None


ADDITIONS = {
    "expiresAt": 4102444800,
    "allowedModels": ["gpt-4o", "gpt-4o-mini"],
    "rateLimits": [{"limit": 10, "unit": "s"}, {"limit": 1000, "unit": "d"}],
    "costLimits": [{"usd": 0.5, "unit": "d", "timezone": "Europe/Berlin"}, {"usd": 5, "unit": "d"}],
    "tokenLimits": [{"tokens": 100000, "unit": "m"}],
    "concurrencyLimit": 4,
    "holdPolicy": "typical",
    "balancing": "sticky",
    "allowUnmeteredPaths": True,
}


def test_what_we_add_is_shown_only_where_it_is_set(api, create):
    """BricksLLM's clients see its own fields, and those that ask for more see more."""
    plain = shown(create(key="sk-plain-additions"))
    assert not ADDITIONS.keys() & plain.keys()

    full = shown(create(key="sk-full-additions", **ADDITIONS))
    assert {name: full[name] for name in ADDITIONS} == ADDITIONS

    cleared = {"expiresAt": 0, "concurrencyLimit": 0, "holdPolicy": "", "balancing": ""}
    lists = {one: [] for one in ("allowedModels", "rateLimits", "costLimits", "tokenLimits")}
    patch = {**cleared, **lists, "allowUnmeteredPaths": False}
    after = shown(api.patch(f"{KEYS}/{full['keyId']}", json=patch))
    assert not ADDITIONS.keys() & after.keys()


def test_an_amount_keeps_its_digits(create, api):
    """Money is no float, on the way in and on the way out."""
    body = (
        '{"name":"digits","key":"sk-digits","settingIds":["%s"],'
        '"costLimitInUsd":0.10000000000000000555,"costLimits":[{"usd":1e-9,"unit":"mo"}]}'
    )
    setting = shown(create(key="sk-digits-0"))["settingIds"][0]
    answer = api.put(KEYS, content=body % setting, headers={"content-type": "application/json"})

    assert answer.status_code == 200, answer.text
    assert '"costLimitInUsd":0.10000000000000000555' in answer.text
    assert '"usd":0.000000001' in answer.text


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"rateLimits": [{"limit": 0, "unit": "s"}]}, "rateLimits.0.limit"),
        ({"rateLimits": [{"limit": 1, "unit": "mo"}]}, "rateLimits.0.unit"),
        (
            {"rateLimits": [{"limit": 1, "unit": "s"}, {"limit": 2, "unit": "s"}]},
            "rateLimits.1.unit",
        ),
        ({"costLimits": [{"usd": -1, "unit": "d"}]}, "costLimits.0.usd"),
        (
            {"costLimits": [{"usd": 1, "unit": "d", "timezone": "Mars/Olympus"}]},
            "costLimits.0.timezone",
        ),
        ({"tokenLimits": [{"tokens": 5, "unit": "y"}]}, "tokenLimits.0.unit"),
        ({"tokenLimits": [{"tokens": 5, "unit": "d"}] * 17}, "tokenLimits"),
        ({"concurrencyLimit": -1}, "concurrencyLimit"),
        ({"expiresAt": -1}, "expiresAt"),
        ({"expiresAt": 1_767_225_600_000}, "expiresAt"),
        ({"expires_at": 1_767_225_600}, "is expiresAt meant?"),
        ({"allowed_models": ["m"]}, "is allowedModels meant?"),
        ({"costLimit": [{"usd": 5, "unit": "d"}]}, "is costLimits meant?"),
        ({"costLimits": [{"usd": 5, "unit": "d", "tz": "Europe/Berlin"}]}, "unknown member tz"),
        ({"holdPolicy": "hopeful"}, "holdPolicy"),
        ({"balancing": "by chance"}, "balancing"),
        ({"allowedModels": [""]}, "allowedModels"),
    ],
)
def test_a_limit_that_cannot_be_is_named(create, members, named):
    """On creation; a change obeys the same rules."""
    answer = create(key="sk-wrong-limit", **members)

    assert answer.status_code == 400, answer.text
    assert named in answer.json()["detail"]


def test_changes_at_the_same_time_lose_nothing(api, create, gateway):
    """Twenty fields, each from a client of its own."""
    key_id = shown(create(key="sk-many-hands"))["keyId"]
    changes: dict[str, object] = {
        "name": "changed",
        "tags": ["changed"],
        "shouldLogRequest": True,
        "shouldLogResponse": True,
        "rotationEnabled": True,
        "costLimitInUsd": 3,
        **ADDITIONS,
    }

    def patch(one: tuple[str, object]) -> int:
        url = f"{gateway.admin_url}{KEYS}/{key_id}"
        return loopback.patch(url, json=dict([one])).status_code

    with ThreadPoolExecutor(len(changes)) as pool:
        assert set(pool.map(patch, changes.items())) == {200}

    (after,) = shown(api.post("/api/v2" + KEYS[4:], json={"keyIds": [key_id]}))["keys"]
    assert {name: after[name] for name in changes} == changes


@pytest.mark.parametrize(
    "text",
    [
        "'; DROP TABLE configuration_items; --",
        '"{},\\',
        "\u00e9\U0001f600 \u2028",
        "x" * 1000,
        "%00$1",
    ],
)
def test_any_text_comes_back_as_it_was(api, create, text):
    """In a name, a tag, a model and a path, and finds its key again."""
    path = {"path": "/" + text, "method": "GET"}
    body = {"name": text, "tags": [text], "allowedModels": [text], "allowedPaths": [path]}
    made = shown(create(key=f"sk-{text.encode().hex()}", **body))
    assert {name: made[name] for name in body} == body

    listed = shown(api.post("/api/v2" + KEYS[4:], json={"tags": [text], "name": text}))["keys"]
    assert made["keyId"] in [key["keyId"] for key in listed]
    listed = api.get(KEYS, params={"tag": text}).json()
    assert [key["keyId"] for key in listed] == [made["keyId"]]


@pytest.mark.parametrize("text", ["\0", "a\0b"])
@pytest.mark.parametrize("member", ["name", "tags", "key", "allowedModels"])
def test_nul_is_refused(create, member, text):
    """The database cannot hold it, and says so here."""
    value: object = [text] if member in ("tags", "allowedModels") else text
    members = {"key": f"sk-nul-{member}", member: value}
    assert create(**members).status_code == 400


def test_half_a_surrogate_is_no_text(api, setting_id):
    """400, not an error of ours."""
    body = json.dumps({"name": "n", "key": "k", "settingIds": [setting_id], "tags": ["x"]})
    answer = api.put(KEYS, content=body.replace('"x"', '"\\ud800"'))
    assert answer.status_code == 400


def test_a_key_that_is_not_hashed_can_be_hidden_but_not_shown_again(api, create):
    """The key itself is not kept once nobody wants to see it; it goes on working."""
    made = shown(create(key="sk-in-clear", isKeyNotHashed=True))
    assert made["key"] == "sk-in-clear"
    hidden = shown(api.patch(f"{KEYS}/{made['keyId']}", json={"isKeyNotHashed": False}))
    assert hidden["key"] == sha256(b"sk-in-clear").hexdigest()
    again = shown(api.patch(f"{KEYS}/{made['keyId']}", json={"isKeyNotHashed": True}))
    assert again["key"] == hidden["key"]
    assert again["isKeyNotHashed"] is False


def test_a_deleted_key_may_be_made_anew(api, create, gateway):
    """And what is in force is the new one."""
    first = shown(create(key="sk-twice", tags=["one"]))
    assert api.delete(f"{KEYS}/{first['keyId']}").status_code == 200
    second = shown(create(key="sk-twice", tags=["two"]))
    assert second["keyId"] != first["keyId"]
    assert api.get(KEYS, params={"keyIds": first["keyId"]}).json() == []
    gateway.await_key("sk-twice")
