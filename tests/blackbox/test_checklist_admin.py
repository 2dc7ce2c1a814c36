"""BricksLLM's admin API by its checklist, items 1 to 50: each test bears its item's number.

Only HTTP is spoken. Where Tollway differs on purpose, the test says what Tollway does.
"""

import hashlib
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from support import loopback

KEYS = "/api/key-management/keys"
KEYS_V2 = "/api/v2/key-management/keys"
SETTINGS = "/api/provider-settings"
CUSTOM = "/api/custom/providers"
ROUTES = "/api/routes"
POLICIES = "/api/policies"
USERS = "/api/users"

KEY_INVALID = ("/errors/validation", "key validation failed")
KEY_REFUSED = ("/errors/key-manager", "key creation error")
SETTING_INVALID = ("/errors/validation", "provider setting validation failed")
CUSTOM_INVALID = ("/errors/validation", "custom provider validation failed")
ROUTE_INVALID = ("/errors/validation", "custom provider validation failed")
ROUTE_REFUSED = ("/errors/route-manager", "creating a route error")
USER_INVALID = ("/errors/validation", "create user validation failed")

KEY_FIELDS = {
    "name",
    "createdAt",
    "updatedAt",
    "tags",
    "keyId",
    "revoked",
    "key",
    "revokedReason",
    "costLimitInUsd",
    "costLimitInUsdOverTime",
    "costLimitInUsdUnit",
    "rateLimitOverTime",
    "rateLimitUnit",
    "ttl",
    "settingId",
    "allowedPaths",
    "settingIds",
    "shouldLogRequest",
    "shouldLogResponse",
    "rotationEnabled",
    "policyId",
    "isKeyNotHashed",
}
PATHS = [{"path": "/api/providers/openai/v1/chat/completions", "method": "POST"}]
ROUTE_CONFIG = {
    "path": "/chat",
    "target_url": "https://api.acme.example/v2/chat",
    "model_location": "model",
    "request_prompt_location": "messages.#.content",
    "response_completion_location": "choices.#.message.content",
    "stream_location": "stream",
    "stream_end_word": "[DONE]",
    "stream_response_completion_location": "choices.#.delta.content",
    "stream_max_empty_messages": 10,
}
STEP = {"provider": "openai", "model": "gpt-4o"}


@pytest.fixture
def mark(request: pytest.FixtureRequest) -> str:
    """A word of the test's own, so that tests do not meet each other's things."""
    return f"{request.node.name.split('[')[0]}-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def setting_id(api: httpx.Client) -> str:
    """A setting for OpenAI."""
    answer = api.put(SETTINGS, json={"provider": "openai", "setting": {"apikey": "sk-shared"}})
    return str(good(answer)["id"])


@pytest.fixture
def make_key(api: httpx.Client, setting_id: str) -> Callable[..., dict[str, Any]]:
    """Makes a key with a raw key of chance; what is given replaces."""

    def make(**members: object) -> dict[str, Any]:
        body = {"name": "k", "key": uuid.uuid4().hex, "settingId": setting_id, **members}
        return good(api.put(KEYS, json=body))

    return make


