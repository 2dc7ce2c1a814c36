"""The one member that is added to a streaming body, and the bytes that are left alone."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.endpoints.bodies import model_and_user as parse
from gateway.endpoints.json_text import NotAnObject, member_span
from gateway.endpoints.splices import ask_usage
from gateway.values import Refusal

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), json_values), st.booleans(), st.sampled_from([None, 2]))
def test_splice_adds_the_option_and_changes_no_other_member(members, ascii_only, indent):
    """Whatever the body holds, only include_usage differs."""
    members["stream"] = True
    body = json.dumps(members, ensure_ascii=ascii_only, indent=indent).encode()

    spliced = json.loads(ask_usage(body))

    options = spliced.pop("stream_options")
    before = members.pop("stream_options", None)
    before = before if isinstance(before, dict) else {}
    assert options == {**before, "include_usage": True}
    assert spliced == members


@pytest.mark.parametrize(
    ("body", "spliced"),
    [
        (b'{"stream":true}', b'{"stream_options":{"include_usage":true},"stream":true}'),
        (b' {\n"stream" : true}', b' {"stream_options":{"include_usage":true},\n"stream" : true}'),
        (
            b'{"stream_options":{"include_usage":false},"n":12345678901234567890}',
            b'{"stream_options":{"include_usage":true},"n":12345678901234567890}',
        ),
        (
            b'{"stream_options": null ,"a":"\\u00e9\\"}"}',
            b'{"stream_options": {"include_usage":true} ,"a":"\\u00e9\\"}"}',
        ),
        (
            b'{"stream_options":{"x":[1,{"include_usage":0}]},"a":1,"a":2}',
            b'{"stream_options":{"include_usage":true,"x":[1,{"include_usage":0}]},"a":1,"a":2}',
        ),
        (b'{"stream_options":{}}', b'{"stream_options":{"include_usage":true}}'),
    ],
)
def test_splice_keeps_every_other_byte(body, spliced):
    """Unknown members, big integers, duplicate keys and escapes survive."""
    assert ask_usage(body) == spliced


@pytest.mark.parametrize("text", [b"", b"[]", b'{"a', b'{"a":', b'{"a":{', b'{"a"}', b'{"a":"x'])
def test_span_of_a_broken_object_is_an_error(text):
    """Text that is no whole object is refused, not guessed at."""
    with pytest.raises(NotAnObject):
        member_span(text, b"a")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "empty_body"),
        (b"not json", "invalid_json"),
        (b"[1]", "invalid_json"),
        (b'{"model":"m"', "invalid_json"),
        (b'{"model":"\xff"}', "invalid_json"),
        (b"{}", "missing_required_parameter"),
        (b'{"model":7}', "missing_required_parameter"),
        (b'{"model":"' + b"m" * 513 + b'"}', "invalid_model"),
    ],
)
def test_unreadable_bodies_are_refused_with_400(body, code):
    """Each kind of bad body has its code."""
    with pytest.raises(Refusal) as caught:
        parse(body)

    assert (caught.value.status, caught.value.code) == (400, code)


@pytest.mark.parametrize(
    "member",
    ['"stop":"x"', '"top_p":0.9', '"messages":[{"role":"user","content":[{"type":"text"}]}]'],
)
def test_bodies_that_a_strict_reader_would_reject_are_read(member):
    """What a member means is the provider's to judge: no shape is a way around a gate."""
    call = parse(f'{{"model":"gpt-4o",{member},"stream":true,"user":5}}'.encode())

    assert (call.model, call.is_streaming, call.user_id) == ("gpt-4o", True, None)


def test_a_very_long_user_is_recorded_by_its_hash():
    """What a client writes there must not fill the journal."""
    call = parse(b'{"model":"m","user":"' + b"u" * 10_000 + b'"}')

    assert call.user_id is not None
    assert call.user_id.startswith("sha256:")
    assert len(call.user_id) == 71
