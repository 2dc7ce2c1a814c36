"""Model aliases: over 8001, and which of them a model's name finds."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import loopback

from contracts.config.provider_settings import ModelAlias
from gateway.routing.aliases import matches, resolve_alias

PATH = "/api/model-aliases"
FIELDS = ["id", "createdAt", "updatedAt", "alias", "model", "settingId", "position"]


@pytest.fixture(scope="module")
def api(gateway):
    """A client of the admin API."""
    with loopback.Client(base_url=gateway.admin_url) as client:
        yield client


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """An alias of the test's own."""
    return request.node.name


def refused(answer: httpx.Response) -> str:
    told = answer.json()
    assert answer.status_code == 400
    assert (told["type"], told["title"]) == ("/errors/validation", "model alias validation failed")
    return str(told["detail"])


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_an_alias_is_made_shown_changed_and_deleted(api, gateway, name, method):
    """Every field is always there."""
    setting = gateway.setting("http://127.0.0.1:9")
    made = api.request(method, PATH, json={"alias": name, "model": "m", "position": 4})
    assert made.status_code == 200
    assert list(made.json()) == FIELDS
    path = f"{PATH}/{made.json()['id']}"

    assert api.get(path).json() == made.json()
    assert made.json() in api.get(PATH).json()
    patched = api.patch(path, json={"settingId": setting, "model": "n", "alias": None}).json()
    assert (patched["alias"], patched["model"], patched["position"]) == (name, "n", 4)
    assert patched["settingId"] == setting
    assert api.patch(path, json={"settingId": "", "position": 0}).json()["settingId"] == ""
    assert api.delete(path).status_code == 200
    for answer in (api.get(path), api.patch(path, json={}), api.delete(path)):
        assert answer.status_code == 404
        assert answer.json()["title"] == "model alias is not found"
        assert answer.json()["instance"] == f"{PATH}/:id"


def test_aliases_are_listed_in_the_order_in_which_they_are_tried(api, name):
    """By position, then by age."""
    for position in (3, 1, 3, 0):
        answer = api.put(
            PATH,
            json={"alias": f"{name}{position}*{len(name)}", "model": "m", "position": position},
        )
        if answer.status_code == 400:
            assert "exists already" in refused(answer)

    positions = [one["position"] for one in api.get(PATH).json()]
    assert positions == sorted(positions)


def test_an_alias_stands_for_one_model(api, name):
    """Also after a patch; the first is unaffected."""
    first = api.put(PATH, json={"alias": name, "model": "a"}).json()
    assert refused(api.put(PATH, json={"alias": name, "model": "b"})) == (
        f"alias {name} exists already"
    )
    other = api.put(PATH, json={"alias": f"{name}2", "model": "b"}).json()
    refused(api.patch(f"{PATH}/{other['id']}", json={"alias": name}))
    assert api.get(f"{PATH}/{first['id']}").json() == first


@pytest.mark.parametrize(
    ("members", "detail"),
    [
        ({"alias": ""}, "alias field cannot be empty"),
        ({"model": ""}, "model field cannot be empty"),
        ({"alias": "a" * 1025}, "alias is over the limit of 1024 bytes"),
        ({"model": "\U0001f9ed" * 257}, "model is over the limit of 1024 bytes"),
        ({"alias": "a\0"}, "NUL is not allowed"),
        ({"model": "gpt-*"}, "model must be one model: only an alias may hold *"),
        ({"alias": "*" * 9}, "alias holds more than 8 *"),
        ({"position": -1}, "position must be from 0 to 1000000"),
        ({"settingId": "nobody"}, "provider setting is not found"),
        ({"settingId": "\0"}, "provider setting is not found"),
    ],
)
def test_what_is_wrong_is_said_in_words(api, members, detail):
    """In the shape of every admin error."""
    assert refused(api.put(PATH, json={"alias": "refused", "model": "m", **members})) == detail


@pytest.mark.parametrize("text", ["a'b", '"', "{x}", "a,b", "%s", "\\", "\U0001f9ed" * 256, "a b"])
def test_any_text_comes_back_as_it_was(api, text):
    """As alias and as model."""
    made = api.put(PATH, json={"alias": text, "model": text}).json()
    found = api.get(f"{PATH}/{made['id']}").json()

    assert (found["alias"], found["model"]) == (text, text)


def alias(text: str, model: str = "m", position: int = 0) -> ModelAlias:
    return ModelAlias(f"id-{text}", text, model, 0, 0, position=position)


def test_an_exact_alias_goes_before_every_pattern():
    """Then the first pattern in their order."""
    aliases = [alias("*"), alias("gpt-*"), alias("gpt-4")]

    assert resolve_alias("gpt-4", aliases) == aliases[2]
    assert resolve_alias("gpt-5", aliases) == aliases[0]
    assert resolve_alias("gpt-5", aliases[1:]) == aliases[1]
    assert resolve_alias("claude", aliases[1:]) is None
    assert resolve_alias("claude", []) is None


def test_what_an_alias_names_is_not_looked_up_again():
    """Two that name each other are one step each."""
    aliases = [alias("a", "b"), alias("b", "a"), alias("c", "c")]

    for name, model in (("a", "b"), ("b", "a"), ("c", "c")):
        found = resolve_alias(name, aliases)
        assert found is not None
        assert found.model == model


@pytest.mark.parametrize(
    ("pattern", "model", "covers"),
    [
        ("*", "", True), ("*", "x", True), ("a*", "a", True), ("a*", "ba", False),
        ("*a", "ba", True), ("a*a", "a", False), ("a*a", "aa", True), ("a*b*c", "axbyc", True),
        ("a*b*c", "acb", False), ("*ab*ab*", "abab", True), ("*ab*ab*", "aba", False),
        ("a.c*", "abc", False), ("[a]*", "a", False), ("gpt-*-mini", "gpt-4o-mini", True),
    ],
)  # fmt: skip
def test_a_star_stands_for_any_text_and_nothing_else_does(pattern, model, covers):
    """Of a name's whole length, none included."""
    assert matches(pattern, model) is covers


@given(st.lists(st.text("ab", max_size=3), min_size=2, max_size=5), st.text("ab", max_size=12))
def test_patterns_mean_what_regular_expressions_mean(parts, model):
    """Against the library's own engine."""
    import re

    expected = re.fullmatch(".*".join(map(re.escape, parts)), model) is not None
    assert matches("*".join(parts), model) is expected
