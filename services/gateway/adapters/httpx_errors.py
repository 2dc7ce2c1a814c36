"""httpx's exceptions as the port's: which one depends on whether the head had come."""

from typing import Final

import httpx

from gateway.ports import (
    ConnectFailed,
    ConnectTimedOut,
    MalformedResponse,
    PoolTimedOut,
    ReadTimedOut,
    ResetBeforeResponse,
    ResponseCut,
    UpstreamError,
    WriteTimedOut,
)

_Kind = type[UpstreamError]

BEFORE_HEAD_AND_IN_BODY: Final[dict[type[Exception], tuple[_Kind, _Kind]]] = {
    httpx.ConnectTimeout: (ConnectTimedOut, ConnectTimedOut),
    httpx.PoolTimeout: (PoolTimedOut, PoolTimedOut),
    httpx.WriteTimeout: (WriteTimedOut, WriteTimedOut),
    httpx.ReadTimeout: (ReadTimedOut, ReadTimedOut),
    httpx.TimeoutException: (ReadTimedOut, ReadTimedOut),
    httpx.ConnectError: (ConnectFailed, ConnectFailed),
    httpx.ProxyError: (ConnectFailed, ConnectFailed),
    httpx.UnsupportedProtocol: (ConnectFailed, ConnectFailed),
    httpx.ReadError: (ResetBeforeResponse, ResponseCut),
    httpx.WriteError: (ResetBeforeResponse, ResponseCut),
    httpx.CloseError: (ResetBeforeResponse, ResponseCut),
    httpx.NetworkError: (ResetBeforeResponse, ResponseCut),
    # What the local side complains of is a connection that the other side has left half-way.
    httpx.LocalProtocolError: (ResetBeforeResponse, ResponseCut),
    httpx.RemoteProtocolError: (MalformedResponse, MalformedResponse),
    httpx.ProtocolError: (MalformedResponse, MalformedResponse),
    httpx.DecodingError: (MalformedResponse, MalformedResponse),
    httpx.TransportError: (ResetBeforeResponse, ResponseCut),
    httpx.RequestError: (ResetBeforeResponse, ResponseCut),
    httpx.HTTPError: (ResetBeforeResponse, ResponseCut),
}

MISUSES: Final[frozenset[type[Exception]]] = frozenset(
    {
        # Of the client's upper layers, which this engine does not use.
        httpx.HTTPStatusError,
        httpx.TooManyRedirects,
        httpx.CookieConflict,
        # Errors in our own program; they pass through as they are.
        httpx.InvalidURL,
        httpx.StreamError,
        httpx.StreamConsumed,
        httpx.StreamClosed,
        httpx.ResponseNotRead,
        httpx.RequestNotRead,
    }
)

_ENDED: Final = (
    "Server disconnected",
    "peer closed connection",
    "<ConnectionTerminated",
    "<StreamReset",
)


def upstream_error(error: httpx.HTTPError, *, has_head: bool) -> UpstreamError:
    """The port's error for one of httpx's."""
    # One class tells an ended connection and nonsense; only its text tells them apart.
    if isinstance(error, httpx.RemoteProtocolError) and str(error).startswith(_ENDED):
        return ResponseCut(str(error)) if has_head else ResetBeforeResponse(str(error))
    for kind in type(error).__mro__:
        pair = BEFORE_HEAD_AND_IN_BODY.get(kind)
        if pair is not None:
            return pair[has_head](f"{type(error).__name__}: {error}")
    return UpstreamError(str(error))
