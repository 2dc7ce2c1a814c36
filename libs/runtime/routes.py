"""What an app of ours answers, read off its routes: every method, path and what it promises."""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from litestar import Litestar
from litestar.routes import HTTPRoute
from litestar.types.internal_types import PathParameterDefinition

from contracts.operation import Operation

_IMPLICIT: Final = frozenset({"OPTIONS", "HEAD"})
"""What the framework adds and we do not promise."""


class Route(msgspec.Struct, frozen=True):
    """One method of one path; `template` is as OpenAPI writes it: `/api/users/{id}`."""

    method: str
    template: str
    operation: Operation | None
    pattern: Any


class RouteTable:
    """Implements admin_gate.Routes."""

    def __init__(self, app: Litestar) -> None:
        self.routes = tuple(sorted(_routes(app), key=lambda route: (route.template, route.method)))
        self._open = frozenset(
            (route.method, route.template)
            for route in self.routes
            if route.operation is not None and route.operation.is_open
        )
        self._patterns: dict[str, list[re.Pattern[str]]] = {}
        for route in self.routes:
            self._patterns.setdefault(route.method, []).append(route.pattern)

    def is_known(self, method: str, path: str) -> bool:
        """See Routes."""
        return any(pattern.fullmatch(path) for pattern in self._patterns.get(method, ()))

    def is_open(self, method: str, path: str) -> bool:
        """See Routes. An open route's path has no parameters, so that nothing else is opened."""
        return (method, path) in self._open


def _routes(app: Litestar) -> Iterator[Route]:
    for route in app.routes:
        if not isinstance(route, HTTPRoute):
            continue
        template, pattern = _template_of(route)
        for handler in route.route_handlers:
            operation = handler.opt.get("operation")
            by_method = handler.opt.get("operations", {})
            for method in handler.http_methods:
                if str(method) in _IMPLICIT:
                    continue
                yield Route(str(method), template, by_method.get(str(method), operation), pattern)


def _template_of(route: HTTPRoute) -> tuple[str, re.Pattern[str]]:
    template, pattern = "", ""
    for part in route.path_components:
        if isinstance(part, PathParameterDefinition):
            template += f"/{{{part.name}}}"
            pattern += "/.+" if part.type.__name__ == "Path" else "/[^/]+"
        else:
            template += f"/{part}"
            pattern += "/" + re.escape(part)
    return template or "/", re.compile(pattern or "/", re.DOTALL)
