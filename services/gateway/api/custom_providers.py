"""`/api/custom/providers`."""

from typing import Any, Final

from contracts.config.provider_settings import CustomProvider
from gateway.administration import custom_providers
from gateway.administration.custom_providers_wire import (
    CustomProviderChange,
    CustomProviderWire,
    NewCustomProvider,
    to_wire,
)
from gateway.administration.store import Store
from gateway.api.resource import Resource, Says, Words
from gateway.ports import CheckUpstreamUrl

_PATH: Final = "/api/custom/providers"
_INSTANCE: Final = "/api/providers"
"""What the original's errors name."""
_WORDS: Final = Words("custom provider validation failed", "custom provider is not found")

_EXAMPLE: Final = {
    "provider": "acme",
    "route_configs": [
        {
            "path": "/chat",
            "target_url": "https://api.acme.example/v2/chat",
            "model_location": "model",
            "request_prompt_location": "messages.#.content",
            "response_completion_location": "choices.#.message.content",
            "stream_location": "stream",
            "stream_end_word": "[DONE]",
            "stream_response_completion_location": "choices.#.delta.content",
            "stream_max_empty_messages": 10,
        }
    ],
    "authentication_param": "apikey",
}
_ANSWER_EXAMPLE: Final = {
    "id": "019ab0c4-5d2e-7c1a-9f00-2b7a4f1d6e55",
    "created_at": 1767225600,
    "updated_at": 1767225600,
    **_EXAMPLE,
}


def handlers(store: Store, check_url: CheckUpstreamUrl) -> list[Any]:
    """The routes of this resource."""
    resource = Resource(
        store,
        _PATH,
        "provider_id",
        CustomProviderWire,
        to_wire,
        _ANSWER_EXAMPLE,
        _WORDS,
        instance=_INSTANCE,
    )
    return [
        resource.creates(
            NewCustomProvider,
            custom_providers.create,
            Says(
                "Describe a custom provider",
                "Locations are paths into JSON, as gjson writes them.",
                _EXAMPLE,
            ),
            lambda new: custom_providers.check(new, check_url),
        ),
        resource.lists(
            lambda _, reading: reading.find(CustomProvider),
            Says("List custom providers", errors=()),
        ),
        resource.shows(custom_providers.get, Says("Get a custom provider")),
        resource.changes(
            CustomProviderChange,
            custom_providers.patch,
            Says(
                "Change a custom provider",
                "Route configs are merged by path: members that are not empty win,"
                " a new path needs all that are required.",
                {"authentication_param": "apikey"},
            ),
            lambda sent: custom_providers.check_change(sent, check_url),
        ),
        resource.deletes_unless_used(
            custom_providers.delete,
            Says("Delete a custom provider", "Refused while provider settings use it."),
        ),
    ]
