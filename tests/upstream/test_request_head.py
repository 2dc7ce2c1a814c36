"""The head of a request: what Host says, and that an injected line is always found."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters.request_head import authority, encode_head
from gateway.ports import Origin, UpstreamRequest

ORIGIN = Origin("http", "provider.example", 80)
HOST_LINE = b" HTTP/1.1\r\nHost: provider.example\r\n"


@pytest.mark.parametrize(
    ("scheme", "host", "port", "expected"),
    [
        ("http", "provider.example", 80, b"provider.example"),
        ("https", "provider.example", 443, b"provider.example"),
        ("https", "provider.example", 80, b"provider.example:80"),
        ("http", "::1", 8080, b"[::1]:8080"),
        ("https", "::1", 443, b"[::1]"),
        ("https", "bücher.example", 443, b"xn--bcher-kva.example"),
    ],
)
def test_host_names_the_origin(scheme: str, host: str, port: int, expected: bytes) -> None:
    """Without the scheme's own port, addresses of version 6 in brackets, names in ASCII."""
    assert authority(Origin(scheme, host, port)) == expected


@pytest.mark.parametrize(
    "origin",
    [
        Origin("ftp", "provider.example", 21),
        Origin("http", "", 80),
        Origin("http", "a b", 80),
        Origin("http", "a\r\nX: y", 80),
        Origin("http", "user@host", 80),
        Origin("http", "host/path", 80),
        Origin("http", "host", 0),
        Origin("http", "host", 65_536),
    ],
    ids=str,
)
def test_an_origin_that_is_none_is_refused(origin: Origin) -> None:
    """A host that could change the request line or the authority is no host."""
    with pytest.raises(ValueError, match=r"scheme|host|port"):
        authority(origin)


@given(
    name=st.binary(max_size=8),
    value=st.binary(max_size=12) | st.sampled_from([b"a\r\nb: c", b"\n", b"\r", b"\0"]),
    target=st.binary(max_size=8).map(b"/".__add__),
)
def test_a_head_that_is_built_says_exactly_what_was_meant(
    name: bytes, value: bytes, target: bytes
) -> None:
    """Taken apart again by line ends and first colons, it gives back what was put in."""
    request = UpstreamRequest(ORIGIN, b"POST", target, [(name, value)], b"xy", 1.0)
    try:
        head = encode_head(request, HOST_LINE)
    except ValueError:
        return

    lines = head.split(b"\r\n")
    assert lines[0].split(b" ") == [b"POST", target, b"HTTP/1.1"]
    assert lines[1] == b"Host: provider.example"
    assert tuple(lines[2].split(b": ", 1)) == (name, value)
    assert lines[3:] == [b"Content-Length: 2", b"", b""]
    assert not set(b"\r\n\0") & set(b"".join(lines))


@given(
    name=st.from_regex(rb"\AX-[A-Za-z0-9-]{1,10}\Z"), value=st.from_regex(rb"\A[ -~\x80-\xff]*\Z")
)
def test_ordinary_headers_are_not_refused(name: bytes, value: bytes) -> None:
    """Any text without control characters is a value."""
    request = UpstreamRequest(ORIGIN, b"POST", b"/v1", [(name, value)], b"", 1.0)

    assert b"\r\n%b: %b\r\n" % (name, value) in encode_head(request, HOST_LINE)
