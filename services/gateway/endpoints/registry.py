"""Every endpoint, by method and path: whole paths first, templates only after a miss.

What a vendor's table does not know is forwarded all the same, under `/*wildcard`.
"""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import msgspec

from gateway.endpoints import bodies
from gateway.endpoints.azure import can_report_usage
from gateway.endpoints.described import PREFIXES, described
from gateway.endpoints.operations import (
    PARSE_WITH_MODEL_IN_PATH,
    UNKNOWN,
    UNKNOWN_OF_ANTHROPIC,
    Operation,
)
from gateway.endpoints.paths import ambiguous, segments_of
from gateway.endpoints.templates import (
    ANTHROPIC_ROWS,
    OPENAI_ROWS,
    Node,
    Row,
    find,
    tree_of,
)
from gateway.ports import HeaderPairs
from gateway.values import Endpoint, Refusal

_READS: Final = frozenset({"GET", "HEAD", "DELETE"})
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
_FOUND_MAX: Final = 4_096
_FOUND_PATH_CHARS_MAX: Final = 256
_PROVIDERS: Final = "/api/providers/"
_NO_HEADERS: Final[HeaderPairs] = []
_ALIASES: Final = {"/v1/audios/translations": "/v1/audio/translations"}
"""Other ways to write a path."""
_ACCOUNT: Final = frozenset({"organization", "organizations", "projects"})
"""What administers the account at a vendor begins with: OpenAI's first and last, Anthropic's."""


class _Surface(NamedTuple):
    """One prefix of paths: what comes before `/v1` of a template, and whose API follows.

    `upstream` is the provider's own prefix. `skips` segments come before the vendor's own.
    """

    prefix: str
    upstream: str
    provider: str | None
    dialect: str
    tree: Node
    rows: list[Row]
    skips: int
    names_model: bool = False
    reports_usage: Callable[[bytes], bool] | None = None


_OPENAI_TREE: Final = tree_of(OPENAI_ROWS)
_ANTHROPIC_TREE: Final = tree_of(ANTHROPIC_ROWS)
# Under the plain root OpenAI's API comes first; Anthropic's where OpenAI has no such path, or
# where the request says that it is Anthropic's, as every client of Anthropic's does.
_ROOT_ROWS: Final = [*ANTHROPIC_ROWS, *OPENAI_ROWS]

_ROOT: Final = _Surface("/v1", "/v1", None, "openai", tree_of(_ROOT_ROWS), _ROOT_ROWS, 1)
_SHARED: Final = (
    "/models",
    "/files",
    "/skills",
    "/agents",
    "/environments",
    "/sessions",
    "/vaults",
)
"""Both vendors have these."""
_ROOT_OF_ANTHROPIC: Final = _Surface(
    "/v1", "/v1", None, "anthropic", _ANTHROPIC_TREE, ANTHROPIC_ROWS, 1
)


def _provider_surface(name: str, dialect: str) -> _Surface:
    is_anthropic = dialect == "anthropic"
    tree = _ANTHROPIC_TREE if is_anthropic else _OPENAI_TREE
    rows = ANTHROPIC_ROWS if is_anthropic else OPENAI_ROWS
    return _Surface(f"{_PROVIDERS}{name}/v1", "/v1", name, dialect, tree, rows, 4)


def _azure(prefix: str, skips: int, *, names_model: bool = False) -> _Surface:
    return _Surface(
        f"{_PROVIDERS}azure{prefix}",
        prefix,
        "azure",
        "openai",
        _OPENAI_TREE,
        OPENAI_ROWS,
        skips,
        names_model,
        None if prefix == "/openai/v1" else can_report_usage,
    )


_AZURE: Final = _azure("/openai", 4)
_AZURE_V1: Final = _azure("/openai/v1", 5)
_AZURE_DEPLOYMENT: Final = _azure("/openai/deployments/:deployment_id", 6, names_model=True)
# Not called; its callers get their errors in Anthropic's shape all the same, and are on record.
_BEDROCK: Final = _Surface(
    f"{_PROVIDERS}bedrock/anthropic/v1",
    "/v1",
    "bedrock",
    "anthropic",
    _ANTHROPIC_TREE,
    ANTHROPIC_ROWS,
    5,
)


