"""End users: what each may do with the keys they call with."""

import time
from collections.abc import Sequence
from typing import Final

import msgspec

from contracts.config.keys import AllowedPath, ApiKey
from contracts.config.users import USER_ID_CHARS_MAX, User
from contracts.ids import new_id, to_text
from gateway.administration.invalid import Invalid, NotFound
from gateway.administration.limit_rules import (
    COST_UNITS,
    INTEGER_MAX,
    RATE_UNITS,
    TEXT_BYTES_MAX,
    NewAllowedPath,
    check_unit,
    check_unit_change,
    refuse_wrong,
    wrong_amount,
    wrong_count,
    wrong_duration,
    wrong_paths,
    wrong_tags,
    wrong_texts,
)
from gateway.administration.store import Change, Query, Reading
from gateway.administration.users_wire import NewUser, UserChange, UserFilter

KIND: Final = "user-manager"

_PLAIN_MEMBERS: Final = (
    "ttl",
    "cost_limit_in_usd",
    "cost_limit_in_usd_over_time",
    "cost_limit_in_usd_unit",
    "rate_limit_over_time",
    "rate_limit_unit",
)
"""What a change replaces as it is."""


def check(new: NewUser) -> None:
    """Raises Invalid."""
    refuse_wrong(
        [
            *wrong_tags(new.tags),
            *([] if 0 < len(new.name.encode()) <= TEXT_BYTES_MAX else ["name"]),
            *([] if len(new.user_id) <= USER_ID_CHARS_MAX else ["userId"]),
            *wrong_texts("keyIds", new.key_ids),
            *_wrong_limits(new),
            *wrong_paths(new.allowed_paths),
            *wrong_texts("allowedModels", new.allowed_models),
        ]
    )
    check_unit("rate limit", new.rate_limit_unit, bool(new.rate_limit_over_time), RATE_UNITS)
    check_unit(
        "cost limit",
        new.cost_limit_in_usd_unit,
        bool(new.cost_limit_in_usd_over_time),
        COST_UNITS,
    )


def check_change(change: UserChange) -> None:
    """Raises Invalid."""
    refuse_wrong(
        [
            *([] if len((change.name or "").encode()) <= TEXT_BYTES_MAX else ["name"]),
            *wrong_texts("keyIds", change.key_ids),
            *(
                []
                if len((change.revoked_reason or "").encode()) <= TEXT_BYTES_MAX
                else ["revokedReason"]
            ),
            *_wrong_limits(change),
            *wrong_paths(change.allowed_paths),
            *wrong_texts("allowedModels", change.allowed_models),
        ]
    )
    check_unit_change("rate limit", change.rate_limit_unit, change.rate_limit_over_time, RATE_UNITS)
    check_unit_change(
        "cost limit",
        change.cost_limit_in_usd_unit,
        change.cost_limit_in_usd_over_time,
        COST_UNITS,
    )


def _wrong_limits(sent: NewUser | UserChange) -> list[str]:
    return [
        *wrong_amount("costLimitInUsd", sent.cost_limit_in_usd),
        *wrong_amount("costLimitInUsdOverTime", sent.cost_limit_in_usd_over_time),
        *wrong_count("rateLimitOverTime", sent.rate_limit_over_time),
        *wrong_duration("ttl", sent.ttl),
    ]


async def create(new: NewUser, change: Change) -> User:
    """Raises Invalid."""
    check(new)
    tags = tuple(new.tags or ())
    if new.user_id and await change.count(User, _named(new.user_id, tags)):
        raise Invalid(f"user id exists for tags: [{','.join(tags)}]")
    await _check_keys(new.key_ids, change, "user creation error")
    now = int(time.time())
    user = User(
        id=to_text(new_id()),
        user_id=new.user_id or to_text(new_id()),
        name=new.name,
        created_at=now,
        updated_at=now,
        tags=tags,
        key_ids=tuple(new.key_ids or ()),
        ttl=new.ttl,
        allowed_paths=_paths(new.allowed_paths),
        allowed_models=None if new.allowed_models is None else tuple(new.allowed_models),
        cost_limit_in_usd=new.cost_limit_in_usd,
        cost_limit_in_usd_over_time=new.cost_limit_in_usd_over_time,
        cost_limit_in_usd_unit=new.cost_limit_in_usd_unit,
        rate_limit_over_time=new.rate_limit_over_time,
        rate_limit_unit=new.rate_limit_unit,
    )
    await change.put(user.id, user)
    return user


