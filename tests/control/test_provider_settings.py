"""Provider settings as operators manage them over 8001."""

import json
import time

import httpx
import pytest
from support import loopback
from support.programs import Gateway

PATH = "/api/provider-settings"
SECRET = "sk-upstream-0123456789"
FIELDS = ["createdAt", "updatedAt", "provider", "id", "name", "allowedModels", "costMap"]


@pytest.fixture(scope="module")
def api(gateway: Gateway):
    """A client of the admin API."""
    with loopback.Client(base_url=gateway.admin_url) as client:
        yield client


def create(api: httpx.Client, **members: object) -> dict[str, object]:
    body = {"provider": "openai", "setting": {"apikey": SECRET}, **members}
    answer = api.put(PATH, json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def problem(answer: httpx.Response) -> tuple[object, ...]:
    told = answer.json()
    assert list(told) == ["type", "title", "status", "detail", "instance"]
    assert told["status"] == answer.status_code
    return told["status"], told["type"], told["title"], told["detail"], told["instance"]


def refused(detail: str, instance: str = PATH) -> tuple[object, ...]:
    title = "provider setting validation failed"
    return 400, "/errors/validation", title, detail, instance


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_new_setting_has_every_field_and_no_secret(api, method):
    """`setting` is left out when a credential is all that is in it."""
    answer = api.request(
        method,
        PATH,
        json={
            "provider": "openai",
            "setting": {"apikey": SECRET},
            "name": "one",
            "allowedModels": ["m"],
        },
    )

    assert answer.status_code == 200
    made = answer.json()
    assert sorted(made) == sorted(FIELDS)
    assert made["name"] == "one"
    assert made["provider"] == "openai"
    assert made["allowedModels"] == ["m"]
    assert made["costMap"] is None
    assert made["createdAt"] == made["updatedAt"] > 1_700_000_000
    assert SECRET not in answer.text


def test_what_is_ours_is_shown_where_it_was_set(api):
    """Weight, priority, usage on streams; a cost map digit for digit."""
    cost_map = '{"promptCostPerModel": {"m": 0.10}, "completionCostPerModel": {"m": 2e-3}}'
    answer = api.put(
        PATH,
        content='{"provider":"openai","setting":{"apikey":"k","url":"https://api.example.com/v1"},'
        f'"weight":3,"priority":2,"usageOnStreams":"never","costMap":{cost_map}}}',
    )

    made = answer.json()
    assert (made["weight"], made["priority"], made["usageOnStreams"]) == (3, 2, "never")
    assert made["setting"] == {"url": "https://api.example.com/v1"}
    assert cost_map in answer.text
    assert cost_map in api.get(PATH, params={"ids": made["id"]}).text


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "provider field cannot be empty"),
        ({"provider": "nobody"}, "provider nobody is not supported"),
        ({"provider": "openai"}, "provider openai is missing fields apikey"),
        ({"provider": "anthropic", "setting": {}}, "provider anthropic is missing fields apikey"),
        ({"provider": "deepinfra"}, "provider deepinfra is missing fields apikey"),
        ({"provider": "vllm", "setting": {"apikey": "k"}}, "provider vllm is missing fields url"),
        ({"provider": "openai", "setting": {"apikey": ""}}, "provider openai is missing fields apikey"),
        ({"setting": {"apikey": "two\nlines"}}, "setting.apikey must be printable ASCII"),
        ({"setting": {"apikey": "k", "other": "k\u20ac"}}, "setting.other must be ASCII"),
        ({"name": "a\0b"}, "name must not hold NUL"),
        ({"allowedModels": ["\0"]}, "allowedModels must not hold NUL"),
        ({"setting": {"apikey": "k", "a\0": "b"}}, "setting must not hold NUL"),
        ({"setting": {"apikey": "k", "x": "y" * 65_536}}, "setting is over the limit of 65536 bytes"),
        ({"name": "x" * 65_537}, "name is over the limit of 65536 bytes"),
        ({"usageOnStreams": "maybe"}, "usageOnStreams must be ask or never"),
        ({"weight": 0}, "weight must be from 1 to 1000000"),
        ({"priority": -1}, "priority must be from 0 to 1000000"),
        ({"costMap": {"promptCostPerModel": {"m": -1}}},
         "costMap: the price of m must be a non-negative number"),
        ({"costMap": {"promptCostPerModel": {"m": 10**10}}},
         "costMap: the price of m is no amount of money"),
        ({"costMap": {"promptCost": {"m": 1}}},
         "costMap: promptCost is no member of a cost map"),
        ({"setting": {"apikey": "k", "url": "ftp://h"}},
         "setting.url: the URL must begin with http:// or https://"),
        ({"setting": {"apikey": "k", "url": "http://user:hunter2@h"}},
         "setting.url: the URL must not hold credentials"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_words(api, body, detail):
    """In the shape of every admin error, with the original's sentences; URLs are not echoed."""
    whole = (
        {"provider": "openai", "setting": {"apikey": "k"}, **body}
        if "provider" not in body
        else body
    )
    answer = api.put(PATH, json=whole if body else {})

    assert problem(answer) == refused(detail)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"setting": {"apikey": "k", "costMap": {"promptCostPerModel": {"m": 1}}}},
         "costMap belongs beside setting, not in it"),
        ({"setting": {"apikey": "k", "usageOnStreams": "never"}},
         "usageOnStreams belongs beside setting, not in it"),
        ({"Setting": {"apikey": "k", "allowed_models": "m"}},
         "allowedModels belongs beside setting, not in it"),
        ({"setting": {"apikey": "k", "weight": "2"}}, "weight belongs beside setting, not in it"),
        ({"setting": {"apikey": "k"}, "url": "http://h"}, "url belongs in setting, not beside it"),
        ({"apikey": "k"}, "apikey belongs in setting, not beside it"),
    ],
)  # fmt: skip
def test_a_member_in_the_wrong_place_is_told_where_it_belongs(api, body, detail):
    """On creating and on changing: a price or an address must not be lost without a word."""
    new = api.put(PATH, json={"provider": "openai"} | body)
    made = create(api)
    changed = api.patch(f"{PATH}/{made['id']}", json=body)

    assert (new.status_code, new.json()["detail"]) == (400, detail)
    assert (changed.status_code, changed.json()["detail"]) == (400, detail)
    [kept] = api.get(PATH, params={"ids": made["id"]}).json()
    assert kept == made


