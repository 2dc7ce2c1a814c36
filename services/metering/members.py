"""Who meters what: rendezvous hashing over the living members. Pure.

Only an optimisation: two members that both think a partition theirs lose time, never rows.
"""

from collections.abc import Iterable
from hashlib import blake2b


def owner_of(thing: str, members: Iterable[str]) -> str | None:
    """The member with the highest weight for a thing; None without members."""
    return max(members, key=lambda member: (_weight(thing, member), member), default=None)


def share_of(member: str, members: Iterable[str], partitions: Iterable[int]) -> set[int]:
    """The partitions a member meters."""
    everyone = list(members)
    return {each for each in partitions if owner_of(f"partition.{each}", everyone) == member}


def _weight(thing: str, member: str) -> bytes:
    return blake2b(f"{thing}|{member}".encode(), digest_size=8).digest()
