"""Revoked keys and allowed paths."""

from gateway.values import Principal, Refusal


def check_access(principal: Principal, method: str, template: str) -> None:
    """Raises Refusal: 401 for a revoked key, 403 for a path the key may not use.

    Paths are compared with the route template, as `allowedPaths` names it.
    """
    if principal.is_revoked:
        raise Refusal(
            401, "authentication_error", "api_key_revoked", "the api key has been revoked"
        )
    if principal.allowed_paths is not None and (method, template) not in principal.allowed_paths:
        raise Refusal(403, "permission_error", "path_not_allowed", "path is not allowed")
