"""Sorts the client's headers in one pass: credentials and framing stay, the rest goes on."""

from typing import Final

from gateway.ports import HeaderPairs
from gateway.values import Head, Refusal

# Hop-by-hop (RFC 9110 §7.6.1), framing, credentials of ours in any dialect, our own switches, and
# what is looked at before it goes on.
_LOOKED_AT: Final = frozenset(
    {
        b"host",
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
        b"content-length",
        b"accept-encoding",
        b"authorization",
        b"x-api-key",
        b"api-key",
        b"x-goog-api-key",
        b"x-custom-event-id",
        b"x-metadata",
        b"x-request-timeout",
        b"x-request-id",
        b"cookie",
        b"origin",
    }
)
_USUAL_CONNECTION: Final = frozenset({b"keep-alive", b"close", b""})

# The answer's bytes are metered as they come, so they must come uncompressed.
IDENTITY_ENCODING: Final = (b"accept-encoding", b"identity")


def sort_headers(headers: HeaderPairs, *, drops_user_agent: bool) -> Head:
    """The client's head, sorted. Raises Refusal for a Content-Length that is no number.

    Header names arrive in lower case. A credential is looked for in `x-api-key`, then `api-key`,
    then the second word of `authorization`, then `x-goog-api-key`.
    """
    forwarded: HeaderPairs = [IDENTITY_ENCODING]
    keep = forwarded.append
    x_api_key = api_key = bearer = google_key = origin = None
    custom_id = metadata = timeout = None
    content_length: int | None = None
    connection = b""
    for pair in headers:
        name = pair[0]
        if name not in _LOOKED_AT:
            keep(pair)
            continue
        value = pair[1]
        if name == b"authorization":
            bearer = value.partition(b" ")[2].strip() or None
        elif name == b"content-length":
            if not value.isdigit():
                raise Refusal(
                    400, "invalid_request_error", "bad_request", "Content-Length is no number"
                )
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
        content_length=content_length,
        custom_id=custom_id,
        metadata=metadata,
        timeout=timeout,
        origin=origin,
        forwarded=forwarded,
    )
