"""Composition root: what the admin process is made of, opened and closed."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from gateway.adapters.postgres import open_pool
from gateway.adapters.postgres_store import PostgresStore
from gateway.adapters.sealer import open_sealer
from gateway.adapters.stored_tokens import StoredTokens
from gateway.adapters.worker_states import workers_not_ready
from gateway.administration.provider_settings import SettingMeans
from gateway.administration.store import Store, StoreUnavailable
from gateway.api import (
    admin_tokens,
    audit_log,
    custom_providers,
    health,
    keys,
    model_aliases,
    openapi_page,
    policies,
    provider_settings,
    reports,
    routes,
    tag_limits,
    users,
)
from gateway.api.admin_app import admin_app
from gateway.outbound import upstream, upstream_guard
from gateway.providers.registry import PROVIDERS
from gateway.settings import GatewaySettings
from runtime.admin_gate import App

_ADMIN_STATEMENT_TIMEOUT_S = 10.0
"""Whoever asks the admin API is told 503 sooner than a hanging database would let them wait."""


@asynccontextmanager
async def admin(settings: GatewaySettings) -> AsyncIterator[App]:
    """The admin application."""
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            open_pool(settings, statement_timeout_s=_ADMIN_STATEMENT_TIMEOUT_S)
        )
        engine = await stack.enter_async_context(upstream(settings))
        store = PostgresStore(pool)
        yield admin_app(
            [
                *keys.handlers(store),
                *tag_limits.handlers(store),
                *provider_settings.handlers(
                    store,
                    SettingMeans(
                        await stack.enter_async_context(open_sealer(settings)),
                        PROVIDERS,
                        upstream_guard(settings).check_url,
                    ),
                ),
                *model_aliases.handlers(store),
                *users.handlers(store),
                *custom_providers.handlers(store, upstream_guard(settings).check_url),
                *routes.handlers(store, PROVIDERS),
                *policies.handlers(store),
                *reports.handlers(engine, settings.reporting_url),
                *admin_tokens.handlers(store),
                *audit_log.handlers(store),
                *health.handlers(_checks(store, settings)),
                *openapi_page.handlers(f"http://127.0.0.1:{settings.admin_port}"),
            ],
            settings.admin_pass,
            StoredTokens(store),
            body_bytes_max=settings.admin_body_bytes_max,
        )


def _checks(store: Store, settings: GatewaySettings) -> dict[str, health.Check]:
    """What must be there for the gateway to do its work."""

    async def postgres() -> str | None:
        try:
            async with store.read():
                return None
        except StoreUnavailable:
            return "the configuration database cannot be reached"

    async def workers() -> str | None:
        waiting = workers_not_ready(settings.run_dir, settings.worker_count)
        if not waiting:
            return None
        return f"without a snapshot: worker {', '.join(map(str, waiting))}"

    return {"postgres": postgres, "workers": workers}
