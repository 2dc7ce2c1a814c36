"""The models that a key may use, answered here: from its own lists, else from its providers'."""

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from contracts.config.provider_settings import ModelAlias
from gateway.configuration.snapshot import Snapshot
from gateway.ports import Upstream, UpstreamError, UpstreamRequest
from gateway.routing.targets import CUSTOM_DIALECT, upstream_path
from gateway.values import Endpoint, Principal, Refusal, Target

LIST_BYTES_MAX: Final = 8 * 1024 * 1024
LIST_MODELS_MAX: Final = 10_000
LIST_TIMEOUT_S: Final = 10.0
_STALE_RETRY_S: Final = 10.0
_YEAR_9999_S: Final = 253_370_764_800
_KEPT_MAX: Final = 1_024
_ANTHROPIC_VERSION: Final = (b"anthropic-version", b"2023-06-01")


class Model(msgspec.Struct, frozen=True):
    """A model by the name that clients use; `created` in Unix seconds, 0 when nobody says."""

    id: str
    created: int
    owned_by: str


class _Listed(msgspec.Struct):
    id: Any = None
    created: Any = None
    created_at: Any = None
    owned_by: Any = None


class _List(msgspec.Struct):
    data: list[_Listed] = []


class _Kept(msgspec.Struct):
    models: tuple[Model, ...] | None = None
    until_s: float = 0.0
    asking: asyncio.Task[None] | None = None


_decode = msgspec.json.Decoder(_List).decode


class Listing:
    """Answers for the paths of models, and keeps the lists of providers for a while."""

    def __init__(self, upstream: Upstream, ttl_s: float) -> None:
        self._upstream = upstream
        self._ttl_s = ttl_s
        self._kept: dict[tuple[str, int], _Kept] = {}

    async def answer(self, endpoint: Endpoint, principal: Principal, snapshot: Snapshot) -> bytes:
        """The JSON of a list, or of the one model that the path names, in the endpoint's dialect.

        Raises Refusal: 404 for a model that the key may not use, 502 when no list is to be had.
        """
        models = await self._usable(principal, snapshot)
        as_anthropic = endpoint.dialect == "anthropic"
        show = _as_anthropic if as_anthropic else _as_openai
        if endpoint.model is None:
            shown = [show(model) for model in models]
            return msgspec.json.encode(_page(shown) if as_anthropic else _list(shown))
        for model in models:
            if model.id == endpoint.model:
                return msgspec.json.encode(show(model))
        raise Refusal(
            404,
            "invalid_request_error",
            "model_not_found",
            f"model {endpoint.model} does not exist or may not be used with this key",
            param="model",
        )

    async def _usable(self, principal: Principal, snapshot: Snapshot) -> list[Model]:
        targets = [
            target
            for setting_id in principal.setting_ids
            if (target := snapshot.target_by_setting.get(setting_id)) is not None
            and target.provider.dialect not in (CUSTOM_DIALECT, "")
        ]
        lists = await asyncio.gather(*(self._of(target, principal) for target in targets))
        if targets and all(models is None for models in lists):
            raise Refusal(502, "api_error", "upstream_unavailable", "no provider lists its models")
        allowed = principal.allowed_models
        found: dict[str, Model] = {}
        for model in (model for models in lists for model in models or ()):
            if allowed is None or model.id in allowed:
                found.setdefault(model.id, model)
        for alias in _aliases_for(snapshot.aliases, principal, targets, found):
            found[alias.alias] = Model(alias.alias, alias.created_at, "alias")
        return list(found.values())

    async def _of(self, target: Target, principal: Principal) -> Iterable[Model] | None:
        """The models of one setting; None when its provider lists none."""
        own = target.allowed_models or principal.allowed_models
        if own:
            return [Model(name, 0, target.ref.provider) for name in sorted(own)]
        return await self._listed(target)

    async def _listed(self, target: Target) -> tuple[Model, ...] | None:
        key = (target.ref.setting_id, target.ref.revision)
        kept = self._kept.get(key)
        if kept is None:
            if len(self._kept) >= _KEPT_MAX:
                self._kept.clear()
            kept = self._kept[key] = _Kept()
        if time.monotonic() >= kept.until_s:
            if kept.asking is None:
                kept.asking = asyncio.create_task(self._ask(target, kept), name="models")
            # Shared by all who wait: one of them leaving must not end it for the others.
            await asyncio.shield(kept.asking)
        return kept.models

    async def _ask(self, target: Target, kept: _Kept) -> None:
        try:
            async with asyncio.timeout(LIST_TIMEOUT_S):
                kept.models = await self._fetch(target)
            kept.until_s = time.monotonic() + self._ttl_s
        except (UpstreamError, TimeoutError, msgspec.DecodeError, UnicodeDecodeError):
            # What was known before stays good until the provider says otherwise.
            kept.until_s = time.monotonic() + min(_STALE_RETRY_S, self._ttl_s)
        finally:
            kept.asking = None

    async def _fetch(self, target: Target) -> tuple[Model, ...] | None:
        dialect = target.provider.dialect
        path = upstream_path(target, b"/v1/models")
        headers = [(b"accept", b"application/json"), (b"accept-encoding", b"identity")]
        headers += target.auth_headers[dialect]
        if dialect == "anthropic":
            path += b"?limit=1000"
            headers.append(_ANTHROPIC_VERSION)
        response = await self._upstream.send(
            UpstreamRequest(
                target.origin, b"GET", path, headers, b"", LIST_TIMEOUT_S, is_repeatable=True
            )
        )
        try:
            content = await response.read(LIST_BYTES_MAX)
        finally:
            await response.close()
        if response.status != 200:
            return None
        listed = _decode(content).data[:LIST_MODELS_MAX]
        owner = target.ref.provider
        return tuple(_model(one, owner) for one in listed if isinstance(one.id, str) and one.id)


def _model(listed: _Listed, owner: str) -> Model:
    created = listed.created
    if isinstance(listed.created_at, str):
        try:
            created = int(datetime.fromisoformat(listed.created_at).timestamp())
        except (ValueError, OverflowError):
            created = 0
    is_known = (
        isinstance(created, int) and not isinstance(created, bool) and 0 <= created < _YEAR_9999_S
    )
    return Model(
        listed.id,
        created if is_known else 0,
        listed.owned_by if isinstance(listed.owned_by, str) else owner,
    )


def _aliases_for(
    aliases: Iterable[ModelAlias],
    principal: Principal,
    targets: list[Target],
    found: dict[str, Model],
) -> Iterable[ModelAlias]:
    """The aliases, without patterns, of models that one of the key's settings serves."""
    allowed = principal.allowed_models
    for alias in aliases:
        if "*" in alias.alias or alias.alias in found:
            continue
        if allowed is not None and alias.alias not in allowed and alias.model not in allowed:
            continue
        if any(
            alias.setting_id in ("", target.ref.setting_id)
            and (not target.allowed_models or alias.model in target.allowed_models)
            for target in targets
        ):
            yield alias


def _as_openai(model: Model) -> dict[str, Any]:
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
    }


def _list(models: list[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "data": models}


def _as_anthropic(model: Model) -> dict[str, Any]:
    created = datetime.fromtimestamp(model.created, UTC)
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.id,
        "created_at": created.isoformat().replace("+00:00", "Z"),
    }


def _page(models: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "data": models,
        "has_more": False,
        "first_id": models[0]["id"] if models else None,
        "last_id": models[-1]["id"] if models else None,
    }
