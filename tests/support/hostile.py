"""What a client may send that nobody meant: strategies for bodies, paths and queries."""

import json
from typing import Any
from urllib.parse import quote, quote_from_bytes

from hypothesis import strategies as st

HOSTILE_TEXTS = [
    "",
    " ",
    "\0",
    "a\0b",
    "\ud800",
    "x\udfff",
    "x" * 10_000,
    "é" * 1_025,
    "😀",
    "'; DROP TABLE configuration_items; --",
    '{"a": [1]}',
    "\\u0000",
    "%00",
    "../../etc/passwd",
    "a/b",
    "/",
    "null",
    "1h30m",
    "-1s",
    "1e400h",
    "9" * 400 + "s",
    "http://[::1",
    "http://user:pw@127.0.0.1:1/x",
    "(" * 2_000,
    "(a+)+$",
    "\r\nx-injected: 1",
    "\u202e\ufeff",
]
HOSTILE_NUMBERS = [0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**400]
HOSTILE_FLOATS = [0.5, -0.0, 1e-9, 1e-30, 1e15, 1e16, 1e308, -1e308, float("inf"), float("nan")]
HOSTILE_BODIES = [
    b"",
    b" ",
    b"null",
    b"true",
    b"[]",
    b"[{}]",
    b'""',
    b"{",
    b"{}",
    b"{}{}",
    b'{"name":}',
    b'{"name":"a",}',
    b'{"name":"\xff\xfe"}',
    b'{"\xff":1}',
    b'{"name":"\\ud800"}',
    b'{"\\ud800":"x"}',
    b'{"name":"\\u0000"}',
    b'{"name":"a","name":"b","NAME":"c"}',
    b'\xef\xbb\xbf{"name":"a"}',
    b"\xff\xfe{\x00}\x00",
    b'{"name":' + b"[" * 100_000,
    b'{"name":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    b'{"name":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}",
    b'{"name":' + b"9" * 10_000 + b"}",
    b'{"costLimitInUsd":1e999999999}',
    b'{"costLimitInUsd":' + b"1" * 5_000 + b"}",
    b'{"costLimitInUsd":0.' + b"1" * 5_000 + b"}",
    b'{"createdAt":1e400,"limit":1e3}',
    b"--x\r\ncontent-disposition: form-data; name=a\r\n\r\nb\r\n--x--\r\n",
]
CONTENT_TYPES = [
    "application/json",
    "application/json; charset=utf-16",
    "text/plain",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
    "application/msgpack",
    "x",
    "",
]

hostile_texts = st.one_of(st.sampled_from(HOSTILE_TEXTS), st.text(max_size=40))
hostile_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from(HOSTILE_NUMBERS),
        st.sampled_from(HOSTILE_FLOATS),
        hostile_texts,
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(hostile_texts, inner, max_size=3)
    ),
    max_leaves=6,
)


def of_schema(schema: dict[str, Any], document: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of a schema of the document."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return st.deferred(lambda: of_schema(document["components"]["schemas"][name], document))
    if "anyOf" in schema:
        return st.one_of([of_schema(part, document) for part in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema.get("type")
    if kind == "string":
        return st.one_of(st.sampled_from(["a", "1h", "d", "POST", "/x", "openai"]), st.text())
    if kind == "integer":
        return st.integers(-1, 100)
    if kind == "number":
        return st.one_of(st.integers(0, 100), st.floats(0, 100))
    if kind == "boolean":
        return st.booleans()
    if kind == "null":
        return st.none()
    if kind == "array" and isinstance(schema.get("items"), dict):
        return st.lists(of_schema(schema["items"], document), max_size=3)
    if kind == "object" and "properties" in schema:
        members = {name: of_schema(one, document) for name, one in schema["properties"].items()}
        required = set(schema.get("required", ()))
        return st.fixed_dictionaries(
            {name: one for name, one in members.items() if name in required},
            optional={name: one for name, one in members.items() if name not in required},
        )
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        values = of_schema(schema["additionalProperties"], document)
        return st.dictionaries(st.text(max_size=10), values, max_size=3)
    return hostile_values


@st.composite
def bodies(draw: st.DrawFn, example: Any, schema: Any, document: dict[str, Any]) -> bytes:
    """An example spoilt in places, a value of the schema, or no JSON at all."""
    how = draw(st.sampled_from(["spoilt", "spoilt", "schema", "raw"]))
    if how == "raw":
        return draw(st.sampled_from(HOSTILE_BODIES))
    if how == "schema":
        return _json(draw(of_schema(schema, document)))
    members = list(example.items())
    for position in draw(st.lists(st.integers(0, 30), min_size=1, max_size=3)):
        name, value = members[position % len(members)]
        members[position % len(members)] = (name, draw(spoilt(value)))
    if draw(st.booleans()):
        members.append((draw(hostile_texts), draw(hostile_values)))
    if draw(st.booleans()):
        # A name twice, which no dict can say.
        name, _ = members[0]
        members.append((name, draw(hostile_values)))
    parts = [_json(name) + b":" + _json(value) for name, value in members]
    return b"{" + b",".join(parts) + b"}"


@st.composite
def spoilt(draw: st.DrawFn, value: Any) -> Any:
    """A value with one thing in it replaced."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        name = draw(st.sampled_from(sorted(value)))
        return {**value, name: draw(spoilt(value[name]))}
    if isinstance(value, list) and value and draw(st.booleans()):
        return [draw(spoilt(value[0])), *value[1:]]
    return draw(hostile_values)


def in_path(text: str) -> str:
    """A text as one segment of a path; a lone surrogate as the bytes that are no UTF-8."""
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


raw_segments = st.one_of(
    hostile_texts.map(in_path),
    st.binary(max_size=6).map(lambda some: quote_from_bytes(some, safe="")),
    st.sampled_from(["%zz", "%", "a%2", "%2e%2e", "a;b=c", "a?b", "*"]),
)
"""What may stand between two slashes of a path."""


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
