"""Stored keys and users as the hot path wants them."""

from collections.abc import Callable, Iterable
from typing import Any

from contracts.config.keys import AllowedPath, ApiKey
from contracts.config.users import User
from contracts.durations import parse_go_duration
from gateway.values import EndUser, Principal

Share = Callable[[Any], Any]
"""Gives the first of all equal values it was given: what keys have in common is held once."""


def principal_of(key: ApiKey, revision: int, share: Share) -> Principal:
    """Raises ValueError for a key that makes no sense."""
    digest = bytes.fromhex(key.key_hash)
    if len(digest) != 32:
        raise ValueError("no SHA-256")
    return Principal(
        key_id=key.key_id,
        digest=digest,
        revision=revision,
        tags=share(key.tags),
        setting_ids=share(key.setting_ids),
        allowed_paths=share(_paths(key.allowed_paths)),
        allowed_models=share(_texts(key.allowed_models)),
        expires_at_ms=_expiry_ms(key.created_at, key.ttl, key.expires_at),
        is_revoked=key.revoked,
        revoked_reason=key.revoked_reason,
        stores_request=key.should_log_request,
        stores_response=key.should_log_response,
        policy_id=share(key.policy_id),
        allows_unmetered_paths=key.allow_unmetered_paths,
        has_budget=bool(
            key.cost_limit_in_usd
            or key.cost_limit_in_usd_over_time
            or key.cost_limits
            or key.token_limits
        ),
        balancing=key.balancing or ("random" if key.rotation_enabled else "first"),
    )


def end_user_of(user: User, revision: int, share: Share) -> EndUser:
    """Raises ValueError for a user that makes no sense."""
    return EndUser(
        id=user.id,
        user_id=user.user_id,
        revision=revision,
        tags=share(frozenset(user.tags)),
        key_ids=share(_texts(user.key_ids)),
        allowed_paths=share(_paths(user.allowed_paths)),
        allowed_models=share(_texts(user.allowed_models)),
        expires_at_ms=_expiry_ms(user.created_at, user.ttl, None),
        is_revoked=user.revoked,
    )


def _paths(paths: Iterable[AllowedPath] | None) -> frozenset[tuple[str, str]] | None:
    return frozenset((path.method.upper(), path.path) for path in paths or ()) or None


def _texts(texts: Iterable[str] | None) -> frozenset[str] | None:
    return frozenset(texts or ()) or None


def _expiry_ms(created_at: int, ttl: str, expires_at: int | None) -> int | None:
    """The earlier of both ends, in Unix milliseconds.

    A ttl counts whole seconds: one below a second is none, a negative one has passed already.
    """
    ends = [] if expires_at is None else [expires_at]
    seconds = parse_go_duration(ttl) // 1_000_000_000 if ttl else 0
    if seconds:
        ends.append(created_at + seconds)
    return min(ends) * 1000 if ends else None
