"""`/api/provider-settings`."""

from typing import Any

from litestar import Request, Response, get, route
from litestar.enums import HttpMethod

from gateway.administration import provider_settings
from gateway.administration.invalid import Invalid
from gateway.api.admin_body import read
from gateway.api.admin_problems import AdminProblem
from gateway.values import Provider

_PATH = "/api/provider-settings"


def handlers(store: provider_settings.SettingStore, providers: dict[str, Provider]) -> list[Any]:
    """The routes of this resource."""

    @route(_PATH, http_method=[HttpMethod.PUT, HttpMethod.POST], status_code=200)
    async def create_setting(request: Request[Any, Any, Any]) -> Response[Any]:
        new = await read(request, provider_settings.NewProviderSetting, _PATH)
        try:
            setting = await provider_settings.create(new, store, providers)
        except Invalid as error:
            raise AdminProblem(
                400, "validation", "provider setting validation failed", str(error), _PATH
            ) from None
        return Response(provider_settings.to_wire(setting), media_type="application/json")

    @get(_PATH)
    async def list_settings(request: Request[Any, Any, Any]) -> Response[Any]:
        found = await store.settings(request.query_params.getall("ids", []))
        return Response(
            [provider_settings.to_wire(setting) for setting in found],
            media_type="application/json",
        )

    return [create_setting, list_settings]
