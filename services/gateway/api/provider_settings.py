"""`/api/provider-settings`."""

from typing import Any

from litestar import Request, Response, get, route
from litestar.enums import HttpMethod

from contracts.config.provider_settings import ProviderSetting
from gateway.administration import provider_settings
from gateway.administration.store import Query, Store
from gateway.api.admin_body import read
from gateway.api.admin_problems import refusing
from gateway.api.guards import actor_of
from gateway.ports import Sealer
from gateway.values import Provider

_PATH = "/api/provider-settings"


def handlers(store: Store, sealer: Sealer, providers: dict[str, Provider]) -> list[Any]:
    """The routes of this resource."""

    @route(_PATH, http_method=[HttpMethod.PUT, HttpMethod.POST], status_code=200)
    async def create_setting(request: Request[Any, Any, Any]) -> Response[Any]:
        new = await read(request, provider_settings.NewProviderSetting, _PATH)
        with refusing(_PATH, "provider setting validation failed"):
            async with store.change(actor_of(request)) as change:
                setting = await provider_settings.create(new, change, sealer, providers)
        return Response(provider_settings.to_wire(setting), media_type="application/json")

    @get(_PATH)
    async def list_settings(request: Request[Any, Any, Any]) -> Response[Any]:
        ids = request.query_params.getall("ids", [])
        async with store.read() as reading:
            found = await reading.find(ProviderSetting, Query(ids=tuple(ids) or None))
        if ids:
            found.sort(key=lambda setting: ids.index(setting.id))
        return Response(
            [provider_settings.to_wire(setting) for setting in found],
            media_type="application/json",
        )

    return [create_setting, list_settings]
