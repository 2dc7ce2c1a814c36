"""Picks the target of a call among the settings of its key."""

from gateway.values import Call, Principal, Provider, Refusal, Target


def plan(
    principal: Principal,
    call: Call,
    provider: str | None,
    dialect: str,
    target_by_setting: dict[str, Target],
    providers: dict[str, Provider],
) -> Target:
    """The first of the key's settings that can serve the call.

    `provider` is the one the path names; without it any provider of the `dialect` will do. Raises
    Refusal: 401 when the key has no setting for it, 403 when its settings do not allow the model.
    """
    is_forbidden = False
    for setting_id in principal.setting_ids:
        target = target_by_setting.get(setting_id)
        if target is None:
            continue
        name = target.ref.provider
        if name != provider and (provider is not None or providers[name].dialect != dialect):
            continue
        if target.allowed_models and call.model not in target.allowed_models:
            is_forbidden = True
            continue
        return target
    if is_forbidden:
        raise Refusal(
            403,
            "permission_error",
            "model_not_allowed",
            f"model {call.model} is not allowed",
            param="model",
        )
    raise Refusal(
        401,
        "authentication_error",
        "provider_setting_not_found",
        "the key has no provider setting for this path",
    )