async def patch(user_id: str, sent: UserChange, change: Change) -> User:
    """The one with this id, changed. Raises Invalid, NotFound."""
    check_change(sent)
    user = await change.get(User, user_id)
    if user is None:
        raise NotFound(f"key not found for id: {user_id}")
    await _check_keys(sent.key_ids, change, "update user error")
    return await _put(_changed(user, sent), change)


async def patch_matching(
    user_id: str, tags: tuple[str, ...], sent: UserChange, change: Change
) -> User:
    """Every user with this user id and all of `tags`, changed; the oldest of them.

    A ttl is not changed this way. Raises Invalid, NotFound.
    """
    check_change(sent)
    users = await change.find(User, _named(user_id, tags))
    if not users:
        raise NotFound(f"user not found for user id: {user_id}")
    await _check_keys(sent.key_ids, change, "update user error")
    sent.ttl = None
    changed = [await _put(_changed(user, sent), change) for user in users]
    return changed[0]


async def delete(user_id: str, change: Change) -> None:
    """The one with this id is no longer there, if it was."""
    await change.delete(User, user_id)


async def get(user_id: str, reading: Reading) -> User:
    """Raises NotFound."""
    user = await reading.get(User, user_id)
    if user is None:
        raise NotFound(f"user not found for id: {user_id}")
    return user


async def find(wanted: UserFilter, reading: Reading) -> list[User]:
    """Newest first. Raises Invalid when nothing says which, or a number is out of range."""
    if not (wanted.tags or wanted.user_ids or wanted.key_ids):
        raise Invalid(
            "one of tags, userIds and keyIds is required",
            kind="missing-filteres",
            title="filters are not found",
        )
    for name, count in (("offset", wanted.offset), ("limit", wanted.limit)):
        if not 0 <= count <= INTEGER_MAX:
            raise Invalid(
                f"{name} must be between 0 and {INTEGER_MAX}",
                kind="bad-filters",
                title=f"bad {name} query param",
            )
    any_of = {"user_id": wanted.user_ids, "key_ids": wanted.key_ids}
    return await reading.find(
        User,
        Query(
            holds={"tags": wanted.tags} if wanted.tags else {},
            any_of={name: texts for name, texts in any_of.items() if texts},
            newest_first=True,
            limit=wanted.limit,
            offset=wanted.offset if wanted.limit else 0,
        ),
    )


def _named(user_id: str, tags: tuple[str, ...]) -> Query:
    """Those a request of a key with these tags means by `user_id`."""
    return Query(holds={"user_id": user_id} | ({"tags": tags} if tags else {}))


async def _check_keys(key_ids: Sequence[str] | None, reading: Reading, title: str) -> None:
    if key_ids and not await reading.count(ApiKey, Query(ids=tuple(key_ids))):
        raise Invalid("keys are not found", kind=KIND, title=title)


def _paths(paths: Sequence[NewAllowedPath] | None) -> tuple[AllowedPath, ...] | None:
    if paths is None:
        return None
    return tuple(AllowedPath(path.path, path.method.upper()) for path in paths)


def _changed(user: User, sent: UserChange) -> User:
    """A reason comes and goes with the revocation."""
    members: dict[str, object] = {
        name: value for name in _PLAIN_MEMBERS if (value := getattr(sent, name)) is not None
    }
    if sent.name:
        members["name"] = sent.name
    if sent.key_ids is not None:
        members["key_ids"] = tuple(sent.key_ids)
    if sent.allowed_paths is not None:
        members["allowed_paths"] = _paths(sent.allowed_paths)
    if sent.allowed_models is not None:
        members["allowed_models"] = tuple(sent.allowed_models)
    if sent.revoked is not None:
        members["revoked"] = sent.revoked
        members["revoked_reason"] = (sent.revoked_reason or "") if sent.revoked else ""
    return msgspec.structs.replace(user, updated_at=int(time.time()), **members)


async def _put(user: User, change: Change) -> User:
    await change.put(user.id, user)
    return user