def test_azure_needs_a_name_that_can_be_part_of_a_host(api):
    """The resource's name must not lead elsewhere."""
    answer = api.put(PATH, json={"provider": "azure", "setting": {}})
    assert {"apikey", "resourceName"} == set(
        answer.json()["detail"].removeprefix("provider azure is missing fields ").split(",")
    )
    for name in ("evil.example/", "a.b", "-a", "a" * 64, "a@b"):
        answer = api.put(
            PATH, json={"provider": "azure", "setting": {"apikey": "k", "resourceName": name}}
        )
        assert problem(answer) == refused(
            "setting.resourceName must be letters, digits and hyphens"
        )
    made = create(api, provider="azure", setting={"apikey": "k", "resourceName": "my-resource-1"})
    assert made["setting"] == {"resourceName": "my-resource-1"}


def test_settings_of_bedrock_are_kept_as_all_others_are(api, gateway):
    """Its key's name and secret are sealed, its region is shown; it is patched, used and deleted."""
    aws = {"awsAccessKeyId": "AKIA0123456789", "awsSecretAccessKey": "s3/cret+0123456789"}
    region = {"awsRegion": "eu-central-1"}
    for name in ("evil.example/", "a.b"):
        answer = api.put(PATH, json={"provider": "bedrock", "setting": {**aws, "awsRegion": name}})
        assert problem(answer) == refused("setting.awsRegion must be letters, digits and hyphens")
    made = create(api, provider="bedrock", setting={**aws, **region}, name="aws")
    path = f"{PATH}/{made['id']}"
    assert (made["name"], made["setting"]) == ("aws", region)

    answer = api.patch(path, json={"setting": {"awsRegion": "us-east-1"}})
    assert problem(answer) == refused(
        "provider bedrock is missing fields awsAccessKeyId,awsSecretAccessKey", f"{PATH}/:id"
    )
    moved = {**aws, "awsSecretAccessKey": "another-secret", "awsRegion": "us-east-1"}
    patched = api.patch(path, json={"setting": moved, "allowedModels": ["m"]})
    assert patched.json()["setting"] == {"awsRegion": "us-east-1"}
    assert api.patch(path, json={"name": "moved"}).json()["name"] == "moved"
    (listed,) = api.get(PATH, params={"ids": made["id"]}).json()
    assert (listed["provider"], listed["allowedModels"]) == ("bedrock", ["m"])
    key = gateway.key("sk-of-bedrock-0123456789", made["id"])
    keys = api.get("/api/key-management/keys", params={"provider": "bedrock"}).json()
    assert [one["keyId"] for one in keys] == [key["keyId"]]
    assert api.delete(path).status_code == 400
    assert api.delete(path, params={"force": "true"}).status_code == 200

    log = api.get("/api/audit-log", params={"itemId": made["id"]})
    assert len(log.json()["entries"]) == 4
    for text in (api.get(PATH).text, log.text, gateway.log.read_text()):
        assert not any(secret in text for secret in (*aws.values(), "another-secret"))


