"""Who changed what, when, from what to what, as it is asked for over 8001."""

import time
from collections.abc import Iterator

import httpx
import pytest
from support import loopback
from support.programs import Gateway

LOG = "/api/audit-log"


@pytest.fixture(scope="module")
def api(gateway: Gateway) -> Iterator[httpx.Client]:
    """A client of the admin API, and ten users changed by three writers."""
    with loopback.Client(base_url=gateway.admin_url) as client:
        for writer in ("one", "two"):
            token = client.post(
                "/api/admin-tokens", json={"name": writer, "scopes": ["write"]}
            ).json()["token"]
            for number in range(5):
                client.post(
                    "/api/users",
                    json={"name": f"{writer} {number}"},
                    headers={"authorization": f"Bearer {token}"},
                ).raise_for_status()
        yield client


def entries(api: httpx.Client, **params: object) -> list[dict[str, object]]:
    """One page."""
    answer = api.get(LOG, params=params)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["entries"])


def test_an_entry_says_who_when_and_from_what_to_what(api: httpx.Client) -> None:
    """Created from nothing, updated from one to the other, deleted to nothing."""
    began_ms = time.time_ns() // 1_000_000
    user = api.post("/api/users", json={"name": "before"}).json()
    api.patch(f"/api/users/{user['id']}", json={"name": "after"}).raise_for_status()
    api.delete(f"/api/users/{user['id']}").raise_for_status()
    ended_ms = time.time_ns() // 1_000_000

    deleted, updated, created = entries(api, itemId=user["id"])

    assert [one["action"] for one in (created, updated, deleted)] == ["create", "update", "delete"]
    assert (created["before"], created["after"]["name"]) == (None, "before")
    assert (updated["before"]["name"], updated["after"]["name"]) == ("before", "after")
    assert (deleted["before"]["name"], deleted["after"]) == ("after", None)
    assert created["revision"] < updated["revision"] < deleted["revision"]
    for one in (created, updated, deleted):
        assert (one["actor"], one["kind"]) == ("anonymous", "user")
        assert began_ms <= one["atMs"] <= ended_ms
        assert one["at"] == one["atMs"] // 1000


CUSTOM_PROVIDER = {
    "provider": "logged",
    "route_configs": [
        {
            "path": "/chat",
            "target_url": "https://api.logged.example/chat",
            "model_location": "model",
            "request_prompt_location": "prompt",
            "response_completion_location": "text",
        }
    ],
}


@pytest.mark.parametrize(
    ("path", "kind", "body", "changed"),
    [
        (
            "/api/custom/providers",
            "custom_provider",
            CUSTOM_PROVIDER,
            {"authentication_param": "k"},
        ),
        ("/api/model-aliases", "model_alias", {"alias": "a", "model": "m"}, {"model": "n"}),
        ("/api/policies", "policy", {"name": "p", "tags": ["t"]}, {"name": "q"}),
        ("/api/routes", "route", {"name": "r", "path": "/logged"}, {"name": "s"}),
        ("/api/users", "user", {"name": "u"}, {"name": "v"}),
        ("/api/provider-settings", "provider_setting", {"provider": "ollama"}, {"name": "w"}),
    ],
)
def test_every_write_of_a_resource_is_an_entry(
    api: httpx.Client,
    gateway: Gateway,
    provider: str,
    path: str,
    kind: str,
    body: dict,
    changed: dict,
) -> None:
    """Creating, changing and deleting, each with the document that the writer was answered."""
    if kind == "route":
        step = {"provider": "openai", "model": "m"}
        key = gateway.key("sk-logged-0123456789", gateway.setting(provider))
        body |= {"keyIds": [key["keyId"]], "steps": [step], "cacheConfig": {"enabled": False}}
    if kind == "policy":
        body |= {"config": {"rules": {"email": "block"}}}
    made = api.post(path, json=body)
    assert made.status_code == 200, made.text
    item_id = made.json()["id"]
    api.patch(f"{path}/{item_id}", json=changed).raise_for_status()
    api.delete(f"{path}/{item_id}").raise_for_status()

    deleted, updated, created = entries(api, itemId=item_id)

    assert [one["action"] for one in (created, updated, deleted)] == ["create", "update", "delete"]
    assert {one["kind"] for one in (created, updated, deleted)} == {kind}
    ((member, value),) = changed.items()
    assert updated["before"] == created["after"] != updated["after"]
    assert (updated["after"][member], deleted["before"]) == (value, updated["after"])


def test_a_write_that_changes_several_things_is_an_entry_for_each(
    api: httpx.Client, gateway: Gateway, provider: str
) -> None:
    """Users changed by tags, and keys that lose what is deleted by force, in one revision."""
    ids = [
        api.post("/api/users", json={"name": "n", "userId": "same", "tags": [tag, "all"]}).json()[
            "id"
        ]
        for tag in ("x", "y")
    ]
    api.patch(
        "/api/users", params={"userId": "same", "tags": "all"}, json={"revoked": True}
    ).raise_for_status()
    policy = {"name": "p", "tags": ["t"], "config": {"rules": {"email": "block"}}}
    policy_id = api.post("/api/policies", json=policy).json()["id"]
    setting = gateway.setting(provider)
    key_id = gateway.key("sk-policed-0123456789", setting, policyId=policy_id)["keyId"]
    api.delete(f"/api/policies/{policy_id}", params={"force": "true"}).raise_for_status()

    users = [entries(api, itemId=item_id)[0] for item_id in ids]
    gone = [entries(api, itemId=item_id)[0] for item_id in (policy_id, key_id)]

    assert [one["after"]["revoked"] for one in users] == [True, True]
    assert [one["action"] for one in gone] == ["delete", "update"]
    assert gone[1]["before"]["policy_id"] == policy_id
    assert "policy_id" not in gone[1]["after"]
    for pair in (users, gone):
        assert pair[0]["revision"] == pair[1]["revision"]


