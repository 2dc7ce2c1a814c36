"""End users as operators manage them over 8001."""

import json
from urllib.parse import quote

import httpx
import pytest
from support import loopback
from support.programs import Gateway

USERS = "/api/users"
FIELDS = [
    "id",
    "name",
    "createdAt",
    "updatedAt",
    "tags",
    "keyIds",
    "revoked",
    "revokedReason",
    "costLimitInUsd",
    "costLimitInUsdOverTime",
    "costLimitInUsdUnit",
    "rateLimitOverTime",
    "rateLimitUnit",
    "ttl",
    "allowedPaths",
    "allowedModels",
    "userId",
]


@pytest.fixture(scope="module")
def api(gateway: Gateway):
    """A client of the admin API."""
    with loopback.Client(base_url=gateway.admin_url) as client:
        yield client


@pytest.fixture
def tag(request: pytest.FixtureRequest) -> str:
    """A tag of the test's own, so that tests do not meet each other's users."""
    return request.node.name


@pytest.fixture(scope="module")
def key_id(gateway: Gateway) -> str:
    """A key to name in `keyIds`."""
    setting = gateway.setting("http://127.0.0.1:9")
    return str(gateway.key("sk-users-0123456789", setting)["keyId"])


def create(api: httpx.Client, **members: object) -> dict[str, object]:
    answer = api.post(USERS, json={"name": "Ada", **members})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def problem(answer: httpx.Response) -> tuple[object, ...]:
    told = answer.json()
    assert list(told) == ["type", "title", "status", "detail", "instance"]
    assert told["status"] == answer.status_code
    return tuple(told.values())


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_created_user_is_shown_with_every_field(api, tag, key_id, method):
    """Both spellings of the method create, and nothing that was sent is lost."""
    sent = {
        "name": "Ada",
        "tags": [tag, "b"],
        "keyIds": [key_id],
        "costLimitInUsd": 5.25,
        "costLimitInUsdOverTime": 0.1,
        "costLimitInUsdUnit": "mo",
        "rateLimitOverTime": 7,
        "rateLimitUnit": "m",
        "ttl": "24h",
        "allowedPaths": [{"path": "/v1/chat/completions", "method": "POST"}],
        "allowedModels": ["gpt-4o"],
        "userId": f"ada-{method}",
    }
    answer = api.request(method, USERS, json=sent)

    assert answer.status_code == 200
    user = answer.json()
    assert list(user) == FIELDS
    assert user.items() >= sent.items()
    assert user["revoked"] is False
    assert user["createdAt"] == user["updatedAt"] > 1_700_000_000
    assert api.get(f"{USERS}/{user['id']}").json() == user


def test_a_user_without_an_id_of_its_own_gets_one(api, tag):
    """Twice the same request makes two users."""
    one, two = (create(api, tags=[tag]) for _ in range(2))

    assert one["userId"] != two["userId"]
    assert len(str(one["userId"])) == 36


def test_what_is_absent_is_null_or_nothing(api):
    """The smallest user there can be."""
    user = create(api)

    assert {name: user[name] for name in FIELDS[4:16]} == {
        "tags": None,
        "keyIds": None,
        "revoked": False,
        "revokedReason": "",
        "costLimitInUsd": 0,
        "costLimitInUsdOverTime": 0,
        "costLimitInUsdUnit": "",
        "rateLimitOverTime": 0,
        "rateLimitUnit": "",
        "ttl": "",
        "allowedPaths": None,
        "allowedModels": None,
    }


