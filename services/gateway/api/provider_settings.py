"""`/api/provider-settings`."""

from typing import Any, Final

from litestar import Request, Response, delete, get, patch, route
from litestar.enums import HttpMethod

from gateway.administration import provider_settings
from gateway.administration.provider_settings import SettingMeans
from gateway.administration.provider_settings_wire import (
    NewProviderSetting,
    ProviderSettingChange,
    ProviderSettingWire,
    to_wire,
)
from gateway.administration.store import Store
from gateway.api.admin_body import read
from gateway.api.admin_problems import refusing
from gateway.api.force import FORCE, is_forced
from gateway.api.guards import actor_of
from gateway.api.operation import Operation, QueryParameter, promises

_PATH: Final = "/api/provider-settings"
_ONE: Final = f"{_PATH}/{{setting_id:str}}"
_INSTANCE_OF_ONE: Final = f"{_PATH}/:id"
_INVALID: Final = "provider setting validation failed"
_NOT_FOUND: Final = "provider setting is not found"

_EXAMPLE: Final = {
    "provider": "openai",
    "name": "production",
    "setting": {"apikey": "sk-...", "url": "https://api.openai.com"},
    "allowedModels": ["gpt-4o-mini"],
    "costMap": {"promptCostPerModel": {"my-model": 0.001}},
}
_ANSWER_EXAMPLE: Final = {
    "createdAt": 1767225600,
    "updatedAt": 1767225600,
    "provider": "openai",
    "id": "019ab0c4-5d2e-7c1a-9f00-2b7a4f1d6e55",
    "name": "production",
    "allowedModels": ["gpt-4o-mini"],
    "costMap": {"promptCostPerModel": {"my-model": 0.001}},
    "setting": {"url": "https://api.openai.com"},
}


def handlers(store: Store, means: SettingMeans) -> list[Any]:
    """The routes of this resource."""

    @route(
        _PATH,
        http_method=[HttpMethod.PUT, HttpMethod.POST],
        status_code=200,
        opt=promises(
            Operation(
                summary="Create a provider setting",
                description="Secrets in `setting` are stored encrypted and never shown again.",
                scope="write",
                body=NewProviderSetting,
                answer=ProviderSettingWire,
                example=_EXAMPLE,
                answer_example=_ANSWER_EXAMPLE,
            )
        ),
    )
    async def create_setting(request: Request[Any, Any, Any]) -> Response[Any]:
        new = await read(request, NewProviderSetting, _PATH)
        with refusing(_PATH, _INVALID):
            setting = await provider_settings.create(new, store, actor_of(request), means)
        return Response(to_wire(setting), media_type="application/json")

    @get(
        _PATH,
        opt=promises(
            Operation(
                summary="List provider settings",
                description="Those with the ids, in their order; all when no id is given.",
                scope="read",
                answer=list[ProviderSettingWire],
                query=(QueryParameter("ids", "ids of settings", repeats=True),),
                errors=(404,),
                answer_example=[_ANSWER_EXAMPLE],
            )
        ),
    )
    async def list_settings(request: Request[Any, Any, Any]) -> Response[Any]:
        ids = request.query_params.getall("ids", [])
        with refusing(
            _PATH, _INVALID, not_found=_NOT_FOUND, not_found_kind="provider-settings-manager"
        ):
            async with store.read() as reading:
                found = await provider_settings.find(ids, reading)
        return Response([to_wire(setting) for setting in found], media_type="application/json")

    @patch(
        _ONE,
        opt=promises(
            Operation(
                summary="Change a provider setting",
                description="A `setting` must hold every member its provider requires, and is"
                " merged over the stored one; an empty text removes an optional member.",
                scope="write",
                body=ProviderSettingChange,
                answer=ProviderSettingWire,
                errors=(400, 404),
                example={"name": "", "allowedModels": []},
                answer_example=_ANSWER_EXAMPLE | {"name": "", "allowedModels": []},
            )
        ),
    )
    async def patch_setting(setting_id: str, request: Request[Any, Any, Any]) -> Response[Any]:
        sent = await read(request, ProviderSettingChange, _INSTANCE_OF_ONE)
        with refusing(_INSTANCE_OF_ONE, _INVALID, not_found=_NOT_FOUND):
            setting = await provider_settings.patch(
                setting_id, sent, store, actor_of(request), means
            )
        return Response(to_wire(setting), media_type="application/json")

    @delete(
        _ONE,
        status_code=200,
        opt=promises(
            Operation(
                summary="Delete a provider setting",
                description="Refused while keys or model aliases use it; `force=true` takes it"
                " from them.",
                scope="write",
                query=(FORCE,),
                errors=(400, 404),
            )
        ),
    )
    async def delete_setting(setting_id: str, request: Request[Any, Any, Any]) -> Response[bytes]:
        with refusing(_INSTANCE_OF_ONE, _INVALID, not_found=_NOT_FOUND):
            async with store.change(actor_of(request)) as change:
                await provider_settings.delete(setting_id, is_forced(request), change)
        return Response(b"", media_type="text/plain")

    return [create_setting, list_settings, patch_setting, delete_setting]