def test_a_custom_provider_is_a_provider_that_needs_its_own_credential(api):
    """By its name in any case; nothing of its setting is shown, whatever the credential's name."""
    answer = api.post(
        "/api/custom/providers",
        json={
            "provider": "acme",
            "route_configs": [
                {
                    "path": "/chat",
                    "target_url": "https://api.acme.example/chat",
                    "model_location": "model",
                    "request_prompt_location": "prompt",
                    "response_completion_location": "text",
                }
            ],
            "authentication_param": "location",
        },
    )
    assert answer.status_code == 200, answer.text

    answer = api.put(PATH, json={"provider": "acme", "setting": {"apikey": "k"}})
    assert problem(answer) == refused("provider acme is missing value for field location")
    made = create(api, provider="ACME", setting={"location": "s3cret", "url": "https://h.example"})
    assert made["provider"] == "acme"
    assert "setting" not in made
    answer = api.patch(f"{PATH}/{made['id']}", json={"setting": {"other": "x"}})
    assert answer.json()["detail"] == "provider acme is missing value for field location"


def test_a_patch_changes_what_it_holds_and_keeps_the_rest(api):
    """ "" clears a name, [] the models; null is absent."""
    made = create(api, name="before", allowedModels=["a"], costMap={"promptCostPerModel": {"a": 1}})
    path = f"{PATH}/{made['id']}"

    patched = api.patch(path, json={"allowedModels": ["b"], "name": None}).json()
    assert (patched["name"], patched["allowedModels"]) == ("before", ["b"])
    assert patched["costMap"] == {"promptCostPerModel": {"a": 1}}
    assert patched["createdAt"] == made["createdAt"]
    patched = api.patch(path, json={"name": "", "allowedModels": []}).json()
    assert (patched["name"], patched["allowedModels"]) == ("", [])
    patched = api.patch(path, json={"costMap": {}, "weight": 7}).json()
    assert (patched["costMap"], patched["weight"]) == ({}, 7)
    assert api.patch(path, json={}).json()["weight"] == 7


def test_a_patched_setting_is_merged_and_holds_what_is_required(api):
    """The patch alone must be enough to call with; an empty text removes what is optional."""
    made = create(api, setting={"apikey": "k", "url": "https://a.example", "organization": "o"})
    path = f"{PATH}/{made['id']}"

    answer = api.patch(path, json={"setting": {"url": "https://b.example"}})
    assert problem(answer) == refused("provider openai is missing fields apikey", f"{PATH}/:id")
    patched = api.patch(path, json={"setting": {"apikey": "k2", "url": "https://b.example"}})
    assert patched.json()["setting"] == {"url": "https://b.example", "organization": "o"}
    patched = api.patch(path, json={"setting": {"apikey": "k2", "url": ""}})
    assert patched.json()["setting"] == {"organization": "o"}


def test_unknown_ids_are_404(api):
    """Whatever the id; a list with one unknown id is not half a list."""
    instance = f"{PATH}/:id"
    title = "provider setting is not found"
    for text in ("nobody", "%00", "a%27b"):
        assert problem(api.patch(f"{PATH}/{text}", json={"name": "x"}))[:3] == (
            404,
            "/errors/not-found",
            title,
        )
        answer = api.delete(f"{PATH}/{text}")
        assert (answer.status_code, answer.json()["instance"]) == (404, instance)
    made = create(api)
    answer = api.get(PATH, params={"ids": [made["id"], "nobody"]})
    assert problem(answer)[:3] == (404, "/errors/provider-settings-manager", title)


