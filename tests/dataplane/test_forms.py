"""The fields of a multipart form, found in any pieces of it, and trusted only when they are clear."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.endpoints.forms import FormReader, boundary_of, call_of_form
from gateway.values import Refusal

BOUNDARY = b"b0undary"


def part(name: str, value: bytes, more: str = "") -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return b"--" + BOUNDARY + b"\r\n" + head.encode() + value + b"\r\n"


END = b"--" + BOUNDARY + b"--\r\n"
FILE = part("file", bytes(range(256)) * 5 + b"\r\n--b0un", '; filename="a.bin"')


def read(body: bytes, places: list[int] | None = None) -> FormReader:
    form = FormReader(BOUNDARY)
    edges = sorted({0, len(body), *(place % (len(body) + 1) for place in places or [])})
    for a, b in itertools.pairwise(edges):
        form.feed(body[a:b])
    form.finish()
    return form


def cuts() -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(min_value=0), max_size=12)


names = st.sampled_from(["file", "prompt", "n", "purpose", "image[]"])
values = st.one_of(st.binary(max_size=60), st.sampled_from([b"\r\n", b"\r\n--", b"--b0un", b"\r"]))


@given(
    st.lists(st.tuples(names, values), max_size=4),
    st.integers(0, 4),
    st.binary(max_size=30).filter(lambda some: b"\r" not in some and BOUNDARY not in some),
    cuts(),
)
def test_the_model_is_found_wherever_it_stands_and_however_the_form_is_cut(
    others, position, preamble, places
):
    """Before or behind files; its place in the body is exact."""
    parts = [part(name, value) for name, value in others]
    parts.insert(position, part("model", b"m-1"))
    body = (preamble + b"\r\n" if preamble else b"") + b"".join(parts) + END

    form = read(body, places)

    assert form.is_clear
    field = form.fields[b"model"]
    assert (field.value, body[field.start : field.end]) == (b"m-1", b"m-1")
    assert call_of_form(form).model == "m-1"
    assert not call_of_form(form).hides_model


@given(st.binary(max_size=300), cuts())
def test_any_bytes_read_the_same_however_they_are_cut(content, places):
    """Also those that are no form."""
    content = content.replace(b"\x00", b"--" + BOUNDARY).replace(b"\x01", b"\r\n")
    whole, cut = read(content), read(content, places)

    assert (cut.is_clear, cut.fields) == (whole.is_clear, whole.fields)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b0undary",
        FILE,
        part("model", b"m"),
        part("model", b"m") + part("model", b"other") + END,
        part("model", b"m") + part("Model", b"other") + END,
        part("model", b"m") + part("mo%64el", b"other") + END,
        part("model", b"m") + END + part("model", b"other") + END,
        part("model", b"m") + b"--b0undary\n\n" + END,
        part("model", b"m").replace(b"\r\n", b"\n") + END,
        part("model", b"m", '; filename="a"') + END,
        part("model", b"m", '; name="other"') + END,
        part("model", b"m", "; name*=utf-8''other") + END,
        part("model", b"bQ==", "\r\nContent-Transfer-Encoding: base64") + END,
        part("model", b"m", "\r\nContent-Type: text/plain; charset=utf-16") + END,
        part("model", b"m", "\r\n folded") + END,
        part("model", b"m" * 5000) + END,
        part("file", b"", f"\r\nX: {'y' * 9000}") + part("model", b"m") + END,
        part("file", b"a\n--b0undary\r\n" + b"x") + part("model", b"m") + END,
    ],
)
def test_a_form_that_could_be_read_in_two_ways_hides_its_model(body):
    """Nothing in it is trusted."""
    form = read(body)

    assert (form.is_clear, form.fields) == (False, {})
    assert call_of_form(form).hides_model


@pytest.mark.parametrize(
    "more",
    [
        '; filename="a \\"b\\".png"',
        '; filename="é.png"',
        "; filename=a.png; filename*=utf-8''%C3%A9.png",
        "\r\nContent-Type: audio/mpeg\r\nContent-Length: 3",
    ],
)
def test_files_of_usual_clients_leave_the_form_clear(more):
    """As curl, browsers and the SDKs write them."""
    form = read(part("file", b"abc", more) + part("model", b"m") + part("user", b"u") + END)

    call = call_of_form(form)
    assert (call.model, call.user_id, call.hides_model) == ("m", "u", False)


def test_a_form_that_streams_says_so():
    """As pictures and transcriptions may."""
    assert call_of_form(read(part("stream", b"true") + END)).is_streaming
    assert not call_of_form(read(part("stream", b"false") + END)).is_streaming


def test_an_absurd_model_is_refused():
    """As in a body of JSON."""
    with pytest.raises(Refusal):
        call_of_form(read(part("model", b"m" * 600) + END))


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"),
        (b'Multipart/Form-Data;boundary="a b"', b"a b"),
        (b"multipart/form-data", None),
        (b"multipart/form-data; boundary=", None),
        (b"multipart/form-data; boundary=a; boundary=b", None),
        (b"multipart/form-data; charset=utf-16; boundary=b", None),
        (b"multipart/mixed; boundary=abc", None),
        (b"application/json", None),
    ],
)
def test_the_boundary_is_what_every_reader_finds(content_type, boundary):
    """Or none."""
    assert boundary_of(content_type) == boundary
