"""Picks the target of a call among the settings of its key."""

from collections.abc import Mapping
from typing import NamedTuple

from gateway.values import Call, Endpoint, Principal, Refusal, Target


class Choice(NamedTuple):
    """Where a call goes, and the model that is asked for there."""

    target: Target
    model: str | None


def plan(
    principal: Principal,
    call: Call,
    endpoint: Endpoint,
    target_by_setting: Mapping[str, Target],
) -> Choice:
    """The best of the key's settings that can serve the call.

    Where the path names no provider, `provider/model` may, and settings that list the model go
    before those of its vendor, and those before all others that speak the dialect. Raises Refusal:
    401 when the key has no setting for the path, 400 when those it has speak another dialect, 403
    when its settings do not allow the model.
    """
    found = [
        target
        for setting_id in principal.setting_ids
        if (target := target_by_setting.get(setting_id)) is not None
    ]
    model = call.model
    if endpoint.provider is not None:
        fitting = [target for target in found if target.ref.provider == endpoint.provider]
    else:
        fitting = [target for target in found if endpoint.dialect in target.auth_headers]
        if model is not None and "/" in model:
            fitting, model = _of_named_provider(fitting, model)
        if found and not fitting:
            raise _wrong_dialect(endpoint.dialect)
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
            "model is not allowed" if model is None else f"model {model} is not allowed",
            param="model",
        )
    if endpoint.provider is None and len(allowed) > 1:
        # A stable sort: settings of one rank stay in the key's order.
        allowed.sort(key=lambda target: _rank(target, model, endpoint.dialect))
    if endpoint.provider is None and _speaks_only_for_itself(allowed[0], model, endpoint):
        raise _wrong_dialect(endpoint.dialect)
    return Choice(allowed[0], model)


def _of_named_provider(targets: list[Target], name: str) -> tuple[list[Target], str]:
    """The targets of the provider that the model's name begins with; else all, and the name."""
    provider, _, model = name.partition("/")
    named = [target for target in targets if target.ref.provider == provider]
    return (named, model) if named and model else (targets, name)


def _allows(target: Target, call: Call, model: str | None) -> bool:
    if not target.allowed_models:
        return True
    return not call.hides_model if model is None else model in target.allowed_models


def _rank(target: Target, model: str | None, dialect: str) -> int:
    if model is not None and model in target.allowed_models:
        return 0
    if model is not None and model.startswith(target.provider.model_prefixes or ("\0",)):
        return 1
    return 2 if dialect == target.provider.dialect else 3


def _speaks_only_for_itself(target: Target, model: str | None, endpoint: Endpoint) -> bool:
    """A vendor's path in another's dialect knows that one path, and the vendor's own models."""
    if endpoint.dialect == target.provider.dialect:
        return False
    return endpoint.name != "openai.chat_completions" or not (
        model is not None
        and (model.startswith(target.provider.model_prefixes) or model in target.allowed_models)
    )


def _wrong_dialect(dialect: str) -> Refusal:
    right = "/v1/messages" if dialect == "openai" else "/v1/chat/completions"
    return Refusal(
        400,
        "invalid_request_error",
        "unsupported_path",
        f"none of the key's providers serves this model here; try {right}",
    )
