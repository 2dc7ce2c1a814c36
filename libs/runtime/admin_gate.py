"""The door of the admin API and of reporting: one ASGI app in front of another.

It answers before any route is looked for, so that who has no credential learns nothing of what is
behind it: 401 for a path that exists and for one that does not.
"""

import hmac
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Any, Final, Protocol

import msgspec

from contracts.config.admin_tokens import (
    SCOPES,
    AdminToken,
    Scope,
    hash_token,
    is_meant_as_token,
    is_token_text,
)
from runtime.loopback import is_local_authority, is_same_origin
from runtime.settings import Secret

App = Callable[[Any, Any, Any], Awaitable[None]]

_EVERYTHING: Final = frozenset(SCOPES)
_KEYS_PATHS: Final = (
    "/api/key-management/",
    "/api/v2/key-management/",
    "/api/users",
    "/api/tags/",
)
"""What the scope `keys` sees."""


class Caller(msgspec.Struct, frozen=True):
    """Who asks, as the audit log names them, and what they may do."""

    actor: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope, path: str) -> bool:
        """Whether a route that needs `scope` is theirs to use; who may write may also read."""
        if "write" in self.scopes or scope in self.scopes:
            return True
        return scope == "read" and "keys" in self.scopes and path.startswith(_KEYS_PATHS)


ANYBODY: Final = Caller("anonymous", _EVERYTHING)


class TokensUnavailable(Exception):
    """Whether a token is good cannot be said at the moment."""


class Tokens(Protocol):
    """The admin tokens."""

    async def find(self, token_hash: str, /) -> AdminToken | None:
        """The token with this hash, expired or not. Raises TokensUnavailable."""
        ...


class Routes(Protocol):
    """What is behind the door."""

    def is_known(self, method: str, path: str) -> bool:
        """Whether a route has this method and path."""
        ...

    def is_open(self, method: str, path: str) -> bool:
        """Whether that route asks for no credential."""
        ...


class Refusal(msgspec.Struct, frozen=True):
    """The error body of 8001 and 8003; all five fields are always there, in this order."""

    type: str
    title: str
    status: int
    detail: str
    instance: str


class AdminGate:
    """`now_s` gives Unix seconds. The caller is left in `scope["state"]["caller"]`."""

    def __init__(
        self, app: App, admin_pass: Secret, tokens: Tokens, routes: Routes, now_s: Callable[[], int]
    ) -> None:
        self._app = app
        text = admin_pass.reveal()
        self._expected = sha256(text.encode()).digest() if text else None
        self._tokens = tokens
        self._routes = routes
        self._now_s = now_s

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        method, path = scope["method"], scope["path"]
        headers = _first_values(scope["headers"])
        if self._routes.is_open(method, path):
            caller: Caller | None = ANYBODY
        else:
            refusal = self._refusal_of_a_web_page(headers, path)
            if refusal is None:
                try:
                    caller = await self._caller(headers)
                except TokensUnavailable:
                    refusal = _unavailable(path)
                else:
                    refusal = _unauthorized(path) if caller is None else None
            if refusal is not None:
                await _send_refusal(send, refusal, closes=_has_body(headers))
                return
        if not self._routes.is_known(method, path):
            await self._send_elsewhere(send, scope)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)

    def _refusal_of_a_web_page(self, headers: Mapping[str, str], path: str) -> Refusal | None:
        """Without a password the browser of whoever sits here is all that a foreign page needs."""
        if self._expected is not None:
            return None
        authority, origin = headers.get("host", ""), headers.get("origin")
        if not is_local_authority(authority):
            return _forbidden(
                "without ADMIN_PASS only requests to localhost or a loopback address are answered",
                path,
            )
        if origin is not None and not is_same_origin(origin, authority):
            return _forbidden("without ADMIN_PASS pages of other sites are refused", path)
        return None

    async def _caller(self, headers: Mapping[str, str]) -> Caller | None:
        given = [headers.get("x-api-key", "")]
        scheme, _, credential = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            given.append(credential.strip())
        if self._expected is not None:
            for text in given:
                # Digests are of one length: not even the password's length is told by time.
                digest = sha256(text.encode("latin-1")).digest()
                if hmac.compare_digest(digest, self._expected):
                    return Caller("admin", _EVERYTHING)
        for text in given:
            if not is_meant_as_token(text):
                continue
            if not is_token_text(text):
                return None
            token = await self._tokens.find(hash_token(text))
            if token is None or (
                token.expires_at is not None and token.expires_at <= self._now_s()
            ):
                return None
            return Caller(f"token:{token.name}", frozenset(token.scopes))
        return None if self._expected is not None else ANYBODY

    async def _send_elsewhere(self, send: Any, scope: Any) -> None:
        method, path = scope["method"], scope["path"]
        if path.endswith("/") and self._routes.is_known(method, path[:-1]):
            location = scope["raw_path"].rstrip(b"/")
            if scope["query_string"]:
                location += b"?" + scope["query_string"]
            await _send(send, 301 if method == "GET" else 307, b"", [(b"location", location)])
            return
        content = b"" if method == "HEAD" else b"404 page not found"
        await _send(send, 404, content, [(b"content-type", b"text/plain; charset=utf-8")])


def _first_values(headers: Any) -> dict[str, str]:
    first: dict[str, str] = {}
    for name, value in headers:
        first.setdefault(bytes(name).lower().decode("latin-1"), bytes(value).decode("latin-1"))
    return first


def _unauthorized(path: str) -> Refusal:
    return Refusal(
        "/errors/unauthorized",
        "admin credential is missing or wrong",
        401,
        "send ADMIN_PASS or an admin token in the X-API-KEY header, or as a bearer token",
        path,
    )


def _forbidden(detail: str, path: str) -> Refusal:
    return Refusal("/errors/forbidden", "request is refused", 403, detail, path)


def _unavailable(path: str) -> Refusal:
    return Refusal(
        "/errors/unavailable",
        "admin tokens cannot be read at the moment",
        503,
        "try again later",
        path,
    )


def _has_body(headers: Mapping[str, str]) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


async def _send_refusal(send: Any, refusal: Refusal, *, closes: bool) -> None:
    # A path may hold what is no text; what is shown of it is.
    shown = refusal.instance.encode("utf-8", "replace").decode()
    content = msgspec.json.encode(msgspec.structs.replace(refusal, instance=shown))
    headers = [(b"content-type", b"application/json; charset=utf-8")]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="tollway"'))
    if closes:
        # The body was not read: what comes next on this connection is no request.
        headers.append((b"connection", b"close"))
    await _send(send, refusal.status, content, headers)


async def _send(send: Any, status: int, content: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    length = (b"content-length", b"%d" % len(content))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": content})
