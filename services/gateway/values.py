"""What flows between the rooms of the gateway: frozen values, and the one way to refuse."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol

import msgspec

from contracts.exchange import SettingRef, TextPlaces
from gateway.ports import HeaderPairs, Origin


class Inbound(msgspec.Struct, frozen=True):
    """A request as it came: head only. `query` is raw, without the question mark."""

    method: str
    path: str
    query: bytes
    headers: HeaderPairs
    received_at_ms: int
    received_at_ns: int
    """Monotonic."""


class Head(msgspec.Struct, frozen=True):
    """The client's headers, sorted: what is ours, and what goes on to the provider."""

    credential: str | None
    content_length: int | None
    custom_id: str | None
    metadata: str | None
    timeout: str | None
    origin: bytes | None
    forwarded: HeaderPairs


class Target(msgspec.Struct, frozen=True):
    """Where and as whom to call: a provider setting, made ready for the hot path.

    `auth_headers` by dialect. `secrets` must never come down.
    """

    ref: SettingRef
    provider: "Provider"
    origin: Origin
    base_path: bytes
    auth_headers: Mapping[str, "AuthHeaders"]
    secrets: tuple[bytes, ...]
    allowed_models: frozenset[str]
    cost_map: bytes | None
    asks_usage_on_streams: bool
    weight: int = 1
    priority: int = 0


class Principal(msgspec.Struct, frozen=True, gc=False):
    """Who is calling: a client key, as the snapshot holds it.

    `digest` is the SHA-256 of the key, `revision` that of the stored key. `allowed_paths` are pairs
    of method and route template. None allows all, and never expires.
    """

    key_id: str
    digest: bytes
    revision: int
    tags: tuple[str, ...]
    setting_ids: tuple[str, ...]
    allowed_paths: frozenset[tuple[str, str]] | None
    allowed_models: frozenset[str] | None
    expires_at_ms: int | None
    is_revoked: bool
    revoked_reason: str
    stores_request: bool
    stores_response: bool
    policy_id: str
    allows_unmetered_paths: bool = False
    has_budget: bool = False
    """Of its own: an amount of money or tokens that it may not exceed."""
    balancing: str = "first"


class EndUser(msgspec.Struct, frozen=True, gc=False):
    """Whom a key calls for, as the snapshot holds one. None allows all, and never expires."""

    id: str
    user_id: str
    revision: int
    tags: frozenset[str]
    key_ids: frozenset[str] | None
    allowed_paths: frozenset[tuple[str, str]] | None
    allowed_models: frozenset[str] | None
    expires_at_ms: int | None
    is_revoked: bool


class Call(msgspec.Struct, frozen=True):
    """The parsed request: what billing, limits and routing need to know of the body."""

    model: str | None
    is_streaming: bool
    user_id: str | None
    asks_usage: bool
    """On a stream: the client itself asked for the usage chunk."""
    hides_model: bool = False
    """It may name a model, or leave it to the provider, and we cannot tell which."""
    other_models: tuple[str, ...] = ()
    """Named beside the model: of tools, of whom to ask instead. Empty text: one that is unreadable."""
    is_deferred: bool = False
    """It is done after the answer, so that what it costs is not in there."""


class Endpoint(msgspec.Struct, frozen=True):
    """What a client asked of whom: a method and path, matched.

    `provider` is the provider that the path names, None when the key's settings decide. `dialect`
    picks the shape of errors. `template` is what `allowedPaths` names. `parse` raises Refusal for a
    body it cannot read. `ask_usage` splices the request for usage into a streaming body, None where
    there is no need; `can_report_usage` tells from the query whether the provider knows that.
    `model` is the one that the path names. `is_priced`: what it costs is known from its answer.
    `is_closed`: administers the account at the provider. `is_shared`: under the plain root, a path
    of Anthropic's too. `lists_models`: answered here, of what the key may use.
    `kind`: what an operator described, `route` or `custom_provider`, found by its `names`.
    """

    name: str
    operation: str
    dialect: str
    provider: str | None
    template: str
    upstream_path: bytes
    parse: Callable[[bytes], Call]
    ask_usage: Callable[[bytes], bytes] | None
    can_report_usage: Callable[[bytes], bool] | None = None
    model: str | None = None
    is_priced: bool = True
    is_closed: bool = False
    is_shared: bool = False
    lists_models: bool = False
    kind: str = ""
    names: tuple[str, ...] = ()
    route_id: str = ""
    text_places: TextPlaces | None = None


AuthHeaders = tuple[tuple[bytes, bytes], ...]


class Provider(msgspec.Struct, frozen=True):
    """A vendor: one row of the provider registry.

    `auth` turns the setting's values into headers, for each dialect that it speaks; the first one
    is its own. Without any it is not called: its settings are kept, no more. `required` are the
    keys that a `setting` must hold. `base` is used unless `setting.url` replaces it, with `{names}`
    of the setting's values filled in. `v1` is what `/v1` of a path becomes under the base.
    `model_prefixes` tell its models from others'.
    """

    name: str
    auth: Mapping[str, Callable[[Mapping[str, str]], AuthHeaders]]
    required: tuple[str, ...]
    base: str
    v1: bytes = b"/v1"
    takes_stream_options: bool = True
    model_prefixes: tuple[str, ...] = ()

    @property
    def dialect(self) -> str:
        """The API that it speaks, empty for one that is not called."""
        return next(iter(self.auth), "")


class Reply(Protocol):
    """The way back to the client."""

    def for_origin(self, origin: bytes) -> None:
        """The answer is for a page of this origin."""
        ...

    async def whole(self, status: int, headers: HeaderPairs, body: bytes) -> None:
        """Status, headers and the body in one go."""
        ...

    async def start(self, status: int, headers: HeaderPairs) -> None:
        """Status and headers; pieces follow."""
        ...

    async def piece(self, body: bytes) -> None:
        """One piece of the body, as it is."""
        ...

    async def end(self) -> None:
        """The last byte: a whole answer has gone out."""
        ...

    @property
    def is_gone(self) -> bool:
        """Whether the client has left."""
        ...

    @property
    def is_started(self) -> bool:
        """Whether anything of the answer has been said."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether the request body has come to its end."""
        ...

    async def read_body(self, bytes_max: int) -> bytes:
        """The request body. Raises Refusal (413) past the limit, ClientLeft when it is cut."""
        ...

    def pieces(self, bytes_max: int) -> AsyncIterator[bytes]:
        """The request body as it comes, in the place of `read_body`. Raises the same.

        Reading slowly stops the client (back-pressure).
        """
        ...


class ClientLeft(Exception):
    """The client closed the connection before its request was whole."""


class Refusal(Exception):
    """We say no, in the dialect's shape: the facts of an error object (table E3 of the surfaces)."""

    def __init__(
        self,
        status: int,
        kind: str,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s


def cut_short() -> Refusal:
    """400: the body ended before its framing said so, or its framing is wrong."""
    return Refusal(
        400, "invalid_request_error", "incomplete_body", "the request body did not arrive whole"
    )


def too_large(bytes_max: int) -> Refusal:
    """413: the body is over the limit."""
    return Refusal(
        413,
        "invalid_request_error",
        "request_too_large",
        f"the request body is over the limit of {bytes_max} bytes",
    )


def masked(credential: str) -> str:
    """The first five characters and 46 asterisks; of a short one, the first and five."""
    if len(credential) <= 5:
        return credential[:1] + "*" * 5
    return credential[:5] + "*" * 46
