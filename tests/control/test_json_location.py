"""Locations: paths into JSON, looked up in decoded values and in text alike."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rating.json_location import (
    COMMAS_MAX,
    LOCATION_BYTES_MAX,
    MISSING,
    STEPS_MAX,
    WHOLE_BYTES_MAX,
    BadLocation,
    NotReadable,
    parse_location,
    text_of,
)

DOCUMENT = {
    "model": "gpt-4o",
    "a.b": {"*": 1, "#": 2, "0": 3},
    "stream": False,
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user"},
        {"role": "user", "content": [{"text": "one"}, {"image": 1}, {"text": "two"}]},
    ],
    "empty": [],
    "null": None,
    'quoted"\\': 4,
    "a#b": 5,
}

MEANINGS: list[tuple[str, Any]] = [
    ("model", "gpt-4o"),
    ("stream", False),
    ("null", None),
    ("messages.#", 3),
    ("empty.#", 0),
    ("empty.#.x", []),
    ("messages.0.role", "system"),
    ("messages.3", MISSING),
    ("messages.999999999", MISSING),
    ("messages.role", MISSING),
    ("messages.#.role", ["system", "user", "user"]),
    ("messages.#.content", ["be brief", DOCUMENT["messages"][2]["content"]]),
    ("messages.#.content.#.text", [["one", "two"]]),
    ("messages.#.content.#", [3]),
    ("model.length", MISSING),
    ("model.#", MISSING),
    ("nothing.here", MISSING),
    (r"a\.b.\*", 1),
    (r"a\.b.#", 2),
    (r"a\.b.\#", 2),
    (r"messages.\#", MISSING),
    (r"a\.b.0", 3),
    ('quoted"\\\\', 4),
    ("a#b", 5),
    ("empty", []),
]


def texts(value: Any) -> list[bytes]:
    """A short text of it, and one in which nothing that holds anything is short."""
    return [json.dumps(value, indent=width).encode() for width in (None, WHOLE_BYTES_MAX)]


@pytest.mark.parametrize(("location", "found"), MEANINGS)
def test_a_location_means_what_its_table_says(location, found):
    """In decoded JSON and in its text."""
    parsed = parse_location(location)

    assert parsed.find(DOCUMENT) == found
    assert [parsed.find_in(text) for text in texts(DOCUMENT)] == [found, found]


@pytest.mark.parametrize(
    "location",
    [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "a\\",
        "#(role==user)",
        "messages.#(role==user)#.content",
        "messages.#x",
        "a|b",
        "na*e",
        "na?e",
        "@reverse",
        "a.@this",
        "{a,b}",
        "a.[b]",
        "!true",
        "a" * (LOCATION_BYTES_MAX + 1),
        ".".join("a" * (STEPS_MAX + 1)),
    ],
)
def test_what_is_not_supported_is_refused_by_name(location):
    """Rather than looked up as something else."""
    with pytest.raises(BadLocation):
        parse_location(location)


_NAMES = st.text(max_size=6).filter(bool) | st.sampled_from(["#", "0", "1", ".", "*", "\\", "é😀"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=20,
)


def _escaped(name: str) -> str:
    return "".join(f"\\{char}" if char in "\\.*?|#@!{[" else char for char in name)


@given(value=_JSON, location=st.text(alphabet="ab01#.*\\@é", min_size=1, max_size=12))
def test_text_and_decoded_json_never_disagree(value, location):
    """Whatever the location: refused by both, or the same answer from both."""
    try:
        parsed = parse_location(location)
    except BadLocation:
        return

    found = parsed.find(value)
    assert [parsed.find_in(text) for text in texts(value)] == [found, found]


@given(value=_JSON, data=st.data())
def test_every_place_in_a_document_has_a_location(value, data):
    """Walked down at random, each step written as a part, the end of the walk is found."""
    parts: list[str] = []
    place = value
    while isinstance(place, dict | list) and place and len(parts) < STEPS_MAX:
        if isinstance(place, dict):
            name = data.draw(st.sampled_from(sorted(place)))
            parts.append(_escaped(name))
            place = place[name]
        else:
            index = data.draw(st.integers(0, len(place) - 1))
            parts.append(str(index))
            place = place[index]
    if not parts:
        return
    parsed = parse_location(".".join(parts))

    assert parsed.find(value) == place
    assert [parsed.find_in(text) for text in texts(value)] == [place, place]


@given(elements=st.lists(st.dictionaries(st.sampled_from("xy"), st.text(max_size=5)), max_size=8))
def test_each_collects_what_elements_have_in_their_order(elements):
    """Those without the member are left out."""
    expected = [element["x"] for element in elements if "x" in element]

    found = parse_location("list.#.x").find_in(json.dumps({"list": elements}).encode())

    assert found == expected
    assert text_of(found) == "".join(expected)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ("one", "one"),
        (["one", 2, None, ["two", ["three"]], {"text": "no"}, "four"], "onetwothreefour"),
        ([], ""),
        (None, None),
        (7, None),
        ({"text": "no"}, None),
        (MISSING, None),
    ],
)
def test_the_text_of_what_was_found_is_its_strings(found, text):
    """Arrays are joined; anything else has no text."""
    assert text_of(found) == text


def test_the_last_of_two_members_counts():
    """As it does for the provider that reads the body after us."""
    text = b'{"model":"cheap","mod\\u0065l":"dear"%b}'

    for space in (b"", b" " * WHOLE_BYTES_MAX):
        assert parse_location("model").find_in(text % space) == "dear"


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("a", b""),
        ("a", b" "),
        ("a", b" " * (WHOLE_BYTES_MAX + 1) + b"{"),
        ("a", b"{"),
        ("a", b'{"a":'),
        ("a", b'{"a":"\xff"}'),
        ("a", b'{"a":"\\ud800"}'),
        ("a.0", b'{"a":[1,}'),
        ("a.#.b", b'{"a":[{"b":1},{"b":}]}'),
        ("a", b'{"a":%b%b}' % (b"[" * 100_000, b"]" * 100_000)),
        ("b", b'{"a":%b%b}' % (b"[" * 100_000, b"]" * 100_000)),
        ("a.0", b'{"a":[%b1]}' % (b"1," * (COMMAS_MAX + 1))),
        ("a.#.b", b'{"a":[%b1]}' % (b"1," * (COMMAS_MAX + 1))),
    ],
)
def test_text_that_cannot_be_read_on_the_way_is_said_to_be(location, text):
    """One error for all of it, however deep or long it is."""
    with pytest.raises(NotReadable):
        parse_location(location).find_in(text)


def test_members_that_are_not_looked_for_cost_nothing():
    """A megabyte of other members is passed over, not turned into objects."""
    text = b'{%b"model":"m"}' % b"".join(b'"m%d":{},' % number for number in range(100_000))
    tracemalloc.start()
    try:
        found = parse_location("model").find_in(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert found == "m"
    assert peak < len(text)
