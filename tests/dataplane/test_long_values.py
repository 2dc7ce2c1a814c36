"""A long value is taken out of a body before its names are searched; no name may go with it."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.endpoints.bodies import model_and_metadata, model_and_user
from gateway.endpoints.long_values import LONG_BYTES, without_longest
from gateway.values import Refusal

TEXT = 'say \\u0061 "model": {"messages": [1]}, \n'
LONG_TEXT = TEXT * (2 * LONG_BYTES // len(TEXT))
VALUES = [
    [{"role": "user", "content": LONG_TEXT, "model": "x", "Model": {"model": 1}}],
    LONG_TEXT,
    [1] * LONG_BYTES,
    {"messages": LONG_TEXT, "input": {"input": LONG_TEXT}},
]
SECOND_NAMES = ["model", "Model", "MODEL", "\\u006dodel", "mode\\u004C"]
NAMES = st.sampled_from(["messages", "input", "prompt", "model", "mess", "x"])
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='me"\\ :{}[],1', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


class _Read(msgspec.Struct):
    messages: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", ["messages", "input", "prompt"])
@pytest.mark.parametrize("second", SECOND_NAMES)
@pytest.mark.parametrize("read", [model_and_user, model_and_metadata])
def test_a_second_model_beside_a_long_value_is_seen(read, second, name, value):
    """Before it and behind it."""
    text = json.dumps(value)
    for body in (
        f'{{"{second}":"a","{name}":{text},"model":"b"}}',
        f'{{"model":"a", "{name}" : {text}, "{second}" : "b"}}',
    ):
        with pytest.raises(Refusal) as caught:
            read(body.encode())
        assert caught.value.code == "invalid_model"


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", ["messages", "input", "prompt"])
def test_models_within_a_long_value_are_none_of_the_body(name, value):
    """However often they are named there."""
    body = f'{{"x":{{"{name}":{json.dumps(value)}}},"{name}":{json.dumps(value)},"model":"a"}}'

    assert model_and_user(body.encode()).model == "a"


def test_a_long_value_is_not_searched():
    """It is gone from what is: the milliseconds of a megabyte are saved."""
    body = json.dumps({"model": "a", "messages": VALUES[0], "user": "u"}).encode()
    read = msgspec.json.decode(body, type=_Read)

    left = without_longest(body, read.messages, read.prompt, read.input)

    assert left == b'{"model": "a", "messages": , "user": "u"}'


@given(st.lists(st.tuples(NAMES, DOCUMENTS), max_size=6), st.sampled_from(["", " ", "\n\t"]))
def test_what_is_taken_out_is_a_whole_value(members, blank):
    """With another value in its place the body is well-formed, and has the same names."""
    body = ",".join(
        f"{json.dumps(name)}{blank}:{blank}{json.dumps(value)}{blank}" for name, value in members
    )
    body = f"{{{blank}{body}}}".encode()
    read = msgspec.json.decode(body, type=_Read)

    left = without_longest(body, read.messages, read.prompt, read.input)

    names: list[list[str]] = []
    for text in (body, _mended(body, left)):
        pairs = json.loads(text, object_pairs_hook=list)
        names.append([name for name, _ in pairs])
    assert names[0] == names[1]


def _mended(body: bytes, left: bytes) -> bytes:
    """A zero where the value was: where the two begin to differ, going back to the colon."""
    if left == body:
        return body
    place = next((at for at in range(len(left)) if body[at] != left[at]), len(left))
    for at in range(place, -1, -1):
        mended = left[:at] + b"0" + left[at:]
        try:
            json.loads(mended)
        except ValueError:
            continue
        return mended
    raise AssertionError("what was taken out was no value")