@pytest.mark.parametrize(
    ("members", "detail"),
    [
        ({"name": ""}, "fields [name] are invalid"),
        (
            {
                "name": "",
                "tags": [""],
                "keyIds": [""],
                "costLimitInUsd": -1,
                "costLimitInUsdOverTime": -1,
                "rateLimitOverTime": -1,
                "ttl": "2d",
                "allowedPaths": [{"method": "POST"}],
                "allowedModels": [""],
            },
            "fields [tags, name, keyIds, costLimitInUsd, costLimitInUsdOverTime,"
            " rateLimitOverTime, ttl, allowedPaths.0.path, allowedModels] are invalid",
        ),
        ({"allowedPaths": [{"path": "/v1"}]}, "fields [allowedPaths.0.method] are invalid"),
        ({"userId": "u" * 513}, "fields [userId] are invalid"),
        ({"costLimitInUsd": 1e300}, "fields [costLimitInUsd] are invalid"),
        ({"rateLimitOverTime": 2**63}, "fields [rateLimitOverTime] are invalid"),
        (
            {"rateLimitUnit": "m"},
            "rate limit over time can not be empty if rate limit unit is specified",
        ),
        (
            {"rateLimitOverTime": 1},
            "rate limit unit can not be empty if rate limit over time is specified",
        ),
        (
            {"rateLimitOverTime": 1, "rateLimitUnit": "mo"},
            "rate limit unit can not be identified",
        ),
        (
            {"costLimitInUsdUnit": "m"},
            "cost limit over time can not be empty if cost limit unit is specified",
        ),
        (
            {"costLimitInUsdOverTime": 1},
            "cost limit unit can not be empty if cost limit over time is specified",
        ),
        (
            {"costLimitInUsdOverTime": 1, "costLimitInUsdUnit": "s"},
            "cost limit unit can not be identified",
        ),
        ({"name": "a\0b"}, "NUL is not allowed"),
    ],
)
def test_a_user_that_makes_no_sense_is_told_why(api, members, detail):
    """The rules of keys, with the names of users."""
    answer = api.post(USERS, json={"name": "Ada", **members})

    assert problem(answer) == (
        "/errors/validation",
        "create user validation failed",
        400,
        detail,
        USERS,
    )


def test_keys_that_nobody_has_are_refused_on_creation_and_on_change(api):
    """The original answers 500; the body is the same."""
    missing = {"keyIds": ["nobody", "no'body"]}
    user = create(api)

    answers = [
        api.post(USERS, json={"name": "Ada", **missing}),
        api.patch(f"{USERS}/{user['id']}", json=missing),
    ]

    title = "/errors/user-manager", "user creation error"
    assert problem(answers[0]) == (*title, 400, "keys are not found", USERS)
    title = "/errors/user-manager", "update user error"
    assert problem(answers[1]) == (*title, 400, "keys are not found", f"{USERS}/:id")


def test_a_user_id_is_taken_among_tags_that_hold_its_own(api, tag):
    """A wider set of tags may have the same user again, a narrower one may not."""
    create(api, userId="u", tags=[tag, "b"])

    taken = api.post(USERS, json={"name": "Ada", "userId": "u", "tags": ["b", tag]})
    narrower = api.post(USERS, json={"name": "Ada", "userId": "u", "tags": [tag]})
    create(api, userId="u", tags=[tag, "b", "c"])

    kind = "/errors/validation", "create user validation failed", 400
    assert problem(taken) == (*kind, f"user id exists for tags: [b,{tag}]", USERS)
    assert problem(narrower) == (*kind, f"user id exists for tags: [{tag}]", USERS)


def test_a_change_keeps_what_it_does_not_name(api, tag, key_id):
    """Null keeps, an empty list clears, tags and the user id stay what they were."""
    path = {"path": "/v1/chat/completions", "method": "POST"}
    user = create(
        api,
        tags=[tag],
        userId="fixed",
        keyIds=[key_id],
        allowedPaths=[path],
        allowedModels=["m"],
        ttl="1h",
    )
    url = f"{USERS}/{user['id']}"

    same = api.patch(url, json={"name": None, "keyIds": None, "tags": ["x"], "userId": "x"})
    assert {**same.json(), "updatedAt": 0} == {**user, "updatedAt": 0}

    cleared = api.patch(
        url, json={"keyIds": [], "allowedPaths": [], "allowedModels": [], "ttl": "", "name": "B"}
    ).json()
    assert (cleared["name"], cleared["ttl"], cleared["keyIds"]) == ("B", "", None)
    assert (cleared["allowedPaths"], cleared["allowedModels"]) == ([], [])
    assert api.get(url).json() == cleared


def test_a_reason_comes_and_goes_with_the_revocation(api):
    """It is not kept without one."""
    url = f"{USERS}/{create(api)['id']}"

    alone = api.patch(url, json={"revokedReason": "why"}).json()
    revoked = api.patch(url, json={"revoked": True, "revokedReason": "why"}).json()
    back = api.patch(url, json={"revoked": False, "revokedReason": "why"}).json()

    assert (alone["revoked"], alone["revokedReason"]) == (False, "")
    assert (revoked["revoked"], revoked["revokedReason"]) == (True, "why")
    assert (back["revoked"], back["revokedReason"]) == (False, "")


