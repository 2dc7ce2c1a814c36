"""`/api/custom/providers`; errors name `/api/providers`, as the original's do."""

from typing import Any, Final

from litestar import Request, Response, delete, get, patch, route
from litestar.enums import HttpMethod

from contracts.config.provider_settings import CustomProvider
from gateway.administration import custom_providers
from gateway.administration.custom_providers_wire import (
    CustomProviderChange,
    CustomProviderWire,
    NewCustomProvider,
    to_wire,
)
from gateway.administration.store import Store
from gateway.api.admin_body import read
from gateway.api.admin_problems import refusing
from gateway.api.force import FORCE, is_forced
from gateway.api.guards import actor_of, may_redirect
from gateway.api.operation import Operation, promises
from gateway.ports import CheckUpstreamUrl

_PATH: Final = "/api/custom/providers"
_ONE: Final = f"{_PATH}/{{provider_id:str}}"
_INSTANCE: Final = "/api/providers"
_INSTANCE_OF_ONE: Final = "/api/providers/:id"
_INVALID: Final = "custom provider validation failed"
_NOT_FOUND: Final = "custom provider is not found"

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

    @route(
        _PATH,
        http_method=[HttpMethod.POST, HttpMethod.PUT],
        status_code=200,
        opt=promises(
            Operation(
                summary="Describe a custom provider",
                description="Locations are paths into JSON, as gjson writes them.",
                scope="write",
                body=NewCustomProvider,
                answer=CustomProviderWire,
                example=_EXAMPLE,
                answer_example=_ANSWER_EXAMPLE,
            )
        ),
    )
    async def create_custom_provider(request: Request[Any, Any, Any]) -> Response[Any]:
        new = await read(request, NewCustomProvider, _INSTANCE)
        with refusing(_INSTANCE, _INVALID):
            await custom_providers.check(new, check_url)
            async with store.change(actor_of(request)) as change:
                provider = await custom_providers.create(
                    new, change, may_redirect=may_redirect(request)
                )
        return Response(to_wire(provider), media_type="application/json")

    @get(
        _PATH,
        opt=promises(
            Operation(
                summary="List custom providers",
                scope="read",
                answer=list[CustomProviderWire],
                errors=(),
                answer_example=[_ANSWER_EXAMPLE],
            )
        ),
    )
    async def list_custom_providers() -> Response[Any]:
        async with store.read() as reading:
            found = await reading.find(CustomProvider)
        return Response([to_wire(one) for one in found], media_type="application/json")

    @get(
        _ONE,
        opt=promises(
            Operation(
                summary="Get a custom provider",
                scope="read",
                answer=CustomProviderWire,
                errors=(404,),
                answer_example=_ANSWER_EXAMPLE,
            )
        ),
    )
    async def get_custom_provider(provider_id: str) -> Response[Any]:
        with refusing(_INSTANCE_OF_ONE, _INVALID, not_found=_NOT_FOUND):
            async with store.read() as reading:
                provider = await custom_providers.get(provider_id, reading)
        return Response(to_wire(provider), media_type="application/json")

    @patch(
        _ONE,
        opt=promises(
            Operation(
                summary="Change a custom provider",
                description="Route configs are merged by path: members that are not empty win,"
                " a new path needs all that are required.",
                scope="write",
                body=CustomProviderChange,
                answer=CustomProviderWire,
                errors=(400, 404),
                example={"authentication_param": "apikey"},
                answer_example=_ANSWER_EXAMPLE,
            )
        ),
    )
    async def patch_custom_provider(
        provider_id: str, request: Request[Any, Any, Any]
    ) -> Response[Any]:
        sent = await read(request, CustomProviderChange, _INSTANCE_OF_ONE)
        with refusing(_INSTANCE_OF_ONE, _INVALID, not_found=_NOT_FOUND):
            await custom_providers.check_change(sent, check_url)
            async with store.change(actor_of(request)) as change:
                provider = await custom_providers.patch(
                    provider_id, sent, change, may_redirect=may_redirect(request)
                )
        return Response(to_wire(provider), media_type="application/json")

    @delete(
        _ONE,
        status_code=200,
        opt=promises(
            Operation(
                summary="Delete a custom provider",
                description="Refused while provider settings use it.",
                scope="write",
                query=(FORCE,),
                errors=(400, 404),
            )
        ),
    )
    async def delete_custom_provider(
        provider_id: str, request: Request[Any, Any, Any]
    ) -> Response[bytes]:
        with refusing(_INSTANCE_OF_ONE, _INVALID, not_found=_NOT_FOUND):
            async with store.change(actor_of(request)) as change:
                await custom_providers.delete(provider_id, is_forced(request), change)
        return Response(b"", media_type="text/plain")

    return [
        create_custom_provider,
        list_custom_providers,
        get_custom_provider,
        patch_custom_provider,
        delete_custom_provider,
    ]
