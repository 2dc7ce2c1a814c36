"""Picks the target of a call among the settings of its key, and the model to ask it for."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from contracts.config.provider_settings import ModelAlias
from gateway.routing.aliases import resolve_alias
from gateway.routing.balance import in_order
from gateway.routing.health import Health
from gateway.values import Call, Endpoint, Principal, Refusal, Target

_NO_PREFIX: Final = ("\0",)
_ANY: Final = 2
"""The rank of a setting that may or may not have the model."""
_CHAT: Final = "openai.chat_completions"
_CHAT_PATHS: Final = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
_VENDORS: Final = {"openai": "openai, or of another with its API", "anthropic": "anthropic"}


class Wish(NamedTuple):
    """What a model's name stands for under the plain root: a model, and where it is wanted."""

    model: str
    provider: str = ""
    setting_id: str = ""


class Choice(NamedTuple):
    """Where a call goes, the model that is asked for there, and who could serve it as well."""

    target: Target
    model: str | None
    others: tuple[Target, ...] = ()


def wish_of(
    model: str,
    principal: Principal,
    aliases: Iterable[ModelAlias],
    target_by_setting: Mapping[str, Target],
) -> Wish | None:
    """What a name stands for, None when it stands for itself.

    An alias, or `provider/model` where the key has a setting of that provider: other names may hold
    a slash too.
    """
    setting_id = ""
    name = model
    alias = resolve_alias(model, aliases) if aliases else None
    if alias is not None:
        name, setting_id = alias.model, alias.setting_id
    provider, slash, rest = name.partition("/")
    if slash and rest:
        for key_setting in principal.setting_ids:
            target = target_by_setting.get(key_setting)
            if target is not None and target.ref.provider == provider:
                return Wish(rest, provider, setting_id)
    return None if alias is None else Wish(name, "", setting_id)


def plan(
    principal: Principal,
    call: Call,
    endpoint: Endpoint,
    target_by_setting: Mapping[str, Target],
    health: Health,
    draw: Callable[[], float],
    wish: Wish | None = None,
) -> Choice:
    """The best of the key's settings that can serve the call.

    Where the path names no provider, settings that list the model and those of its vendor go before
    all others that speak the dialect, which are not even tried then. Among those that are left
    priority decides, then the key's balancing, and who rests comes last; a call that names no model
    goes where the last one went, for it may be about a file there. Raises Refusal: 401 when the key
    has no setting for the path, 400 when those it has speak another dialect or are not called, 404
    when nobody knows that dialect to have such a path, 403 when its settings do not allow the model.
    """
    if wish is None and len(principal.setting_ids) == 1:
        # Most keys have one setting, and most settings no list: there is nothing to choose.
        only = target_by_setting.get(principal.setting_ids[0])
        if only is not None and not only.allowed_models:
            if endpoint.provider is None:
                fits = endpoint.dialect == only.provider.dialect
            else:
                fits = endpoint.provider == only.ref.provider and bool(only.auth_headers)
            if fits:
                return Choice(only, call.model)
    found = [
        target
        for setting_id in principal.setting_ids
        if (target := target_by_setting.get(setting_id)) is not None
    ]
    model = call.model if wish is None else wish.model
    if endpoint.provider is not None:
        found = [target for target in found if target.ref.provider == endpoint.provider]
        fitting = [target for target in found if target.auth_headers]
    else:
        if wish is not None:
            found = [target for target in found if _is_wished(target, wish)]
        fitting = [target for target in found if _can_speak(target, model, endpoint)]
    if found and not fitting:
        raise _unserved(found, endpoint, model)
    if not fitting:
        raise Refusal(
            401,
            "authentication_error",
            "provider_setting_not_found",
            "the key has no provider setting for this path",
        )
    allowed = [target for target in fitting if _allows(target, call, model)]
    if not allowed:
        raise Refusal(
            403,
            "permission_error",
            "model_not_allowed",
            "model is not allowed",
            param="model",
        )
    if len(allowed) == 1:
        return Choice(allowed[0], model)
    if endpoint.provider is None:
        # A stable sort: settings of one rank stay in the key's order.
        allowed.sort(key=lambda target: _rank(target, model))
        if _rank(allowed[0], model) < _ANY:
            allowed = [target for target in allowed if _rank(target, model) < _ANY]
    if model is None:
        return Choice(min(allowed, key=lambda target: target.priority), model)
    first, *others = in_order(allowed, principal, call.user_id, model, health, draw)
    return Choice(first, model, tuple(others))


def _is_wished(target: Target, wish: Wish) -> bool:
    return wish.provider in ("", target.ref.provider) and wish.setting_id in (
        "",
        target.ref.setting_id,
    )


def _can_speak(target: Target, model: str | None, endpoint: Endpoint) -> bool:
    """Whether a setting's provider serves this path.

    In another dialect than its own it has chat completions only, and only of its own models.
    """
    if endpoint.dialect == target.provider.dialect:
        return True
    if endpoint.dialect not in target.auth_headers or model is None:
        return False
    return endpoint.name == _CHAT and (
        model.startswith(target.provider.model_prefixes) or model in target.allowed_models
    )


def _allows(target: Target, call: Call, model: str | None) -> bool:
    if not target.allowed_models:
        return True
    if not target.allowed_models.issuperset(call.other_models):
        return False
    if model is None:
        return not call.hides_model
    return model in target.allowed_models or call.model in target.allowed_models


def _rank(target: Target, model: str | None) -> int:
    if model is not None and model in target.allowed_models:
        return 0
    is_its_own = model is not None and model.startswith(
        target.provider.model_prefixes or _NO_PREFIX
    )
    return 1 if is_its_own else _ANY


def _unserved(found: Iterable[Target], endpoint: Endpoint, model: str | None) -> Refusal:
    """Why none of these can serve this path, and what would."""
    called = [target for target in found if target.auth_headers]
    names = ", ".join(sorted({target.ref.provider for target in called or found}))
    if not called:
        return Refusal(
            400,
            "invalid_request_error",
            "unsupported_provider",
            f"settings of {names} are kept, but {names} cannot be called through this gateway",
        )
    if endpoint.name == f"{endpoint.dialect}.unknown":
        return Refusal(404, "invalid_request_error", "not_found", "route not supported")
    right = " and ".join(sorted({_own_path(target) for target in called}))
    # Chat completions have models of two dialects, other paths one.
    is_model = model is not None and endpoint.name == _CHAT
    return Refusal(
        400,
        "invalid_request_error",
        "unsupported_path",
        f"{endpoint.template}{' of this model' if is_model else ''} wants a provider setting of"
        f" {_VENDORS[endpoint.dialect]}; the key's, of {names}, serve {right}",
    )


def _own_path(target: Target) -> str:
    name = target.ref.provider
    return _CHAT_PATHS.get(target.provider.dialect, f"/api/custom/providers/{name}")