class Registry:
    """The endpoints of a set of providers: names, each with its own dialect, empty for none."""

    def __init__(self, providers: Iterable[tuple[str, str]]) -> None:
        self._surfaces = {
            name: _provider_surface(name, dialect)
            for name, dialect in providers
            if dialect and name != "azure"
        }
        self._found: dict[tuple[str, str], Endpoint] = {}
        self._whole: dict[tuple[str, str], Endpoint] = {}
        for surface in (*self._surfaces.values(), _AZURE, _AZURE_V1, _BEDROCK, _ROOT):
            for row in surface.rows:
                if ":" not in row.template:
                    path = surface.prefix + row.template
                    self._whole[row.method, path] = _endpoint(surface, row, path, None)
        self._of_anthropic = {
            (row.method, "/v1" + row.template): _endpoint(
                _ROOT_OF_ANTHROPIC, row, "/v1" + row.template, None
            )
            for row in ANTHROPIC_ROWS
            if ":" not in row.template and row.dialect == "anthropic"
        }

    def match(self, method: str, path: str, headers: HeaderPairs = _NO_HEADERS) -> Endpoint | None:
        """The endpoint of a path, None where nothing is served.

        Raises Refusal (400) for a path that a provider could take for another one, and for a
        websocket.
        """
        if method == "GET" and _is_websocket(headers):
            raise Refusal(
                400,
                "invalid_request_error",
                "websockets_not_served",
                "websockets are not served here",
            )
        key = (method, path)
        endpoint = self._whole.get(key) or self._found.get(key)
        if endpoint is None:
            endpoint = self._find(method, path)
            if endpoint is None:
                return None
            if len(path) <= _FOUND_PATH_CHARS_MAX:
                if len(self._found) >= _FOUND_MAX:
                    self._found.clear()
                self._found[key] = endpoint
        if endpoint.is_shared and _is_of_anthropic(headers):
            if endpoint.kind:
                return msgspec.structs.replace(endpoint, dialect="anthropic")
            return self._of_anthropic.get(key) or _found_in(
                _ROOT_OF_ANTHROPIC, method, path, segments_of(path)
            )
        if endpoint.is_shared and endpoint.dialect == "anthropic" and _is_of_openai(headers):
            return _wildcard(_ROOT, method, path, segments_of(path))
        return endpoint

    def _find(self, method: str, path: str) -> Endpoint | None:
        if path.startswith(PREFIXES):
            return described(method, path)
        if method not in _METHODS or not path.startswith(("/v1/", _PROVIDERS)):
            return None
        segments = segments_of(path)
        surface = _ROOT if path.startswith("/v1/") else self._surface(segments)
        if surface is None or len(segments) <= surface.skips:
            return None
        # An escape in our own prefix would shift what is cut off of the path.
        if not path.startswith(surface.prefix.partition(":")[0]):
            return None
        return _found_in(surface, method, path, segments)

    def _surface(self, segments: list[str]) -> _Surface | None:
        name = segments[2] if len(segments) > 3 else ""
        if name == "azure" and segments[3] == "openai":
            if len(segments) > 5 and segments[4] == "deployments":
                return _AZURE_DEPLOYMENT
            return _AZURE_V1 if segments[4:5] == ["v1"] else _AZURE
        if name == "bedrock":
            return _BEDROCK if segments[3:5] == ["anthropic", "v1"] else None
        surface = self._surfaces.get(name)
        return surface if surface is not None and segments[3] == "v1" else None


def _found_in(surface: _Surface, method: str, path: str, segments: list[str]) -> Endpoint:
    alias = _ALIASES.get("/v1/" + "/".join(segments[surface.skips :]))
    if alias is not None:
        own = segments[: surface.skips] + alias[4:].split("/")
        row = find(surface.tree, own, method, surface.skips)
        if row is not None:
            endpoint = _endpoint(surface, row, "/" + "/".join(own), None)
            return msgspec.structs.replace(endpoint, template=path)
    if surface.provider is None and method == "GET" and segments[1] == "models":
        # We answer this one ourselves, and a model's name may hold slashes.
        segments = [*segments[:2], "/".join(segments[2:])] if len(segments) > 2 else segments
    row = find(surface.tree, segments, method, surface.skips)
    if row is None:
        return _wildcard(surface, method, path, segments)
    if not row.template.startswith("/models/:"):
        _check_slashes(surface, segments)
    model = None
    if surface.names_model:
        model = segments[surface.skips - 1]
    elif row.template.startswith("/models/:"):
        model = segments[-1]
    return _endpoint(surface, row, path, model)


def _endpoint(surface: _Surface, row: Row, path: str, model: str | None) -> Endpoint:
    operation = row.operation
    parse = operation.parse
    if surface.names_model:
        parse = PARSE_WITH_MODEL_IN_PATH.get(parse, parse)
    return Endpoint(
        name=row.name,
        operation=operation.name,
        dialect=row.dialect,
        provider=surface.provider,
        template=surface.prefix + row.template,
        upstream_path=_upstream_path(surface, path),
        parse=parse,
        ask_usage=operation.ask_usage,
        can_report_usage=surface.reports_usage,
        model=model,
        is_priced=row.is_priced,
        is_shared=surface is _ROOT and row.template.startswith(_SHARED),
        lists_models=surface.provider is None
        and row.method == "GET"
        and row.template.startswith("/models"),
    )


def _check_slashes(surface: _Surface, segments: list[str]) -> None:
    """Raises Refusal (400) for a slash that is written as an escape: whoever undoes it sees another
    path. Names of models alone may hold one.
    """
    first = surface.skips - surface.names_model
    if any("/" in segment for segment in segments[first:]):
        raise ambiguous()


def _wildcard(surface: _Surface, method: str, path: str, segments: list[str]) -> Endpoint:
    _check_slashes(surface, segments)
    first = segments[surface.skips].partition(";")[0].lower()
    is_closed = first in _ACCOUNT
    operation: Operation = UNKNOWN_OF_ANTHROPIC if surface.dialect == "anthropic" else UNKNOWN
    reads = method in _READS
    return Endpoint(
        name=f"{surface.dialect}.{'organization' if is_closed else 'unknown'}",
        operation=operation.name,
        dialect=surface.dialect,
        provider=surface.provider,
        template=f"{surface.prefix}{f'/{first}' if is_closed else ''}/*wildcard",
        upstream_path=_upstream_path(surface, path),
        parse=bodies.silent if reads else operation.parse,
        ask_usage=None,
        can_report_usage=None,
        model=segments[surface.skips - 1] if surface.names_model else None,
        is_priced=reads,
        is_closed=is_closed,
        is_shared=surface is _ROOT,
    )


def _is_websocket(headers: HeaderPairs) -> bool:
    return any(name == b"upgrade" and b"websocket" in value.lower() for name, value in headers)


def _is_of_anthropic(headers: HeaderPairs) -> bool:
    return any(name == b"anthropic-version" for name, _ in headers)


def _is_of_openai(headers: HeaderPairs) -> bool:
    return any(name == b"openai-beta" for name, _ in headers)


def _upstream_path(surface: _Surface, path: str) -> bytes:
    """The provider's own path: what the client sent, byte for byte, without our prefix."""
    ours = len(surface.prefix) - len(surface.upstream)
    return path[ours:].encode("latin-1")
