"""A stored key as the hot path wants it."""

from contracts.config.keys import ApiKey
from gateway.values import Principal


def principal_of(key: ApiKey) -> Principal:
    """Raises ValueError for a key that makes no sense."""
    paths = key.allowed_paths
    return Principal(
        key_id=key.key_id,
        tags=key.tags,
        setting_ids=key.setting_ids,
        allowed_paths=None
        if not paths
        else frozenset((path.method.upper(), path.path) for path in paths),
        is_revoked=key.revoked,
        revoked_reason=key.revoked_reason,
        stores_request=key.should_log_request,
        stores_response=key.should_log_response,
        policy_id=key.policy_id,
    )
