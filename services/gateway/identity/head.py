"""Sorts the client's headers in one pass: credentials and framing stay, the rest goes on."""

from itertools import chain
from typing import Final

from gateway.ports import HeaderPairs
from gateway.values import Head, Refusal

# Hop-by-hop (RFC 9110 §7.6.1), what belongs to our own origin, and other names for the method, of
# which the price depends.
_DROPPED: Final = frozenset(
    {
        b"host",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"upgrade",
        b"expect",
        b"accept-encoding",
        b"x-request-id",
        b"cookie",
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
        b"sec-websocket-accept",
        b"sec-websocket-extensions",
        b"sec-websocket-key",
        b"sec-websocket-protocol",
        b"sec-websocket-version",
    }
)
# The same, framing, credentials of ours in any dialect, our own switches, and what is looked at
# before it goes on.
_LOOKED_AT: Final = _DROPPED | {
    b"connection",
    b"transfer-encoding",
    b"content-length",
    b"authorization",
    b"x-api-key",
    b"api-key",
    b"x-goog-api-key",
    b"x-custom-event-id",
    b"x-metadata",
    b"x-request-timeout",
    b"origin",
}
_USUAL_CONNECTION: Final = frozenset({b"keep-alive", b"close", b""})

# The answer's bytes are metered as they come, so they must come uncompressed.
IDENTITY_ENCODING: Final = (b"accept-encoding", b"identity")
HEAD_BYTES_MAX: Final = 65_536


def sort_headers(
    headers: HeaderPairs, *, drops_user_agent: bool, head_bytes_max: int = HEAD_BYTES_MAX
) -> Head:
    """The client's head, sorted.

    Raises Refusal (431) for a head that is too long: our server's own limit is not exact.

    Header names arrive in lower case. A credential is looked for in `x-api-key`, then `api-key`,
    then the second word of `authorization`, then `x-goog-api-key`.
    """
    forwarded: HeaderPairs = [IDENTITY_ENCODING]
    keep = forwarded.append
    x_api_key = api_key = bearer = google_key = origin = None
    custom_id = metadata = timeout = None
    content_length: int | None = None
    connection = b""
    is_chunked = False
    if sum(map(len, chain.from_iterable(headers))) + 4 * len(headers) > head_bytes_max:
        raise Refusal(
            431, "invalid_request_error", "headers_too_large", "the request headers are too large"
        )
    for pair in headers:
        name = pair[0]
        if name not in _LOOKED_AT:
            keep(pair)
            continue
        if name in _DROPPED:
            continue
        value = pair[1]
        if name == b"authorization":
            bearer = value.partition(b" ")[2].strip() or None
        elif name == b"content-length":
            content_length = int(value)
        elif name == b"x-api-key":
            x_api_key = value
        elif name == b"api-key":
            api_key = value
        elif name == b"x-goog-api-key":
            google_key = value
        elif name == b"origin":
            origin = value
            keep(pair)
        elif name == b"connection":
            connection = connection + b"," + value if connection else value
        elif name == b"x-custom-event-id":
            custom_id = value.decode("latin-1")
        elif name == b"x-metadata":
            metadata = value.decode("utf-8", "replace")
        elif name == b"x-request-timeout":
            timeout = value.decode("latin-1")
        elif name == b"transfer-encoding":
            is_chunked = True
    if connection.lower() not in _USUAL_CONNECTION:
        named = {token.strip().lower() for token in connection.split(b",")}
        forwarded = [
            pair for pair in forwarded if pair[0] not in named or pair is IDENTITY_ENCODING
        ]
    if drops_user_agent:
        forwarded = [pair for pair in forwarded if pair[0] != b"user-agent"]
    credential = x_api_key or api_key or bearer or google_key
    return Head(
        credential=None if credential is None else credential.decode("latin-1"),
        content_length=None if is_chunked else content_length or 0,
        custom_id=custom_id,
        metadata=metadata,
        timeout=timeout,
        origin=origin,
        forwarded=forwarded,
    )
