"""Builds the head of a request, and refuses one that would say more than its caller meant."""

import re
from typing import Final

from gateway.ports import HeaderPairs, Origin, UpstreamRequest

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_TARGET: Final = re.compile(rb"[\x21-\x7e\x80-\xff]+").fullmatch
_CR, _LF, _NUL = b"\r\n\0"
"""As numbers: a text of one byte takes five times as long to look for."""
_RESERVED_NAMES: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})
_USUAL_METHODS: Final = frozenset({b"POST", b"GET"})
_BODYLESS_METHODS: Final = frozenset({b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE"})
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_KNOWN_NAMES_MAX: Final = 4096
_known_names: Final[set[bytes]] = set()


def authority(origin: Origin) -> bytes:
    """The value of `Host`. Raises ValueError when the origin is none that can be asked."""
    default_port = _DEFAULT_PORTS.get(origin.scheme)
    if default_port is None:
        raise ValueError(f"scheme {origin.scheme!r} is neither http nor https")
    if not 0 < origin.port < 65536:
        raise ValueError(f"port {origin.port} is out of range")
    host = origin.host.encode("idna" if not origin.host.isascii() else "ascii")
    if not host or re.search(rb"[\x00-\x20\x7f/?#@\\\[\]]", host):
        raise ValueError(f"host {origin.host!r} is no name or address")
    if b":" in host:
        host = b"[%b]" % host
    return host if origin.port == default_port else b"%b:%d" % (host, origin.port)


def framing(request: UpstreamRequest) -> HeaderPairs:
    """The one header that says how long the body is; none where a body is not expected."""
    if not isinstance(request.body, bytes):
        if request.content_length is not None:
            return [(b"Content-Length", b"%d" % request.content_length)]
        return [(b"Transfer-Encoding", b"chunked")]
    if not request.body and request.method in _BODYLESS_METHODS:
        return []
    return [(b"Content-Length", b"%d" % len(request.body))]


def encode_head(request: UpstreamRequest, host_line: bytes) -> bytes:
    """The bytes up to the body. `host_line` is ` HTTP/1.1\\r\\nHost: <authority>\\r\\n`.

    Raises ValueError for a method, target, name or value that could start a line of its own, and
    for a header that the engine itself writes.
    """
    method, target, headers, body = request.method, request.target, request.headers, request.body
    if method not in _USUAL_METHODS:
        _check_method(method)
    if not _TARGET(target):
        raise ValueError("the request target holds a space or a control character")
    lines: list[bytes] = []
    for pair in headers:
        if pair[0] not in _known_names:
            _learn_name(pair[0])
        lines.append(b": ".join(pair))
    said = b"".join(lines)
    if _CR in said or _LF in said or _NUL in said:
        raise ValueError("the request head holds CR, LF or NUL")
    if body and isinstance(body, bytes):
        lines.append(b"Content-Length: %d" % len(body))
    else:
        lines += map(b": ".join, framing(request))
    lines.append(b"\r\n")
    return b"%b %b%b%b" % (method, target, host_line, b"\r\n".join(lines))


def check_head(request: UpstreamRequest) -> None:
    """Refuses what `encode_head` refuses, for an engine that writes the head its own way."""
    encode_head(request, b" HTTP/1.1\r\nHost: " + authority(request.origin) + b"\r\n")


def _check_method(method: bytes) -> None:
    if method == b"CONNECT" or not _TOKEN(method):
        raise ValueError(f"method {method!r} cannot be sent")


def _learn_name(name: bytes) -> None:
    if not _TOKEN(name):
        raise ValueError(f"header name {name!r} holds a character that no name may hold")
    if name.lower() in _RESERVED_NAMES:
        raise ValueError(f"header {name!r} is written by the engine")
    if len(_known_names) < _KNOWN_NAMES_MAX:
        _known_names.add(name)