def test_settings_are_listed_in_the_order_of_their_ids_or_all(api):
    """No id asks for every setting."""
    made = [create(api)["id"] for _ in range(3)]
    asked = [made[2], made[0]]

    assert [one["id"] for one in api.get(PATH, params={"ids": asked}).json()] == asked
    assert set(made) <= {one["id"] for one in api.get(PATH).json()}


def test_a_setting_in_use_is_deleted_only_by_force(api, gateway):
    """Then it leaves the keys and aliases that named it, in the same change."""
    kept, gone = create(api)["id"], create(api)["id"]
    both = gateway.key("sk-both-0123456789", kept, settingIds=[gone, kept])
    alias = api.post("/api/model-aliases", json={"alias": "d1", "model": "m", "settingId": gone})

    answer = api.delete(f"{PATH}/{gone}")
    assert problem(answer) == refused(
        "1 keys and 1 model aliases use the provider setting;"
        " take it from them first or add force=true",
        f"{PATH}/:id",
    )
    assert api.delete(f"{PATH}/{gone}", params={"force": "true"}).status_code == 200
    key = api.get("/api/key-management/keys", params={"keyIds": both["keyId"]}).json()[0]
    assert key["settingIds"] == [kept]
    assert api.get(f"/api/model-aliases/{alias.json()['id']}").json()["settingId"] == ""
    assert api.delete(f"{PATH}/{gone}").status_code == 404


@pytest.mark.parametrize(
    "text",
    [
        "",
        "it's; DROP TABLE x --",
        '"',
        "{}",
        "a,b",
        "\\",
        "%s $1 :id",
        "\u2028\U0001f9ed",
        "\ufffd\u0007",
        "\U0001f9ed" * 10_000,
    ],
    ids=range(10),
)
def test_any_text_comes_back_as_it_was(api, text):
    """In a name and in the models."""
    made = create(api, name=text, allowedModels=[text, "m"])
    found = api.get(PATH, params={"ids": made["id"]}).json()[0]

    assert (found["name"], found["allowedModels"]) == (text, [text, "m"])


def test_a_lone_surrogate_is_no_text(api):
    """It cannot be stored."""
    answer = api.put(
        PATH, content=b'{"provider":"openai","name":"\\ud800","setting":{"apikey":"k"}}'
    )
    assert answer.status_code == 400


