"""Policies as operators manage them over 8001."""

from typing import Any

import httpx
import pytest
from support import loopback
from support.programs import Gateway

from gateway.administration.policies import PATTERN_BYTES_MAX, RULES_MAX
from runtime.linear_regex import BadPattern, compile_pattern

PATH = "/api/policies"
FIELDS = [
    "id",
    "name",
    "createdAt",
    "updatedAt",
    "tags",
    "config",
    "regexConfig",
    "customConfig",
]
UNSET = {"rules": None}


@pytest.fixture(scope="module")
def api(gateway: Gateway):
    """A client of the admin API."""
    with loopback.Client(base_url=gateway.admin_url) as client:
        yield client


@pytest.fixture
def tag(request: pytest.FixtureRequest) -> str:
    """A tag of the test's own."""
    return request.node.name


def create(api: httpx.Client, **members: object) -> dict[str, object]:
    answer = api.post(PATH, json=members)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def problem(answer: httpx.Response) -> tuple[object, ...]:
    told = answer.json()
    assert list(told) == ["type", "title", "status", "detail", "instance"]
    assert told["status"] == answer.status_code
    return tuple(told.values())


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_created_policy_is_shown_with_every_field(api, tag, method):
    """Nothing that was sent is lost."""
    sent = {
        "name": "quotes \"'{}, 😀" * 700,
        "tags": [tag, "a, b", "{c}"],
        "config": {"rules": {"address": "block", "email": "allow_but_redact", "ssn": "allow"}},
        "regexConfig": {
            "rules": [
                {"definition": r"[2-9]|[12]\d|3[0-6]", "action": "block"},
                {"definition": "é\"'{2,3}", "action": "allow_but_warn"},
            ]
        },
        "customConfig": {"rules": [{"definition": "x" * 10_000, "action": "block"}]},
    }

    answer = api.request(method, PATH, json=sent)

    shown = answer.json()
    assert answer.status_code == 200, answer.text
    assert list(shown) == FIELDS
    assert {name: shown[name] for name in sent} == sent
    assert api.get(f"{PATH}/{shown['id']}").json() == shown
    assert api.get(PATH, params={"tags": tag}).json() == [shown]


def test_what_was_never_given_has_no_rules(api, tag):
    """In the original's shape."""
    shown = create(api)

    assert list(shown) == FIELDS
    assert (shown["name"], shown["tags"]) == ("", None)
    assert shown["config"] == shown["regexConfig"] == shown["customConfig"] == UNSET


def test_configurations_may_be_sent_in_snake_case(api, tag):
    """As the README writes them; they are shown in camel case."""
    rules = {"rules": [{"definition": "a", "action": "block"}]}

    shown = create(api, regex_config=rules, custom_config=rules)

    assert shown["regexConfig"] == shown["customConfig"] == rules


def test_policies_are_found_by_all_of_the_tags_asked_for(api, tag):
    """Without tags the question is refused."""
    both = create(api, tags=[tag, f"{tag}-2"])
    one = create(api, tags=[tag])

    def found(*tags: str) -> list[object]:
        return list(api.get(PATH, params=[("tags", text) for text in tags]).json())

    assert found(tag) == [both, one]
    assert found(tag, f"{tag}-2") == [both]
    assert found(tag, "no-such") == []
    assert found("\0") == []
    assert problem(api.get(PATH)) == (
        "/errors/tags-empty",
        "query param tags is empty",
        400,
        "query param tags is empty",
        PATH,
    )


def test_a_patch_keeps_what_is_absent_and_replaces_configurations_whole(api, tag):
    """An empty one takes the rules away."""
    created = create(
        api,
        name="old",
        tags=[tag],
        config={"rules": {"email": "block"}},
        regexConfig={"rules": [{"definition": "a", "action": "block"}]},
    )
    where = f"{PATH}/{created['id']}"

    changed = api.patch(where, json={"name": "", "config": {"rules": {"ssn": "allow"}}}).json()

    assert changed == created | {
        "name": "",
        "config": {"rules": {"ssn": "allow"}},
        "updatedAt": changed["updatedAt"],
    }
    emptied = api.patch(where, json={"regexConfig": {}, "tags": []}).json()
    assert emptied == changed | {
        "regexConfig": UNSET,
        "tags": None,
        "updatedAt": emptied["updatedAt"],
    }


def rules(definition: str, action: str = "block", count: int = 1) -> dict[str, object]:
    return {"rules": [{"definition": definition, "action": action}] * count}


ACTIONS = "block, allow_but_warn, allow_but_redact, allow"