@pytest.mark.parametrize(
    ("members", "detail"),
    [
        (
            {"costLimitInUsdUnit": "d"},
            "cost limit over time can not be empty if cost limit unit is specified",
        ),
        (
            {"costLimitInUsdOverTime": 1},
            "cost limit unit can not be empty if cost limit over time is specified",
        ),
        (
            {"costLimitInUsdOverTime": 0, "costLimitInUsdUnit": "d"},
            "cost limit unit has to be empty if cost limit over time is 0",
        ),
        (
            {"costLimitInUsdOverTime": 1, "costLimitInUsdUnit": ""},
            "cost limit over time must be 0 if cost limit unit is empty",
        ),
        (
            {"rateLimitOverTime": 0, "rateLimitUnit": "d"},
            "rate limit unit has to be empty if rate limit over time is 0",
        ),
        (
            {"rateLimitOverTime": 1, "rateLimitUnit": "w"},
            "rate limit unit can not be identified",
        ),
        ({"ttl": "soon"}, "fields [ttl] are invalid"),
        ({"revoked": True, "revokedReason": "\0"}, "NUL is not allowed"),
    ],
)
def test_a_change_that_makes_no_sense_is_told_why(api, members, detail):
    """By id and by user id alike."""
    user = create(api, userId=f"sense {detail} {len(members)}")
    by_id = api.patch(f"{USERS}/{user['id']}", json=members)
    by_user_id = api.patch(USERS, params={"userId": user["userId"]}, json=members)

    title = "/errors/validation", "update user validation failed", 400, detail
    assert problem(by_id) == (*title, f"{USERS}/:id")
    assert api.get(f"{USERS}/{user['id']}").json() == user
    if "ttl" not in members:
        assert problem(by_user_id) == (*title, USERS)


def test_a_limit_is_taken_away_with_its_unit(api):
    """Zero and an empty unit together."""
    user = create(api, rateLimitOverTime=5, rateLimitUnit="m")
    changed = api.patch(
        f"{USERS}/{user['id']}", json={"rateLimitOverTime": 0, "rateLimitUnit": ""}
    ).json()

    assert (changed["rateLimitOverTime"], changed["rateLimitUnit"]) == (0, "")


def test_a_change_by_user_id_reaches_every_match_and_answers_with_the_first(api, tag):
    """All those whose tags hold the given ones; a ttl stays as it was."""
    ids = [
        create(api, userId="many", tags=[tag], ttl="1h")["id"],
        create(api, userId="many", tags=[tag, "b"], ttl="1h")["id"],
        create(api, userId="many", tags=["elsewhere", f"not-{tag}"], ttl="1h")["id"],
    ]

    answer = api.patch(
        USERS, params={"userId": "many", "tags": [tag]}, json={"revoked": True, "ttl": "9h"}
    )

    assert answer.json()["id"] == ids[0]
    now = [api.get(f"{USERS}/{one}").json() for one in ids]
    assert [(one["revoked"], one["ttl"]) for one in now] == [
        (True, "1h"),
        (True, "1h"),
        (False, "1h"),
    ]


def test_a_change_needs_to_say_whose(api):
    """A missing user id, and one that nobody has."""
    missing = api.patch(USERS, params={"tags": "a"}, json={})
    nobody = api.patch(USERS, params={"userId": "no'body"}, json={"name": "B"})
    unknown = api.patch(f"{USERS}/no'body", json={"name": "B"})

    kind = "/errors/missing-user-id", "missing user id", 400
    assert problem(missing) == (*kind, "userId is required", USERS)
    kind = "/errors/user-manager", "update user error", 404
    assert problem(nobody) == (*kind, "user not found for user id: no'body", USERS)
    assert problem(unknown) == (*kind, "key not found for id: no'body", f"{USERS}/:id")


