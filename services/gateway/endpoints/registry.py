"""Every endpoint, by path. To add one: a file beside this, and a line here."""

from typing import Final

import msgspec

from gateway.endpoints import chat_completions
from gateway.values import Endpoint

_CHAT_COMPLETIONS: Final = Endpoint(
    name="openai.chat_completions",
    operation="chat",
    dialect="openai",
    provider="openai",
    method="POST",
    template="/api/providers/openai/v1/chat/completions",
    upstream_path=b"/v1/chat/completions",
    parse=chat_completions.parse,
    ask_usage=chat_completions.ask_usage,
)


def _at_root(endpoint: Endpoint) -> Endpoint:
    """The same endpoint under the plain root, where the key's settings decide the provider."""
    return msgspec.structs.replace(
        endpoint, provider=None, template=endpoint.upstream_path.decode()
    )


ENDPOINTS: Final = (
    _CHAT_COMPLETIONS,
    _at_root(_CHAT_COMPLETIONS),
)

_by_path: Final = {endpoint.template: endpoint for endpoint in ENDPOINTS}


def match(method: str, path: str) -> Endpoint | None:
    """The endpoint of a path and method, None when we serve no such thing."""
    endpoint = _by_path.get(path)
    return endpoint if endpoint is not None and endpoint.method == method else None