@pytest.mark.parametrize(
    ("members", "detail"),
    [
        ({"regexConfig": rules("a(")}, "regex rule at index [0] cannot be compiled"),
        ({"regexConfig": rules(r"(a)\1")}, "regex rule at index [0] cannot be compiled"),
        ({"regexConfig": rules("(?=a)")}, "regex rule at index [0] cannot be compiled"),
        (
            {"regex_config": {"rules": [*rules("a")["rules"], *rules("*")["rules"]]}},
            "regex rule at index [1] cannot be compiled",
        ),
        (
            {"regexConfig": rules("a" * (PATTERN_BYTES_MAX + 1))},
            f"regex rule at index [0] is over the limit of {PATTERN_BYTES_MAX} bytes",
        ),
        ({"regexConfig": rules("")}, "regex rule at index [0] has no definition"),
        ({"customConfig": rules("")}, "custom rule at index [0] has no definition"),
        (
            {"regexConfig": rules("a", count=RULES_MAX + 1)},
            f"there are more than {RULES_MAX} regex rules",
        ),
        (
            {"customConfig": rules("x" * 65_536, count=20)},
            "custom rules are over the limit of 1048576 bytes",
        ),
        (
            {"regexConfig": rules("a", "forbid")},
            f"action of regex rule at index [0] must be one of {ACTIONS}",
        ),
        (
            {"customConfig": rules("a", "")},
            f"action of custom rule at index [0] must be one of {ACTIONS}",
        ),
        ({"config": {"rules": {"email": "no"}}}, f"action of email must be one of {ACTIONS}"),
        ({"config": {"rules": {"emial": "block"}}}, "there is no entity 'emial'"),
        ({"tags": [""]}, "tags are empty or too long"),
        ({"name": "x" * 65_537}, "name is over the limit of 65536 bytes"),
        ({"name": "\0"}, "NUL is not allowed"),
        ({"tags": ["\0"]}, "NUL is not allowed"),
        ({"regexConfig": rules("\0")}, "NUL is not allowed"),
        ({"customConfig": rules("\0")}, "NUL is not allowed"),
    ],
)
def test_what_makes_no_sense_is_refused_at_both_doors(api, members, detail):
    """400 with the type and title that the original's 500 has."""
    created = create(api)

    assert problem(api.post(PATH, json=members)) == (
        "/errors/policies/creation",
        "policy creation failed",
        400,
        f"policy is not valid: {detail}",
        PATH,
    )
    assert problem(api.patch(f"{PATH}/{created['id']}", json=members)) == (
        "/errors/policie/updates",
        "update a policy failed",
        400,
        f"policy is not valid: {detail}",
        PATH,
    )


def test_unknown_ids_are_told(api):
    """404, a patch's with the type that the original's 500 has."""
    told = "policy is not found for id: no-such"

    assert problem(api.patch(f"{PATH}/no-such", json={})) == (
        "/errors/policie/updates",
        "update a policy failed",
        404,
        told,
        PATH,
    )
    for method in ("GET", "DELETE"):
        assert problem(api.request(method, f"{PATH}/no-such")) == (
            "/errors/not-found",
            "policy is not found",
            404,
            told,
            f"{PATH}/:id",
        )


def newest_change(api: httpx.Client, item_id: object) -> dict[str, Any]:
    """What the audit log says of it last."""
    params = {"itemId": str(item_id), "limit": 1}
    return dict(api.get("/api/audit-log", params=params).json()["entries"][0])


def test_a_policy_in_use_is_deleted_only_by_force_and_leaves_no_key_pointing_at_it(api, gateway):
    """Keys and policy change together, and other keys stay as they are."""
    created, other = create(api), create(api)
    where = f"{PATH}/{created['id']}"
    setting = gateway.setting("http://127.0.0.1:9")
    keys = [
        gateway.key(f"sk-policy-{number}-0123456789", setting, policyId=policy["id"])
        for number, policy in enumerate([created, created, other])
    ]

    assert problem(api.delete(where)) == (
        "/errors/validation",
        "policy deletion failed",
        400,
        f"2 keys use policy {created['id']}; change them first or add force=true",
        f"{PATH}/:id",
    )
    assert api.delete(where, params={"force": "maybe"}).status_code == 400
    assert api.get(where).status_code == 200

    answer = api.delete(where, params={"force": "true"})

    assert (answer.status_code, answer.content) == (200, b"")
    assert api.get(where).status_code == 404
    first, second, untouched = (newest_change(api, key["keyId"]) for key in keys)
    deleted = newest_change(api, created["id"])
    assert first["revision"] == second["revision"] == deleted["revision"]
    for entry in (first, second):
        assert entry["action"] == "update"
        assert entry["before"]["policy_id"] == created["id"]
        assert "policy_id" not in entry["after"]
    assert (untouched["action"], untouched["after"]["policy_id"]) == ("create", other["id"])


def test_an_unused_policy_is_deleted_at_once(api):
    """Without force."""
    created = create(api)

    assert api.delete(f"{PATH}/{created['id']}").status_code == 200
    assert api.get(f"{PATH}/{created['id']}").status_code == 404


@pytest.mark.parametrize("text", ["a(", r"\1", "(?!a)", r"\pL{1000}", "x**"])
def test_a_pattern_that_could_run_away_cannot_be_written(text):
    """Nor one that takes too much memory, nor one that is none."""
    with pytest.raises(BadPattern) as refused:
        compile_pattern(text)

    assert str(refused.value)


def test_patterns_match_text_in_any_script():
    """Offsets are those of the text's characters."""
    found = compile_pattern(r"(?i)ключ-\d+").search("é😀 КЛЮЧ-42 é")

    assert found is not None
    assert found.span() == (3, 10)
