"""Paths below which operators say themselves what there is: routes and custom providers."""

from typing import Final
from urllib.parse import unquote

from gateway.endpoints import bodies
from gateway.values import Endpoint

_ROUTES: Final = ("/api/routes/", "/api/route/")
_CUSTOM: Final = "/api/custom/providers/"
PREFIXES: Final = (*_ROUTES, _CUSTOM)


def described(method: str, path: str) -> Endpoint | None:
    """The endpoint of such a path, which is looked up for every call: it may change at any time."""
    if method != "POST":
        return None
    for prefix in _ROUTES:
        if path.startswith(prefix):
            return _endpoint("route", "/api/routes/*route", ("/" + unquote(path[len(prefix) :]),))
    name, slash, rest = path[len(_CUSTOM) :].partition("/")
    if not slash or not name:
        return None
    names = (unquote(name), "/" + unquote(rest))
    return _endpoint("custom_provider", "/api/custom/providers/:provider/*wildcard", names)


def _endpoint(kind: str, template: str, names: tuple[str, ...]) -> Endpoint:
    return Endpoint(
        name=kind,
        operation="other",
        dialect="openai",
        provider=None,
        template=template,
        upstream_path=b"",
        parse=bodies.maybe_model,
        ask_usage=None,
        kind=kind,
        names=names,
        is_shared=kind == "route",
    )