def good(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(
    answer: httpx.Response, status: int, named: tuple[str, str], instance: str, detail: str
) -> None:
    """The whole error, member by member, in its order."""
    assert answer.headers["content-type"].startswith("application/json")
    assert list(answer.json().items()) == [
        ("type", named[0]),
        ("title", named[1]),
        ("status", status),
        ("detail", detail),
        ("instance", instance),
    ]
    assert answer.status_code == status


def eventually(
    holds: Callable[[], httpx.Response], wanted: int, seconds: float = 60
) -> httpx.Response:
    """The first answer with the status, or the last one after some seconds."""
    deadline = time.monotonic() + seconds
    while True:
        answer = holds()
        if answer.status_code == wanted or time.monotonic() > deadline:
            return answer
        time.sleep(0.02)


# Keys


def test_01_create_key_returns_what_was_sent_and_an_id(api, setting_id, mark):
    """Name, tags and paths come back, with an id, times and `revoked` false."""
    made = good(
        api.put(
            KEYS,
            json={
                "name": "Key One",
                "key": mark,
                "tags": [mark, "b"],
                "settingId": setting_id,
                "allowedPaths": PATHS,
            },
        )
    )

    assert set(made) >= KEY_FIELDS
    assert (made["name"], made["tags"], made["allowedPaths"]) == ("Key One", [mark, "b"], PATHS)
    assert made["settingId"] == setting_id
    assert made["settingIds"] == []
    assert made["keyId"]
    assert made["createdAt"] == made["updatedAt"]
    assert abs(made["createdAt"] - time.time()) < 60
    assert made["revoked"] is False


def test_02_patched_name_tags_and_paths_are_reflected(api, make_key, mark):
    """An empty list of paths empties them."""
    key_id = make_key(tags=[mark], allowedPaths=PATHS)["keyId"]
    other = [{"path": "/api/providers/openai/v1/embeddings", "method": "POST"}]

    patched = good(
        api.patch(
            f"{KEYS}/{key_id}",
            json={"name": "after", "tags": [mark, "later"], "allowedPaths": other},
        )
    )
    emptied = good(api.patch(f"{KEYS}/{key_id}", json={"allowedPaths": []}))

    assert (patched["name"], patched["tags"]) == ("after", [mark, "later"])
    assert patched["allowedPaths"] == other
    assert emptied["allowedPaths"] == []
    assert emptied["name"] == "after"
    assert good(api.get(KEYS, params={"tag": mark})) == [emptied]


def test_03_keys_are_listed_by_tag(api, make_key, mark):
    """Those that have it, and no others."""
    one, two, three = (f"{mark}-{number}" for number in (1, 2, 3))
    first = make_key(tags=[one])["keyId"]
    second = make_key(tags=[one, two])["keyId"]

    def found(tag: str) -> set[str]:
        return {key["keyId"] for key in good(api.get(KEYS, params={"tag": tag}))}

    assert found(one) == {first, second}
    assert found(two) == {second}
    assert good(api.get(KEYS, params={"tag": three})) == []


def test_04_keys_are_listed_by_all_of_some_tags(api, make_key, mark):
    """A key with one of the two is not among them."""
    one, two = f"{mark}-1", f"{mark}-2"
    make_key(tags=[one])
    both = make_key(tags=[two, one, "more"])["keyId"]

    found = good(api.get(KEYS, params={"tags": [one, two]}))

    assert [key["keyId"] for key in found] == [both]


def test_05_keys_are_listed_by_provider(api, make_key, mark):
    """By the settings they have, named one way or the other."""
    anthropic = good(
        api.put(SETTINGS, json={"provider": "anthropic", "setting": {"apikey": "sk-a"}})
    )["id"]
    first, second = make_key(tags=[mark]), make_key(tags=[mark])
    third = make_key(tags=[mark], settingId="", settingIds=[anthropic])

    def found(provider: str) -> set[str]:
        asked = {"tag": mark, "provider": provider}
        return {key["keyId"] for key in good(api.get(KEYS, params=asked))}

    assert found("openai") == {first["keyId"], second["keyId"]}
    assert found("anthropic") == {third["keyId"]}
    assert found("vllm") == set()


def test_06_keys_are_not_listed_without_a_filter(api):
    """400, with the original's spelling."""
    answer = api.get(KEYS)

    assert answer.status_code == 400
    told = answer.json()
    assert told.pop("detail")
    assert list(told.items()) == [
        ("type", "/errors/missing-filteres"),
        ("title", "filters are not found"),
        ("status", 400),
        ("instance", KEYS),
    ]


def test_07_the_shown_key_is_its_hash_unless_it_is_not_hashed(make_key):
    """SHA-256 in lower-case hex, or the key itself."""
    raw = f"raw-{uuid.uuid4()}"
    hashed, shown = make_key(key=raw), make_key(key=f"{raw}-2", isKeyNotHashed=True)

    assert hashed["key"] == hashlib.sha256(raw.encode()).hexdigest()
    assert hashed["isKeyNotHashed"] is False
    assert shown["key"] == f"{raw}-2"
    assert shown["isKeyNotHashed"] is True


def test_08_members_that_cannot_be_are_named(api, setting_id, mark):
    """All of them, in a fixed order."""
    for body, names in (
        ({"key": mark}, "name"),
        ({"name": "k", "key": ""}, "key"),
        ({"key": ""}, "key, name"),
        ({"name": "k", "key": mark, "tags": [""]}, "tags"),
        ({"tags": ["a", ""], "key": ""}, "tags, key, name"),
        ({"name": "k", "key": mark, "costLimitInUsd": -1}, "costLimitInUsd"),
        (
            {
                "name": "k",
                "key": mark,
                "costLimitInUsd": -1,
                "costLimitInUsdOverTime": -0.5,
                "rateLimitOverTime": -1,
                "ttl": "soon",
                "allowedPaths": [{"path": "/v1/models"}],
            },
            "costLimitInUsd, costLimitInUsdOverTime, rateLimitOverTime, ttl, allowedPaths.0.method",
        ),
        ({"name": "k", "key": mark, "allowedPaths": [{"method": "GET"}]}, "allowedPaths.0.path"),
    ):
        answer = api.put(KEYS, json={"settingId": setting_id, **body})
        refused(answer, 400, KEY_INVALID, KEYS, f"fields [{names}] are invalid")
    answer = api.put(KEYS, json={"name": "k", "key": mark, "settingIds": [setting_id, ""]})
    refused(answer, 400, KEY_INVALID, KEYS, "fields [settingIds[1]] are invalid")


def test_09_a_ttl_is_a_go_duration(api, make_key, setting_id, mark):
    """`24h` is one, `2d` is none."""
    answer = api.put(KEYS, json={"name": "k", "key": mark, "settingId": setting_id, "ttl": "2d"})

    refused(answer, 400, KEY_INVALID, KEYS, "fields [ttl] are invalid")
    assert make_key(key=mark, ttl="24h")["ttl"] == "24h"


@pytest.mark.parametrize(
    ("members", "detail"),
    [
        (
            {"rateLimitUnit": "m"},
            "rate limit over time can not be empty if rate limit unit is specified",
        ),
        (
            {"costLimitInUsdUnit": "d"},
            "cost limit over time can not be empty if cost limit unit is specified",
        ),
        (
            {"rateLimitOverTime": 2},
            "rate limit unit can not be empty if rate limit over time is specified",
        ),
        (
            {"rateLimitOverTime": 2, "rateLimitUnit": "mo"},
            "rate limit unit can not be identified",
        ),
        (
            {"costLimitInUsdOverTime": 0.5},
            "cost limit unit can not be empty if cost limit over time is specified",
        ),
        (
            {"costLimitInUsdOverTime": 0.5, "costLimitInUsdUnit": "s"},
            "cost limit unit can not be identified",
        ),
        (
            {"rateLimitUnit": "m", "costLimitInUsdUnit": "d"},
            "rate limit over time can not be empty if rate limit unit is specified",
        ),
        (
            {"costLimitInUsdUnit": "d", "rateLimitOverTime": 2},
            "cost limit over time can not be empty if cost limit unit is specified",
        ),
    ],
)
def test_10_an_amount_and_its_unit_belong_together(api, setting_id, mark, members, detail):
    """Each mismatch has its message; of two, the first in the original's order is told."""
    answer = api.put(KEYS, json={"name": "k", "key": mark, "settingId": setting_id, **members})

    refused(answer, 400, KEY_INVALID, KEYS, detail)


def test_11_a_key_needs_a_setting(api, setting_id, mark):
    """One form of naming them, not none and not both. 400, where the original says 500."""
    for members, detail in (
        ({}, "settingId is not set in either setting_id or setting_ids field"),
        ({"settingIds": []}, "settingId is not set in either setting_id or setting_ids field"),
        (
            {"settingId": setting_id, "settingIds": [setting_id]},
            "either settingId or settingIds",
        ),
    ):
        answer = api.put(KEYS, json={"name": "k", "key": mark, **members})
        refused(answer, 400, KEY_REFUSED, KEYS, detail)


def test_12_settings_and_policies_of_a_key_must_be_known(api, setting_id, mark):
    """All of them. 400, where the original says 500."""
    for members, detail in (
        ({"settingId": "unknown"}, "provider setting is not found"),
        ({"settingIds": ["unknown"]}, "not all settings are found"),
        ({"settingIds": [setting_id, "unknown"]}, "not all settings are found"),
        ({"settingIds": [setting_id, setting_id]}, "not all settings are found"),
        (
            {"settingId": setting_id, "policyId": "unknown"},
            "policy is not found for id: unknown",
        ),
    ):
        answer = api.put(KEYS, json={"name": "k", "key": mark, **members})
        refused(answer, 400, KEY_REFUSED, KEYS, detail)


def test_13_a_raw_key_is_used_once(api, make_key, setting_id, mark):
    """The second is refused, naming the constraint; the first is as it was."""
    first = make_key(key=mark, tags=[mark])

    answer = api.put(
        KEYS, json={"name": "other", "key": mark, "settingId": setting_id, "tags": [mark]}
    )

    refused(
        answer,
        400,
        KEY_REFUSED,
        KEYS,
        'duplicate key value violates unique constraint "key_uniqueness"',
    )
    assert good(api.get(KEYS, params={"tag": mark})) == [first]


def test_14_an_id_and_times_from_a_client_are_ignored(make_key):
    """They are the server's."""
    made = make_key(keyId="mine", createdAt=5, updatedAt=6, revoked=True)

    assert made["keyId"] != "mine"
    assert made["createdAt"] > 5
    assert made["updatedAt"] > 6
    assert made["revoked"] is False


def test_15_a_reason_comes_and_goes_with_the_revocation(api, make_key):
    """Kept with revoked=true only."""
    path = f"{KEYS}/{make_key()['keyId']}"

    revoked = good(api.patch(path, json={"revoked": True, "revokedReason": "leaked"}))
    back = good(api.patch(path, json={"revoked": False}))
    alone = good(api.patch(path, json={"revokedReason": "no"}))

    assert (revoked["revoked"], revoked["revokedReason"]) == (True, "leaked")
    assert (back["revoked"], back["revokedReason"]) == (False, "")
    assert (alone["revoked"], alone["revokedReason"]) == (False, "")


def test_16_zero_and_no_unit_clear_a_limit(api, make_key):
    """Together only; the mismatches of a patch have messages of their own."""
    path = f"{KEYS}/{make_key(rateLimitOverTime=2, rateLimitUnit='m')['keyId']}"
    limits = {"costLimitInUsd": 5.5, "costLimitInUsdOverTime": 0.25, "costLimitInUsdUnit": "mo"}
    limited = good(api.patch(path, json=limits))
    assert {name: limited[name] for name in limits} == limits
    assert (limited["rateLimitOverTime"], limited["rateLimitUnit"]) == (2, "m")

    cleared = good(
        api.patch(
            path,
            json={
                "costLimitInUsd": 0,
                "costLimitInUsdOverTime": 0,
                "costLimitInUsdUnit": "",
                "rateLimitOverTime": 0,
                "rateLimitUnit": "",
            },
        )
    )

    assert [cleared[name] for name in limits] == [0, 0, ""]
    assert (cleared["rateLimitOverTime"], cleared["rateLimitUnit"]) == (0, "")
    for members, detail in (
        (
            {"rateLimitUnit": "m"},
            "rate limit over time can not be empty if rate limit unit is specified",
        ),
        (
            {"costLimitInUsdOverTime": 1},
            "cost limit unit can not be empty if cost limit over time is specified",
        ),
        (
            {"rateLimitOverTime": 0, "rateLimitUnit": "m"},
            "rate limit unit has to be empty if rate limit over time is 0",
        ),
        (
            {"costLimitInUsdOverTime": 3, "costLimitInUsdUnit": ""},
            "cost limit over time must be 0 if cost limit unit is empty",
        ),
    ):
        refused(api.patch(path, json=members), 400, KEY_INVALID, f"{KEYS}/:id", detail)


def test_17_a_policy_cannot_be_patched_away(api, make_key):
    """An empty policy id is refused, and an unknown key is 404."""
    answer = api.patch(f"{KEYS}/{make_key()['keyId']}", json={"policyId": ""})
    refused(answer, 400, KEY_INVALID, f"{KEYS}/:id", "fields [policyId] are invalid")

    missing = api.patch(f"{KEYS}/unknown", json={"name": "k"})
    assert missing.status_code == 404
    told = missing.json()
    assert (told["type"], told["title"]) == ("/errors/not-found", "update key failed")
    assert told["instance"] == f"{KEYS}/:id"


def test_18_a_deletion_answers_with_nothing_known_or_not(api, make_key, mark):
    """The key is gone from the lists at once, and its raw key is free again."""
    key = make_key(key=mark, tags=[mark])

    for key_id in (key["keyId"], key["keyId"], "unknown"):
        answer = api.delete(f"{KEYS}/{key_id}")
        assert (answer.status_code, answer.content) == (200, b"")
    assert good(api.get(KEYS, params={"tag": mark})) == []
    assert make_key(key=mark, tags=[mark])["keyId"] != key["keyId"]


def test_19_v2_lists_everything_newest_first(api, make_key, mark):
    """`asc` turns it round, any other order is refused."""
    made = [make_key(tags=[mark])["keyId"] for _ in range(3)]

    everything = good(api.post(KEYS_V2, json={}))
    ascending = good(api.post(KEYS_V2, json={"order": "asc"}))
    answer = api.post(KEYS_V2, json={"order": "upwards"})

    ids = [key["keyId"] for key in everything["keys"]]
    times = [key["createdAt"] for key in everything["keys"]]
    assert set(made) <= set(ids)
    assert times == sorted(times, reverse=True)
    assert [key["keyId"] for key in ascending["keys"]] == ids[::-1]
    assert everything["count"] == 0
    assert answer.status_code == 400
    told = answer.json()
    assert (told["type"], told["title"]) == (
        "/errors/validation",
        "get keys request validation failed",
    )
    assert told["instance"] == KEYS


def test_20_v2_pages_and_counts(api, make_key, mark):
    """The count is of all that match, and 0 unless asked for."""
    for _ in range(5):
        make_key(tags=[mark])
    everything = good(api.post(KEYS_V2, json={"tags": [mark]}))["keys"]

    page = good(
        api.post(KEYS_V2, json={"tags": [mark], "limit": 2, "offset": 1, "returnCount": True})
    )
    uncounted = good(api.post(KEYS_V2, json={"tags": [mark], "limit": 2}))
    unlimited = good(api.post(KEYS_V2, json={"tags": [mark], "limit": 0, "offset": 3}))

    assert page == {"keys": everything[1:3], "count": 5}
    assert uncounted == {"keys": everything[:2], "count": 0}
    assert unlimited == {"keys": everything, "count": 0}


def test_21_v2_finds_names_in_any_case_and_the_revoked(api, make_key, mark):
    """Also a name and `revoked` without tags, where the original fails."""
    kept = make_key(name=f"Prod {mark} EU")["keyId"]
    gone = make_key(name=f"prod {mark} us")["keyId"]
    good(api.patch(f"{KEYS}/{gone}", json={"revoked": True}))

    def found(**asked: object) -> set[str]:
        return {key["keyId"] for key in good(api.post(KEYS_V2, json=asked))["keys"]}

    assert found(name=f"PROD {mark.upper()}") == {kept, gone}
    assert found(name=mark, revoked=True) == {gone}
    assert found(name=mark, revoked=False) == {kept}
    assert found(name=f"{mark}%") == set()


@pytest.mark.parametrize(
    ("method", "path", "instance", "member"),
    [
        ("PUT", KEYS, KEYS, "name"),
        ("PATCH", f"{KEYS}/x", f"{KEYS}/:id", "name"),
        ("POST", KEYS_V2, KEYS, "name"),
        ("PUT", SETTINGS, SETTINGS, "provider"),
        ("PATCH", f"{SETTINGS}/x", f"{SETTINGS}/:id", "name"),
        ("POST", CUSTOM, "/api/providers", "provider"),
        ("PATCH", f"{CUSTOM}/x", "/api/providers/:id", "route_configs"),
        ("POST", ROUTES, ROUTES, "path"),
        ("POST", POLICIES, POLICIES, "name"),
        ("PATCH", f"{POLICIES}/x", POLICIES, "name"),
        ("POST", USERS, USERS, "name"),
        ("PATCH", f"{USERS}/x", f"{USERS}/:id", "name"),
    ],
)
def test_22_a_body_that_is_no_json_is_refused(api, method, path, instance, member):
    """So is one of another shape. 400, where the original says 500."""
    for content in ("{", "", "[]", f'{{"{member}": 5}}'):
        answer = api.request(method, path, content=content)
        told = answer.json()
        assert (answer.status_code, told["status"]) == (400, 400), content
        assert told["type"] == "/errors/json-unmarshal"
        assert told["title"] == "json unmarshaller error"
        assert told["detail"]
        assert told["instance"] == instance


# Who may


def test_23_without_the_password_nothing_is_done(api, locked_url, mark):
    """401, where the original answers 200 and nothing; and nothing was changed."""
    body = {"provider": "openai", "name": mark, "setting": {"apikey": "sk-x"}}
    for headers in ({}, {"x-api-key": "wrong"}, {"x-api-key": ""}):
        answer = loopback.put(f"{locked_url}{SETTINGS}", json=body, headers=headers)
        told = answer.json()
        assert (answer.status_code, told["status"]) == (401, 401)
        assert list(told) == ["type", "title", "status", "detail", "instance"]
    assert mark not in {setting["name"] for setting in good(api.get(SETTINGS))}


def test_24_the_password_opens_and_none_is_needed_when_none_is_set(api, locked_url):
    """In X-API-KEY."""
    from_locked = loopback.get(f"{locked_url}{SETTINGS}", headers={"x-api-key": "not-the-default"})

    assert good(from_locked) == good(api.get(SETTINGS))


def test_25_both_ports_say_that_they_are_alive(api, data, locked_url):
    """Without a credential."""
    for answer in (
        api.get("/api/health"),
        data.get("/api/health"),
        loopback.get(f"{locked_url}/api/health"),
    ):
        assert answer.status_code == 200


# Provider settings


def make_setting(api: httpx.Client, **members: object) -> dict[str, Any]:
    body = {"provider": "openai", "setting": {"apikey": "sk-1"}, **members}
    return dict(good(api.put(SETTINGS, json=body)))


def test_26_a_created_setting_shows_no_secret(api, mark):
    """No `setting` at all when it only held an apikey; what is no secret is shown."""
    made = make_setting(api, name=mark, allowedModels=["gpt-4o"])
    azure = make_setting(
        api, provider="azure", setting={"apikey": "sk-azure", "resourceName": "ours"}
    )

    assert "setting" not in made
    assert (made["name"], made["provider"], made["allowedModels"]) == (mark, "openai", ["gpt-4o"])
    assert made["id"]
    assert made["createdAt"] == made["updatedAt"] > 0
    assert azure["setting"] == {"resourceName": "ours"}
    assert azure["allowedModels"] == []


def test_27_an_empty_name_is_stored(api, mark):
    """A patch may take the name away."""
    path = f"{SETTINGS}/{make_setting(api, name=mark)['id']}"

    assert good(api.patch(path, json={"name": ""}))["name"] == ""
    assert good(api.get(SETTINGS, params={"ids": path.rpartition("/")[2]}))[0]["name"] == ""


def test_28_a_patched_setting_must_be_complete(api):
    """Every member that its provider requires."""
    made = make_setting(api, provider="azure", setting={"apikey": "k", "resourceName": "ours"})

    answer = api.patch(f"{SETTINGS}/{made['id']}", json={"setting": {"resourceName": "x"}})

    refused(
        answer,
        400,
        SETTING_INVALID,
        f"{SETTINGS}/:id",
        "provider azure is missing fields apikey",
    )


def test_29_setting_and_name_are_patched_together(api, mark):
    """What is given replaces, the rest stays."""
    made = make_setting(
        api, provider="azure", setting={"apikey": "k", "resourceName": "ours"}, name="before"
    )

    patched = good(
        api.patch(
            f"{SETTINGS}/{made['id']}",
            json={"setting": {"apikey": "k2", "resourceName": "theirs"}, "name": mark},
        )
    )

    assert (patched["name"], patched["setting"]) == (mark, {"resourceName": "theirs"})
    assert patched["createdAt"] == made["createdAt"]


def test_30_allowed_models_are_set_and_emptied(api):
    """An empty list is a list."""
    path = f"{SETTINGS}/{make_setting(api)['id']}"

    assert good(api.patch(path, json={"allowedModels": ["a", "b"]}))["allowedModels"] == ["a", "b"]
    assert good(api.patch(path, json={"name": "x"}))["allowedModels"] == ["a", "b"]
    assert good(api.patch(path, json={"allowedModels": []}))["allowedModels"] == []


def test_31_without_ids_every_setting_is_listed(api):
    """Where the original's code answers with none; secrets are left out."""
    made = make_setting(api)

    everything = good(api.get(SETTINGS))

    assert made in everything
    assert "sk-1" not in api.get(SETTINGS).text


def test_32_settings_come_in_the_order_of_the_ids(api):
    """Without their secrets. An unknown id is 404, where the original says 500."""
    first, second = make_setting(api), make_setting(api)
    asked = [second["id"], first["id"]]

    assert good(api.get(SETTINGS, params={"ids": asked})) == [second, first]
    assert "sk-1" not in api.get(SETTINGS, params={"ids": asked}).text
    refused(
        api.get(SETTINGS, params={"ids": [first["id"], "unknown"]}),
        404,
        ("/errors/provider-settings-manager", "provider setting is not found"),
        SETTINGS,
        "provider setting is not found for id: unknown",
    )


@pytest.mark.parametrize(
    ("provider", "missing"),
    [
        ("openai", {"apikey"}),
        ("anthropic", {"apikey"}),
        ("deepinfra", {"apikey"}),
        ("azure", {"apikey", "resourceName"}),
        ("vllm", {"url"}),
        ("bedrock", {"awsAccessKeyId", "awsSecretAccessKey", "awsRegion"}),
    ],
)
def test_33_required_members_of_a_setting_are_named(api, provider, missing):
    """Those that are missing or empty; with all of them the setting is made."""
    for setting in ({}, dict.fromkeys(missing, "")):
        answer = api.put(SETTINGS, json={"provider": provider, "setting": setting})
        told = answer.json()
        detail = str(told["detail"])
        assert set(detail.removeprefix(f"provider {provider} is missing fields ").split(",")) == (
            missing
        )
        refused(answer, 400, SETTING_INVALID, SETTINGS, detail)
    values = {name: "https://h.example" if name == "url" else "eu-west-1" for name in missing}
    made = good(api.put(SETTINGS, json={"provider": provider, "setting": values}))
    assert made["provider"] == provider
    for name in missing:
        answer = api.put(SETTINGS, json={"provider": provider, "setting": {**values, name: ""}})
        detail = f"provider {provider} is missing fields {name}"
        refused(answer, 400, SETTING_INVALID, SETTINGS, detail)


def test_34_a_provider_is_known_or_a_custom_one(api):
    """A custom provider's name is accepted once it is there, with the credential it wants."""
    name = f"acme-{uuid.uuid4().hex[:8]}"
    body = {"provider": name, "setting": {"apikey": "k"}}
    for sent, detail in (
        ({"setting": {"apikey": "k"}}, "provider field cannot be empty"),
        (body, f"provider {name} is not supported"),
    ):
        refused(api.put(SETTINGS, json=sent), 400, SETTING_INVALID, SETTINGS, detail)

    good(
        api.post(
            CUSTOM,
            json={
                "provider": name,
                "route_configs": [ROUTE_CONFIG],
                "authentication_param": "apikey",
            },
        )
    )

    made = good(api.put(SETTINGS, json=body))
    assert (made["provider"], "setting" in made) == (name, False)
    refused(
        api.put(SETTINGS, json={"provider": name, "setting": {}}),
        400,
        SETTING_INVALID,
        SETTINGS,
        f"provider {name} is missing value for field apikey",
    )


def test_35_an_unknown_setting_is_not_patched(api):
    """404."""
    refused(
        api.patch(f"{SETTINGS}/unknown", json={"name": "x"}),
        404,
        ("/errors/not-found", "provider setting is not found"),
        f"{SETTINGS}/:id",
        "provider setting is not found for id: unknown",
    )


def test_36_a_cost_map_comes_back_as_it_was_sent(api):
    """Digit for digit, and null when there is none."""
    content = (
        b'{"provider":"openai","setting":{"apikey":"k"},"costMap":{"promptCostPerModel":'
        b'{"my-model":0.00000030000000000000001}}}'
    )

    answer = api.put(SETTINGS, content=content)

    assert answer.status_code == 200
    assert b"0.00000030000000000000001" in answer.content
    assert good(answer)["costMap"]["promptCostPerModel"]["my-model"] == 3e-07
    assert make_setting(api)["costMap"] is None


def test_37_a_patched_setting_is_in_force_on_the_next_calls(api, data, provider):
    """No cache serves the old one."""
    made = make_setting(api, setting={"apikey": "k", "url": "http://127.0.0.1:9"})
    raw = uuid.uuid4().hex
    good(api.put(KEYS, json={"name": "k", "key": raw, "settingId": made["id"]}))

    def call() -> httpx.Response:
        return data.post(
            "/api/providers/openai/v1/chat/completions",
            headers={"authorization": f"Bearer {raw}"},
            json={"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]},
        )

    assert eventually(call, 502).status_code == 502
    good(api.patch(f"{SETTINGS}/{made['id']}", json={"setting": {"apikey": "k", "url": provider}}))
    assert eventually(call, 200).status_code == 200


# Custom providers


def make_custom(api: httpx.Client, name: str, **members: object) -> dict[str, Any]:
    body = {
        "provider": name,
        "route_configs": [ROUTE_CONFIG],
        "authentication_param": "apikey",
        **members,
    }
    return dict(good(api.post(CUSTOM, json=body)))


def test_38_a_created_custom_provider_echoes_every_field(api, mark):
    """With an id and times; its name and its parameter in lower case."""
    made = make_custom(api, f"{mark}-ACME", authentication_param="ApiKey")

    assert made["provider"] == f"{mark}-acme"
    assert made["authentication_param"] == "apikey"
    assert made["route_configs"] == [ROUTE_CONFIG]
    assert made["id"]
    assert made["created_at"] == made["updated_at"] > 0
    assert made in good(api.get(CUSTOM))


def test_39_the_same_again_under_a_name_that_is_free(api, mark):
    """Another name, or the same one after a deletion."""
    first = make_custom(api, mark)
    assert make_custom(api, f"{mark}-2")["route_configs"] == first["route_configs"]

    answer = api.delete(f"{CUSTOM}/{first['id']}")

    assert (answer.status_code, answer.content) == (200, b"")
    assert make_custom(api, mark)["id"] != first["id"]


def test_40_reserved_names_white_space_and_missing_fields_are_refused(api, mark):
    """With the original's messages, in its order."""
    for members, detail in (
        *(
            ({"provider": name}, "provider cannot be named openai or anthropic")
            for name in ("openai", "anthropic", "azure", "deepinfra", "vllm", "bedrock")
        ),
        ({"provider": "ac me"}, "provider cannot contain white space"),
        (
            {"route_configs": [ROUTE_CONFIG | {"path": "/a b"}]},
            "route configs path cannot contain white space",
        ),
        (
            {"route_configs": [ROUTE_CONFIG | {"path": "chat"}]},
            'route configs path must start with "/"',
        ),
        (
            {"authentication_param": "api key"},
            "authentication_param cannot contain white space",
        ),
        ({"provider": ""}, "empty fields in provider: provider"),
        ({"route_configs": []}, "empty fields in provider: route_configs"),
        (
            {"route_configs": [ROUTE_CONFIG | {"target_url": ""}]},
            "empty fields in provider: route_configs.[0].target_url",
        ),
        (
            {"route_configs": [{"path": "/chat", "stream_location": "stream"}]},
            "empty fields in provider: "
            + ",".join(
                f"route_configs.[0].{field}"
                for field in (
                    "stream_end_word",
                    "stream_response_completion_location",
                    "target_url",
                    "model_location",
                    "request_prompt_location",
                    "response_completion_location",
                )
            ),
        ),
    ):
        body = {"provider": mark, "route_configs": [ROUTE_CONFIG], **members}
        refused(api.post(CUSTOM, json=body), 400, CUSTOM_INVALID, "/api/providers", detail)


def test_41_a_custom_provider_has_a_name_of_its_own(api, mark):
    """In any case. 400, where the original says 500."""
    make_custom(api, mark)

    answer = api.post(CUSTOM, json={"provider": mark.upper(), "route_configs": [ROUTE_CONFIG]})

    refused(
        answer,
        400,
        ("/errors/custom-provider-manager", "creating a custom provider error"),
        "/api/providers",
        "provider must be unique",
    )


def test_42_route_configs_are_merged_by_path(api, mark):
    """Members that are not empty win, a new path comes last; an unknown provider is 404."""
    path = f"{CUSTOM}/{make_custom(api, mark)['id']}"
    added = ROUTE_CONFIG | {"path": "/complete", "stream_max_empty_messages": 0}

    patched = good(
        api.patch(
            path,
            json={"route_configs": [{"path": "/chat", "model_location": "engine"}, added]},
        )
    )

    assert patched["route_configs"] == [ROUTE_CONFIG | {"model_location": "engine"}, added]
    assert patched["authentication_param"] == "apikey"
    incomplete = api.patch(path, json={"route_configs": [{"path": "/new", "target_url": "x"}]})
    assert incomplete.status_code == 400
    refused(
        api.patch(f"{CUSTOM}/unknown", json={}),
        404,
        ("/errors/not-found", "custom provider is not found"),
        "/api/providers/:id",
        "custom provider is not found for id: unknown",
    )


# Routes


def route_body(mark: str, key_id: str, **members: object) -> dict[str, object]:
    return {
        "name": "a route",
        "path": f"/{mark}",
        "keyIds": [key_id],
        "steps": [STEP],
        "cacheConfig": {"enabled": False},
        **members,
    }


def test_43_the_defaults_of_a_route_are_filled_in(api, make_key, mark):
    """A step's timeout and interval, and how long answers are kept."""
    key_id = make_key()["keyId"]
    made = good(api.post(ROUTES, json=route_body(mark, key_id, cacheConfig={"enabled": True})))

    assert made["steps"] == [
        {
            "retries": 0,
            "retryInterval": "1s",
            "provider": "openai",
            "requestParams": None,
            "params": None,
            "model": "gpt-4o",
            "timeout": "5m",
        }
    ]
    assert made["cacheConfig"] == {"enabled": True, "ttl": "168h"}
    assert (made["retryStrategy"], made["requestFormat"]) == ("", "")
    assert (made["name"], made["path"], made["keyIds"]) == ("a route", f"/{mark}", [key_id])
    assert made["id"]
    assert made["createdAt"] == made["updatedAt"] > 0


def test_44_routes_that_cannot_be_are_refused(api, make_key, mark):
    """With the original's messages."""
    key_id = make_key()["keyId"]
    good(api.post(ROUTES, json=route_body(mark, key_id)))

    for members, detail in (
        ({"keyIds": ["unknown"]}, "specified key ids are not found"),
        ({"path": f"/{mark}"}, "path is not unique"),
        (
            {"cacheConfig": {"enabled": True, "ttl": "721h"}},
            "cacheConfig.ttl exceedes 30 days",
        ),
        ({"cacheConfig": None}, "invalid fields in route: cacheConfig"),
        (
            {"cacheConfig": {"enabled": True, "ttl": "2d"}},
            "invalid fields in route: cacheConfig.ttl",
        ),
        (
            {"name": "", "path": "", "keyIds": [], "steps": [], "retryStrategy": "never"},
            "invalid fields in route: name,path,keyIds,steps,retryStrategy",
        ),
        (
            {"steps": [STEP | {"retryInterval": "1m", "requestParams": {"n": "2"}}]},
            "invalid fields in route: steps.[0].retryInterval,steps.[0].requestParams.n",
        ),
    ):
        body = route_body(f"{mark}-other", key_id, **members)
        refused(api.post(ROUTES, json=body), 400, ROUTE_INVALID, ROUTES, detail)


def test_45_steps_must_go_together(api, make_key, mark):
    """400, where the original says 500. No list of models is built in: a new one is accepted."""
    key_id = make_key()["keyId"]
    for steps, detail in (
        ([STEP | {"provider": "nobody"}], None),
        (
            [STEP, STEP | {"model": "text-embedding-3-small"}],
            "steps must have congruent models."
            " Chat completion and embedding models cannot be in the same route config",
        ),
        (
            [STEP | {"provider": "deepinfra"}],
            "provider settings assosciated with the key cannot for accessing models"
            " specified in the route",
        ),
    ):
        answer = api.post(ROUTES, json=route_body(mark, key_id, steps=steps))
        expected = answer.json()["detail"] if detail is None else detail
        refused(answer, 400, ROUTE_REFUSED, ROUTES, expected)
    assert (
        good(api.post(ROUTES, json=route_body(mark, key_id, steps=[STEP | {"model": "gpt-99"}])))[
            "steps"
        ][0]["model"]
        == "gpt-99"
    )


def test_46_a_deleted_route_is_gone(api, data, make_key, mark, provider):
    """It serves no more; an unknown one is 404, a deletion is 200 with nothing in it."""
    setting = make_setting(api, setting={"apikey": "k", "url": provider})
    key_id = make_key(key=mark, settingId=setting["id"])["keyId"]
    made = good(api.post(ROUTES, json=route_body(mark, key_id)))
    path = f"{ROUTES}/{made['id']}"
    assert good(api.get(path)) == made
    assert made in good(api.get(ROUTES))

    def call() -> httpx.Response:
        return data.post(
            f"/api/routes/{mark}",
            headers={"x-api-key": mark},
            json={"messages": [{"role": "user", "content": "hi"}]},
        )

    assert eventually(call, 200).status_code == 200
    for one in (path, path, f"{ROUTES}/unknown"):
        answer = api.delete(one)
        assert (answer.status_code, answer.content) == (200, b"")

    for one in (path, f"{ROUTES}/unknown"):
        refused(
            api.get(one),
            404,
            ("/errors/route-not-found", "route not found error"),
            f"{ROUTES}/:id",
            f"route is not found for id: {one.rpartition('/')[2]}",
        )
    assert made not in good(api.get(ROUTES))
    gone = eventually(call, 404)
    assert (gone.status_code, gone.json()["error"]["message"]) == (404, "route not found")


# Policies and users


def test_47_policies_are_kept_and_found_by_tags(api, mark):
    """All three configurations; a regular expression must compile."""
    config = {"rules": {"email": "block", "ssn": "allow_but_redact"}}
    regex = {"rules": [{"definition": "AKIA[0-9A-Z]{16}", "action": "allow_but_redact"}]}
    custom = {"rules": [{"definition": "names of customers", "action": "block"}]}
    made = good(
        api.post(
            POLICIES,
            json={
                "name": "p",
                "tags": [mark, "b"],
                "config": config,
                "regexConfig": regex,
                "customConfig": custom,
            },
        )
    )
    assert (made["config"], made["regexConfig"], made["customConfig"]) == (config, regex, custom)
    assert (made["name"], made["tags"]) == ("p", [mark, "b"])
    assert made["id"]
    assert made["createdAt"] == made["updatedAt"] > 0

    changed = {"rules": [{"definition": "x+", "action": "allow_but_warn"}]}
    patched = good(
        api.patch(f"{POLICIES}/{made['id']}", json={"name": "q", "regexConfig": changed})
    )

    assert patched == made | {
        "name": "q",
        "regexConfig": changed,
        "updatedAt": patched["updatedAt"],
    }
    assert good(api.get(POLICIES, params={"tags": ["b", mark]})) == [patched]
    assert good(api.get(POLICIES, params={"tags": [mark, "c"]})) == []
    bare = good(api.post(POLICIES, json={"name": "bare"}))
    assert bare["config"] == bare["regexConfig"] == bare["customConfig"] == {"rules": None}
    broken = {
        "regexConfig": {"rules": [changed["rules"][0], {"definition": "(", "action": "block"}]}
    }
    detail = "policy is not valid: regex rule at index [1] cannot be compiled"
    refused(
        api.post(POLICIES, json=broken),
        400,
        ("/errors/policies/creation", "policy creation failed"),
        POLICIES,
        detail,
    )
    refused(
        api.patch(f"{POLICIES}/{made['id']}", json=broken),
        400,
        ("/errors/policie/updates", "update a policy failed"),
        POLICIES,
        detail,
    )
    untagged = api.get(POLICIES).json()
    assert (untagged["status"], untagged["type"]) == (400, "/errors/tags-empty")
    assert untagged["title"] == "query param tags is empty"
    unknown = api.patch(f"{POLICIES}/unknown", json={"name": "q"})
    assert unknown.status_code == 404
    assert unknown.json()["type"] == "/errors/policie/updates"


def test_48_users_are_created_once_for_their_tags(api, make_key, mark):
    """A user id is made when none is given, and unique among users with these tags."""
    key_id = make_key()["keyId"]
    sent = {
        "name": "Ada",
        "tags": [mark, "b"],
        "keyIds": [key_id],
        "allowedPaths": PATHS,
        "allowedModels": ["gpt-4o"],
        "costLimitInUsd": 2.5,
        "rateLimitOverTime": 3,
        "rateLimitUnit": "m",
        "ttl": "24h",
        "userId": f"ada-{mark}",
    }
    made = good(api.post(USERS, json=sent))
    assert {name: made[name] for name in sent} == sent
    assert (made["revoked"], made["revokedReason"]) == (False, "")
    generated = good(api.post(USERS, json={"name": "Eve", "tags": [mark]}))
    assert uuid.UUID(generated["userId"])

    again = api.post(USERS, json=sent | {"tags": [mark]})
    refused(again, 400, USER_INVALID, USERS, f"user id exists for tags: [{mark}]")
    elsewhere = good(api.post(USERS, json=sent | {"tags": [f"{mark}-2"]}))
    assert elsewhere["userId"] == made["userId"]
    for members, named, detail in (
        ({"name": ""}, USER_INVALID, "fields [name] are invalid"),
        (
            {"tags": [""], "keyIds": [""], "ttl": "2d", "allowedModels": [""]},
            USER_INVALID,
            "fields [tags, keyIds, ttl, allowedModels] are invalid",
        ),
        (
            {"rateLimitUnit": "m"},
            USER_INVALID,
            "rate limit over time can not be empty if rate limit unit is specified",
        ),
        (
            {"keyIds": ["unknown"]},
            ("/errors/user-manager", "user creation error"),
            "keys are not found",
        ),
    ):
        refused(api.post(USERS, json={"name": "Bob", **members}), 400, named, USERS, detail)


def test_49_users_are_patched_by_id_and_by_user_id_and_tags(api, mark):
    """Every one that matches; absent stays, an empty list clears."""
    first = good(api.post(USERS, json={"name": "A", "userId": mark, "tags": [f"{mark}-1", mark]}))
    second = good(api.post(USERS, json={"name": "B", "userId": mark, "tags": [f"{mark}-2", mark]}))

    patched = good(
        api.patch(
            f"{USERS}/{first['id']}",
            json={"revoked": True, "revokedReason": "left", "allowedModels": ["m"]},
        )
    )
    both = good(
        api.patch(
            USERS,
            params={"userId": mark, "tags": mark},
            json={"allowedModels": [], "allowedPaths": PATHS},
        )
    )

    assert (patched["revoked"], patched["revokedReason"]) == (True, "left")
    assert (patched["allowedModels"], patched["tags"]) == (["m"], first["tags"])
    assert both["id"] == first["id"]
    found = good(api.get(USERS, params={"tags": mark}))
    assert {user["id"] for user in found} == {first["id"], second["id"]}
    for user in found:
        assert (user["allowedModels"], user["allowedPaths"]) == ([], PATHS)
    refused(
        api.patch(USERS, json={"name": "x"}),
        400,
        ("/errors/missing-user-id", "missing user id"),
        USERS,
        "userId is required",
    )
    for answer, instance in (
        (api.patch(f"{USERS}/unknown", json={"name": "x"}), f"{USERS}/:id"),
        (api.patch(USERS, params={"userId": f"no-{mark}"}, json={"name": "x"}), USERS),
    ):
        assert answer.status_code == 404
        told = answer.json()
        assert (told["type"], told["title"]) == ("/errors/user-manager", "update user error")
        assert told["instance"] == instance


def test_50_users_are_found_by_tags_ids_and_keys(api, make_key, mark):
    """At least one of them; a limit and an offset are numbers."""
    key_id = make_key()["keyId"]
    made = [
        good(api.post(USERS, json={"name": "U", "tags": [mark], "userId": f"{mark}-{i}"}))
        for i in range(3)
    ]
    keyed = good(api.post(USERS, json={"name": "K", "keyIds": [key_id]}))

    def found(**asked: object) -> list[str]:
        return [user["id"] for user in good(api.get(USERS, params=asked))]

    ids = [user["id"] for user in made]
    assert set(found(tags=mark)) == set(ids)
    assert set(found(userIds=[f"{mark}-0", f"{mark}-2"])) == {ids[0], ids[2]}
    assert found(keyIds=key_id) == [keyed["id"]]
    assert found(tags=mark, limit=2, offset=1) == found(tags=mark)[1:]
    nothing = api.get(USERS).json()
    assert (nothing["status"], nothing["type"]) == (400, "/errors/missing-filteres")
    assert nothing["title"] == "filters are not found"
    for name in ("limit", "offset"):
        told = api.get(USERS, params={"tags": mark, name: "many"}).json()
        assert (told["status"], told["type"]) == (400, "/errors/bad-filters")
        assert told["title"] == f"bad {name} query param"
        assert told["instance"] == USERS
