"""Who meters what: rendezvous hashing over the living members, in even shares. Pure.

Only an optimisation: two members that both think a partition theirs lose time, never rows.
"""

from collections.abc import Collection, Iterable
from hashlib import blake2b


def owner_of(thing: str, members: Iterable[str]) -> str | None:
    """The member with the highest weight for a thing; None without members."""
    return max(members, key=lambda member: (_weight(thing, member), member), default=None)


def share_of(member: str, members: Collection[str], partitions: Iterable[int]) -> set[int]:
    """The partitions a member meters; no share is larger than another by more than one.

    Chance alone would give one of two members six partitions of eight every fourth time.
    """
    ordered = sorted(set(partitions))
    least, larger_shares = divmod(len(ordered), max(len(members), 1))
    sizes = dict.fromkeys(members, 0)
    share = set()
    for each in ordered:
        room = least + (larger_shares > 0)
        owner = owner_of(f"partition.{each}", [m for m, size in sizes.items() if size < room])
        if owner is None:
            break
        sizes[owner] += 1
        larger_shares -= sizes[owner] > least
        if owner == member:
            share.add(each)
    return share


def _weight(thing: str, member: str) -> bytes:
    return blake2b(f"{thing}|{member}".encode(), digest_size=8).digest()
