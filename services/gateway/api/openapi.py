"""The OpenAPI document of 8001: the admin API, and the reports passed on."""

from importlib.metadata import version
from typing import Any, Final

from contracts.reports import REPORT_TAGS
from runtime.openapi import describe_api
from runtime.routes import RouteTable

TAGS: Final = {
    "keys": "Who may call, with which provider settings, up to which limits.",
    "tags": "Limits that all keys with a tag share: an organisation is a tag.",
    "users": "Whom a key's holder calls for.",
    "provider settings": "Where to call, and as whom.",
    "model aliases": "Names of models of your own.",
    "custom providers": "Providers that Tollway does not know.",
    "routes": "Paths of your own, with steps that fall back on each other.",
    "policies": "What may be in a request.",
    "admin tokens": "Named credentials of this API.",
    "audit log": "Who changed what.",
    **REPORT_TAGS,
    "service": "Whether it lives, and what it answers.",
}

_BY_PATH: Final = (
    ("/api/key-management/", "keys"),
    ("/api/v2/key-management/", "keys"),
    ("/api/tags", "tags"),
    ("/api/users", "users"),
    ("/api/provider-settings", "provider settings"),
    ("/api/model-aliases", "model aliases"),
    ("/api/custom/providers", "custom providers"),
    ("/api/routes", "routes"),
    ("/api/route", "routes"),
    ("/api/policies", "policies"),
    ("/api/admin-tokens", "admin tokens"),
    ("/api/audit-log", "audit log"),
)

_TEXT: Final = (
    "Configures Tollway. Member names are matched whatever their case, null is the same as absent,"
    " and unknown members are ignored unless they look like a misspelt one. Times are Unix seconds,"
    " money is in US dollars. A change is in force in every worker within a second. Errors have one"
    " shape, `Refusal`; its `instance` is a template, not the URL that was asked. A path that is not"
    " here, or another method, is 404 in plain text."
)


def tag_of(template: str) -> str:
    """The group of a path whose operation names none."""
    return next((tag for start, tag in _BY_PATH if template.startswith(start)), "service")


def describe_admin(table: RouteTable) -> dict[str, Any]:
    """The document. Raises ValueError when a route promises nothing."""
    return describe_api("Tollway admin API", _TEXT, version("tollway"), table.routes, TAGS, tag_of)
