"""`/api/routes`."""

from typing import Any, Final

from contracts.config.routes import Route
from gateway.administration import routes
from gateway.administration.routes_wire import NewRoute, RouteChange, RouteWire, to_wire
from gateway.administration.store import Store
from gateway.api.resource import Resource, Says, Words
from gateway.values import Provider

_PATH: Final = "/api/routes"
_WORDS: Final = Words(
    # The original's title, mistaken but matched upon.
    "custom provider validation failed",
    "route not found error",
    "route-not-found",
)

_EXAMPLE: Final = {
    "name": "chat with a second string",
    "path": "/production/chat",
    "keyIds": ["019ab0c4-5d2e-7c1a-9f00-2b7a4f1d6e01"],
    "steps": [
        {"provider": "openai", "model": "gpt-4o", "retries": 1, "timeout": "20s"},
        {"provider": "openai", "model": "gpt-4o-mini", "requestParams": {"temperature": 0.2}},
    ],
    "cacheConfig": {"enabled": True, "ttl": "1h"},
    "retryStrategy": "exponential",
}
_ANSWER_EXAMPLE: Final = {
    "id": "019ab0c4-5d2e-7c1a-9f00-2b7a4f1d6e55",
    "retryStrategy": "exponential",
    "requestFormat": "",
    "createdAt": 1767225600,
    "updatedAt": 1767225600,
    "name": "chat with a second string",
    "path": "/production/chat",
    "keyIds": ["019ab0c4-5d2e-7c1a-9f00-2b7a4f1d6e01"],
    "steps": [
        {
            "retries": 1,
            "retryInterval": "1s",
            "provider": "openai",
            "requestParams": None,
            "params": None,
            "model": "gpt-4o",
            "timeout": "20s",
        },
        {
            "retries": 0,
            "retryInterval": "1s",
            "provider": "openai",
            "requestParams": {"temperature": 0.2},
            "params": None,
            "model": "gpt-4o-mini",
            "timeout": "5m",
        },
    ],
    "cacheConfig": {"enabled": True, "ttl": "1h"},
}


def handlers(store: Store, providers: dict[str, Provider]) -> list[Any]:
    """The routes of this resource."""
    resource = Resource(store, _PATH, "route_id", RouteWire, to_wire, _ANSWER_EXAMPLE, _WORDS)
    change_example = {"name": "chat", "cacheConfig": {"enabled": False}}
    return [
        resource.creates(
            NewRoute,
            lambda new, change: routes.create(new, change, providers),
            Says(
                "Create a route",
                "Steps are tried in turn. failoverOn says which answers of a step go"
                " on to the next: retryable, those that another provider may heal, or any.",
                _EXAMPLE,
            ),
        ),
        resource.lists(lambda _, reading: reading.find(Route), Says("List routes", errors=())),
        resource.shows(routes.get, Says("Get a route")),
        resource.changes(
            RouteChange,
            lambda route_id, sent, change: routes.patch(route_id, sent, change, providers),
            Says(
                "Change a route",
                "What is given replaces; the whole is checked as a new route is.",
                change_example,
                _ANSWER_EXAMPLE | change_example | {"cacheConfig": {"enabled": False, "ttl": ""}},
            ),
        ),
        resource.deletes(
            lambda route_id, change: change.delete(Route, route_id),
            Says("Delete a route", "Also says 200 when there is none.", errors=()),
        ),
    ]