def test_a_patch_is_in_force_within_a_second(api, gateway, provider):
    """Of the models here: the next call is judged by the patched setting."""
    made = gateway.setting(provider)
    key = "sk-patched-0123456789"
    gateway.key(key, made)

    def ask() -> int:
        return loopback.post(
            f"{gateway.proxy_url}/v1/chat/completions",
            headers={"authorization": f"Bearer {key}"},
            json={"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]},
        ).status_code

    assert ask() == 200
    api.patch(f"{PATH}/{made}", json={"allowedModels": ["gpt-4o-mini"]})
    deadline = time.monotonic() + 60
    while ask() == 200 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert ask() == 403
    api.patch(f"{PATH}/{made}", json={"allowedModels": []})
    while ask() == 403 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert ask() == 200


def test_concurrent_patches_lose_nothing(api):
    """Each changes another member, some of them secrets that are merged."""
    made = create(api, provider="vllm", setting={"url": "https://h.example"})
    path = f"{PATH}/{made['id']}"
    bodies = [
        {"name": "n"},
        {"weight": 9},
        {"priority": 8},
        {"allowedModels": ["m"]},
        {"setting": {"url": "https://h.example", "apikey": "k"}},
        {"setting": {"url": "https://h.example", "region": "r"}},
        {"setting": {"url": "https://h.example", "project": "p"}},
    ]
    import concurrent.futures

    with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
        answers = list(
            pool.map(lambda body: loopback.patch(f"{api.base_url}{path}", json=body), bodies)
        )

    assert [answer.status_code for answer in answers] == [200] * len(bodies)
    found = api.get(PATH, params={"ids": made["id"]}).json()[0]
    assert (found["name"], found["weight"], found["priority"]) == ("n", 9, 8)
    assert found["allowedModels"] == ["m"]
    assert found["setting"] == {"url": "https://h.example", "region": "r", "project": "p"}


def test_no_answer_log_or_audit_entry_holds_a_secret(api, gateway):
    """Also not of what was refused."""
    made = create(api)
    api.patch(f"{PATH}/{made['id']}", json={"setting": {"apikey": SECRET + "2"}})
    api.put(PATH, json={"provider": "openai", "setting": {"apikey": SECRET, "url": "ftp://x"}})
    api.put(PATH, json={"provider": "openai", "setting": {"apikey": SECRET, "weight": 3}})

    texts = [
        api.get(PATH).text,
        api.get("/api/audit-log").text,
        gateway.log.read_text(),
    ]
    for text in texts:
        assert SECRET not in text
    entries = api.get("/api/audit-log", params={"itemId": made["id"]}).json()
    assert json.dumps(entries).count("*** ") >= 3


@pytest.fixture(scope="module")
def token(api: httpx.Client) -> dict[str, str]:
    """Headers of a token that may write."""
    made = api.post("/api/admin-tokens", json={"name": "deployer", "scopes": ["write"]})
    assert made.status_code == 200, made.text
    return {"authorization": f"Bearer {made.json()['token']}"}


@pytest.mark.parametrize("provider", ["vllm", "ollama"])
def test_a_stored_secret_does_not_follow_a_token_to_another_host(api, token, provider):
    """Where the credential is optional it comes with the new address; the password need not."""
    url = "https://a.example/v1"
    made = create(api, provider=provider, setting={"url": url, "apikey": SECRET})
    path = f"{PATH}/{made['id']}"

    def patch(headers: dict[str, str], **setting: str) -> httpx.Response:
        return api.patch(path, json={"setting": setting}, headers=headers)

    for moved in ("https://b.example/v1", "http://a.example/v1", "https://a.example:8443/v1"):
        answer = patch(token, url=moved)
        assert problem(answer) == refused(
            "setting.url leads to another host: send setting.apikey with it again,"
            " an admin token cannot send what is stored there",
            f"{PATH}/:id",
        )
    assert patch(token, url="https://a.example/v2", region="r").status_code == 200
    assert patch(token, url="https://b.example", apikey="another").status_code == 200
    assert patch({}, url="https://c.example").json()["setting"]["url"] == "https://c.example"
    assert patch(token, url="https://d.example", apikey="").status_code == 200
    assert patch(token, url="https://e.example").status_code == 200, "there is no secret any more"


def test_nor_does_it_by_way_of_a_custom_provider(api, token):
    """Neither by a changed path, nor by a new one, nor by a provider made again under its name."""
    custom = "/api/custom/providers"

    def config(path: str, host: str) -> dict[str, str]:
        return {
            "path": path,
            "target_url": f"https://{host}/chat",
            "model_location": "model",
            "request_prompt_location": "prompt",
            "response_completion_location": "text",
        }

    body = {"provider": "hosted", "authentication_param": "apikey"}
    body["route_configs"] = [config("/chat", "a.example")]
    made = api.post(custom, json=body, headers=token).json()
    one = f"{custom}/{made['id']}"

    def patch(headers: dict[str, str], *configs: dict[str, str]) -> int:
        return api.patch(one, json={"route_configs": configs}, headers=headers).status_code

    assert patch(token, config("/chat", "b.example")) == 200, "no setting holds a secret yet"
    setting = create(api, provider="hosted", setting={"apikey": SECRET})
    assert patch(token, config("/chat", "c.example")) == 400
    assert patch(token, config("/new", "c.example")) == 400
    assert patch(token, config("/new", "b.example")) == 200
    assert patch({}, config("/new", "c.example")) == 200
    assert patch(token, config("/chat", "c.example")) == 200

    answer = api.delete(one, params={"force": "true"}, headers=token)
    assert answer.status_code == 200
    again = api.post(custom, json=body, headers=token)
    assert problem(again) == (
        400,
        "/errors/validation",
        "custom provider validation failed",
        "https://a.example/chat is on another host, and 1 provider settings hold secrets for"
        " provider hosted: an admin token cannot send them there",
        "/api/providers",
    )
    assert "hosted" not in {one["provider"] for one in api.get(custom).json()}
    assert api.delete(f"{PATH}/{setting['id']}").status_code == 200
    assert api.post(custom, json=body, headers=token).status_code == 200