def test_users_are_found_by_tags_user_ids_and_keys(api, tag, key_id):
    """All tags, any user id, any key; newest first; together they narrow."""
    one = create(api, userId=f"{tag}-1", tags=[tag, "x"])
    two = create(api, userId=f"{tag}-2", tags=[tag], keyIds=[key_id])

    def found(**params: object) -> list[object]:
        return [user["id"] for user in api.get(USERS, params=params).json()]

    assert set(found(tags=[tag])) == {one["id"], two["id"]}
    assert found(tags=[tag, "x"]) == [one["id"]]
    assert set(found(userIds=[f"{tag}-1", f"{tag}-2", "?"])) == {one["id"], two["id"]}
    assert two["id"] in found(keyIds=["?", key_id])
    assert found(tags=[tag], keyIds=[key_id]) == [two["id"]]
    assert found(userIds=[f"{tag}-1"], keyIds=[key_id]) == []
    assert found(tags=["\0"]) == []


def test_users_are_listed_in_pages(api, tag):
    """Newest first; an offset counts only with a limit."""
    ids = [create(api, tags=[tag])["id"] for _ in range(5)]

    def page(**params: object) -> list[object]:
        users = api.get(USERS, params={"tags": tag, **params}).json()
        return [user["id"] for user in users]

    assert page() == page(limit=0, offset=3) == ids[::-1]
    assert page(limit=2) == ids[:-3:-1]
    assert page(limit=2, offset=4) == ids[:1]
    assert page(limit=2, offset=9) == []


@pytest.mark.parametrize(
    ("query", "kind", "title"),
    [
        ("", "missing-filteres", "filters are not found"),
        ("limit=1&offset=1", "missing-filteres", "filters are not found"),
        ("tags=a&limit=x", "bad-filters", "bad limit query param"),
        ("tags=a&offset=1.5", "bad-filters", "bad offset query param"),
        ("tags=a&limit=-1", "bad-filters", "bad limit query param"),
        ("tags=a&offset=9223372036854775808", "bad-filters", "bad offset query param"),
        ("tags=a&limit=" + "9" * 5000, "bad-filters", "bad limit query param"),
    ],
)
def test_a_list_needs_a_filter_and_integers(api, query, kind, title):
    """Each with the error's own type."""
    told = problem(api.get(f"{USERS}?{query}"))

    assert told[:3] == (f"/errors/{kind}", title, 400)
    assert told[4] == USERS


def test_a_deleted_user_is_gone(api, tag):
    """Deleting what is not there is no error."""
    user = create(api, tags=[tag])
    url = f"{USERS}/{user['id']}"

    for _ in range(2):
        answer = api.delete(url)
        assert (answer.status_code, answer.content) == (200, b"")
    gone = api.get(url)

    assert api.get(USERS, params={"tags": tag}).json() == []
    title = "/errors/not-found", "user is not found", 404
    assert problem(gone) == (*title, f"user not found for id: {user['id']}", f"{USERS}/:id")


@pytest.mark.parametrize(
    "text", ['O\'Brien, {a} "b" \\c', "🦀\u202e\ufffd", "%00 ' OR 1=1 --", "x" * 10_000]
)
def test_any_text_comes_back_as_it_was(api, text):
    """In a name, a model, a tag or a path; a user id and a tag have their limits."""
    tag = text[:200]
    user = create(
        api,
        name=text,
        userId=text[:512],
        tags=[tag],
        allowedModels=[text],
        allowedPaths=[{"path": text, "method": "POST"}],
    )

    assert (user["name"], user["allowedModels"], user["tags"]) == (text, [text], [tag])
    assert user["allowedPaths"] == [{"method": "POST", "path": text}]
    assert api.get(USERS, params={"tags": tag}).json() == [user]
    assert api.get(USERS, params={"userIds": text[:512]}).json() == [user]
    answer = api.patch(USERS, params={"userId": text[:512]}, json={"name": text[::-1]})
    assert answer.json()["name"] == text[::-1]
    assert api.get(f"{USERS}/{quote(tag, safe='')}").status_code == 404


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"name":1}', b'{"name":"\\ud800"}', b'"\xff"']
)
def test_a_body_that_cannot_be_read_is_told_so(api, body):
    """With the type that every endpoint has for it."""
    for answer in (api.post(USERS, content=body), api.patch(f"{USERS}/x", content=body)):
        assert problem(answer)[:3] == ("/errors/json-unmarshal", "json unmarshaller error", 400)


def test_money_keeps_its_digits(api):
    """What was sent as a decimal number comes back as one."""
    answer = api.post(USERS, content=b'{"name":"A","costLimitInUsd":0.10000000000000000001}')

    assert b'"costLimitInUsd":0.10000000000000000001,' in answer.content
    assert json.loads(answer.content)["name"] == "A"
