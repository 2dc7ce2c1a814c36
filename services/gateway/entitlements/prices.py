"""What a key with a list of models, or with a budget, may not do because nobody could check it."""

import msgspec

from gateway.values import Call, Endpoint, Principal, Refusal


def check_endpoint(principal: Principal, endpoint: Endpoint, *, opens_accounts: bool) -> None:
    """Raises Refusal (403) for a path that administers the account at the provider, and for one
    whose price cannot be known from its answer, unless the key is limited by neither models nor
    money, or was told that it may (`allowUnmeteredPaths`).
    """
    if endpoint.is_closed and not opens_accounts:
        raise _forbidden("path_not_allowed", "paths of the account are not served")
    if endpoint.is_priced or principal.allows_unmetered_paths:
        return
    if principal.allowed_models is not None or principal.has_budget:
        raise _forbidden(
            "path_not_allowed",
            "what this path costs cannot be known from its answer, so that a key with limits needs"
            " allowUnmeteredPaths for it",
        )


def excused(principal: Principal, endpoint: Endpoint, call: Call) -> Call:
    """The call, no longer said to hide its model where a key may use paths without a price: which
    models a batch holds is in a file at the provider.
    """
    if endpoint.is_priced or not principal.allows_unmetered_paths:
        return call
    return msgspec.structs.replace(call, hides_model=False)


def check_readable(principal: Principal, call: Call) -> None:
    """Raises Refusal (403) when a key with a list of models sends a body that hides its model."""
    if (
        call.hides_model
        and principal.allowed_models is not None
        and not principal.allows_unmetered_paths
    ):
        raise _forbidden(
            "model_not_allowed", "the model of this request cannot be read", param="model"
        )


def _forbidden(code: str, message: str, *, param: str | None = None) -> Refusal:
    return Refusal(403, "permission_error", code, message, param=param)