def test_a_write_that_is_refused_leaves_nothing(api: httpx.Client) -> None:
    """The log and the configuration are one transaction."""
    newest = entries(api, limit=1)[0]["id"]

    assert api.post("/api/users", json={"name": ""}).status_code == 400
    assert api.patch("/api/users/none", json={"name": "x"}).status_code == 404

    assert entries(api, limit=1)[0]["id"] == newest


def test_entries_are_found_by_actor_kind_and_time(api: httpx.Client) -> None:
    """Every filter that is given must hold."""
    by_one = entries(api, actor="token:one")
    users = entries(api, actor="token:one", kind="user")
    tokens = entries(api, kind="admin_token")

    assert {one["actor"] for one in by_one} == {"token:one"}
    assert [one["after"]["name"] for one in users] == [f"one {n}" for n in (4, 3, 2, 1, 0)]
    assert {one["kind"] for one in tokens} == {"admin_token"}
    at = users[0]["at"]
    assert users[0] in entries(api, start=at, end=at + 1)
    assert users[0] not in entries(api, end=at)
    assert users[0] not in entries(api, start=at + 1)
    assert entries(api, actor="token:three") == []


def test_pages_follow_each_other_without_gap_or_overlap(api: httpx.Client) -> None:
    """Whatever the size of a page, all of them are the whole; `next` is null at the end."""
    whole = entries(api, kind="user", limit=1000)

    for limit in (1, 3, len(whole) - 1, len(whole), len(whole) + 1):
        pages, before = [], None
        while True:
            params = {"kind": "user", "limit": limit, **({"before": before} if before else {})}
            page = api.get(LOG, params=params).json()
            pages += page["entries"]
            assert len(page["entries"]) <= limit
            before = page["next"]
            if before is None:
                break
        assert pages == whole


def test_a_page_stays_where_it_is_while_more_is_written(api: httpx.Client) -> None:
    """A cursor is a place in the log, not a count from its end."""
    first = api.get(LOG, params={"limit": 2}).json()
    expected = api.get(LOG, params={"limit": 2, "before": first["next"]}).json()

    api.post("/api/users", json={"name": "meanwhile"}).raise_for_status()

    assert api.get(LOG, params={"limit": 2, "before": first["next"]}).json() == expected


def test_secrets_are_masked_and_their_change_is_seen(api: httpx.Client, provider: str) -> None:
    """A provider's secret is nowhere in the log; another secret has another mark."""
    setting = api.put(
        "/api/provider-settings",
        json={"provider": "openai", "setting": {"apikey": "sk-first-secret", "url": provider}},
    ).json()
    api.patch(
        f"/api/provider-settings/{setting['id']}",
        json={"setting": {"apikey": "sk-second-secret", "url": provider}},
    ).raise_for_status()

    answer = api.get(LOG, params={"itemId": setting["id"]})

    updated = answer.json()["entries"][0]
    assert "secret" not in answer.text
    assert updated["before"]["sealed"].startswith("*** ")
    assert updated["after"]["sealed"].startswith("*** ")
    assert updated["before"]["sealed"] != updated["after"]["sealed"]


@pytest.mark.parametrize(
    ("params", "detail"),
    [
        ({"limit": "x"}, "limit must be a whole number from 0 to 1000"),
        ({"limit": "1001"}, "limit must be a whole number from 0 to 1000"),
        ({"limit": "-1"}, "limit must be a whole number from 0 to 1000"),
        ({"limit": "١"}, "limit must be a whole number from 0 to 1000"),
        (
            {"before": "99999999999999999999"},
            f"before must be a whole number from 0 to {2**63 - 1}",
        ),
        ({"start": "1e3"}, "start must be a whole number from 0 to 253402300799"),
        ({"start": "5", "end": "5"}, "start 5 cannot be larger than end 5"),
        ({"actor": "a\0"}, "NUL is not allowed"),
    ],
)
def test_a_question_that_makes_no_sense_is_400(
    api: httpx.Client, params: dict[str, str], detail: str
) -> None:
    """With the reason, in the admin's shape."""
    answer = api.get(LOG, params=params)

    assert (answer.status_code, answer.json()["detail"]) == (400, detail)
    assert answer.json()["instance"] == LOG


def test_an_unknown_kind_is_told_the_known_ones(api: httpx.Client) -> None:
    """A mistyped kind would look like an empty log."""
    answer = api.get(LOG, params={"kind": "keys"})

    assert answer.status_code == 400
    assert "key, model_alias" in answer.json()["detail"]
