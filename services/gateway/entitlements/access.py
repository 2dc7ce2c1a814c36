"""The gates that need no counters: of a key and of an end user, in order, the first no wins.

A gate that the head alone can decide comes before the body is read; the rest once it is parsed.
"""

from collections.abc import Mapping

from gateway.values import Call, EndUser, Principal, Refusal, masked


def check_access(
    principal: Principal, credential: str, method: str, template: str, now_ms: int
) -> None:
    """Raises Refusal: 401 for a key revoked or expired, 403 for a path it may not use.

    Paths are compared with the route template, as `allowedPaths` names it. `now_ms` is when the
    request came, in Unix milliseconds.
    """
    if principal.is_revoked:
        raise _unauthenticated("api_key_revoked", f"key {masked(credential)} has been revoked")
    if principal.expires_at_ms is not None and now_ms >= principal.expires_at_ms:
        raise _unauthenticated("api_key_expired", f"key {masked(credential)} has expired")
    if principal.allowed_paths is not None and (method, template) not in principal.allowed_paths:
        raise _forbidden("path_not_allowed", "path is not allowed")


def check_call(
    principal: Principal,
    call: Call,
    users_by_user_id: Mapping[str, tuple[EndUser, ...]],
    method: str,
    template: str,
    now_ms: int,
) -> None:
    """Raises Refusal: 403 for a model the key may not use, and what its end user may not do.

    A call that has no model passes the gates of models, one that hides its model does not. A user
    nobody described passes. A key with a budget may not ask for what is done later: what it costs
    is in no answer.
    """
    if call.is_deferred and principal.has_budget and not principal.allows_unmetered_paths:
        raise _forbidden(
            "path_not_allowed",
            "what a response in the background costs cannot be known from its answer, so that a key"
            " with a budget needs allowUnmeteredPaths for it",
            param="background",
        )
    if principal.allowed_models is not None and not _may_use(call, principal.allowed_models):
        raise _forbidden("model_not_allowed", "model is not allowed", param="model")
    if call.user_id is None:
        return
    for user in users_by_user_id.get(call.user_id, ()):
        if user.tags.issuperset(principal.tags):
            _check_user(user, call, principal.key_id, method, template, now_ms)


def _may_use(call: Call, models: frozenset[str]) -> bool:
    if not models.issuperset(call.other_models):
        return False
    return call.model in models if call.model else not call.hides_model


def _check_user(
    user: EndUser, call: Call, key_id: str, method: str, template: str, now_ms: int
) -> None:
    user_id = user.user_id
    if user.is_revoked:
        raise _unauthenticated("user_revoked", f"user is revoked: {user_id}")
    if user.expires_at_ms is not None and now_ms >= user.expires_at_ms:
        raise _unauthenticated("user_expired", f"user is expired: {user_id}")
    if user.key_ids is not None and key_id not in user.key_ids:
        raise _forbidden("key_not_allowed", f"key: {key_id} forbidden for user: {user_id}")
    if user.allowed_models is not None and not _may_use(call, user.allowed_models):
        raise _forbidden(
            "model_not_allowed",
            f"model: {call.model or ''} forbidden for user: {user_id}",
            param="model",
        )
    if user.allowed_paths is not None and (method, template) not in user.allowed_paths:
        raise _forbidden("path_not_allowed", f"path: {template} forbidden for user: {user_id}")


def _unauthenticated(code: str, message: str) -> Refusal:
    return Refusal(401, "authentication_error", code, message)


def _forbidden(code: str, message: str, *, param: str | None = None) -> Refusal:
    return Refusal(403, "permission_error", code, message, param=param)
