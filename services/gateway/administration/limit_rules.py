"""The rules that keys and users share: amounts, their units, durations, paths, tags, models.

The functions that return names of members return those that are wrong, in the order in which the
API tells them: `fields [a, b] are invalid`.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

import msgspec

from contracts.durations import parse_go_duration
from gateway.administration.invalid import Invalid

RATE_UNITS: Final = ("h", "m", "s", "d")
COST_UNITS: Final = ("m", "h", "d", "mo")

TAG_BYTES_MAX: Final = 1024
TAGS_BYTES_MAX: Final = 65_536
"""They travel in every event of the key."""
TEXT_BYTES_MAX: Final = 65_536
"""A name, a reason."""
LIST_ENTRIES_MAX: Final = 10_000
"""Paths, models, ids in one list."""
LIST_BYTES_MAX: Final = 1_048_576
"""All texts of one list: every gateway worker holds them."""
INTEGER_MAX: Final = 2**63 - 1
TIME_MAX_S: Final = 253_402_300_799
"""The last second of the year 9999: what is later was meant in milliseconds."""
COST_EXPONENTS: Final = range(-24, 16)
"""Decimal places and digits before the point that an amount of US dollars may have."""


class NewAllowedPath(msgspec.Struct):
    """A route template and a method, as clients send them."""

    path: str = ""
    method: str = ""


def wrong_tags(tags: Sequence[str] | None) -> list[str]:
    """`tags` when one is empty or they are too long."""
    sizes = [len(tag.encode()) for tag in tags or ()]
    fit = all(0 < size <= TAG_BYTES_MAX for size in sizes) and sum(sizes) <= TAGS_BYTES_MAX
    return [] if fit else ["tags"]


def wrong_texts(name: str, texts: Sequence[str] | None) -> list[str]:
    """`name` when one of the texts is empty, or they are too many or too long."""
    entries = texts or ()
    fit = (
        all(entries)
        and len(entries) <= LIST_ENTRIES_MAX
        and sum(len(entry.encode()) for entry in entries) <= LIST_BYTES_MAX
    )
    return [] if fit else [name]


def wrong_amount(name: str, amount: Decimal | None) -> list[str]:
    """`name` unless it is finite, not negative, and no longer than anybody's money."""
    if amount is None:
        return []
    if not amount.is_finite() or amount < 0:
        return [name]
    exponent = amount.as_tuple().exponent
    assert isinstance(exponent, int)
    fits = exponent in COST_EXPONENTS and amount.adjusted() in COST_EXPONENTS
    return [] if fits else [name]


def wrong_count(name: str, count: int | None) -> list[str]:
    """`name` unless it is a count that the database holds."""
    return [] if count is None or 0 <= count <= INTEGER_MAX else [name]


def wrong_time(name: str, seconds: int | None) -> list[str]:
    """`name` unless it is Unix seconds; 0 is none."""
    return [] if seconds is None or 0 <= seconds <= TIME_MAX_S else [name]


def wrong_duration(name: str, text: str | None) -> list[str]:
    """`name` unless it is empty or a Go duration."""
    if not text:
        return []
    try:
        parse_go_duration(text)
    except ValueError:
        return [name]
    return []


def wrong_paths(paths: Sequence[NewAllowedPath] | None) -> list[str]:
    """The first member that an allowed path lacks."""
    for i, path in enumerate(paths or ()):
        if not path.path:
            return [f"allowedPaths.{i}.path"]
        if not path.method:
            return [f"allowedPaths.{i}.method"]
    return wrong_texts(
        "allowedPaths", [text for path in paths or () for text in (path.path, path.method)]
    )


def refuse_wrong(names: Iterable[str]) -> None:
    """Raises Invalid with the names of wrong members, when there are any."""
    wrong = list(names)
    if wrong:
        raise Invalid(f"fields [{', '.join(wrong)}] are invalid")


def check_unit(name: str, unit: str, has_amount: bool, units: tuple[str, ...]) -> None:
    """A limit and its unit in something new; `name` is `rate limit` or `cost limit`.

    Raises Invalid.
    """
    if unit and not has_amount:
        raise Invalid(f"{name} over time can not be empty if {name} unit is specified")
    if has_amount and not unit:
        raise Invalid(f"{name} unit can not be empty if {name} over time is specified")
    if unit and unit not in units:
        raise Invalid(f"{name} unit can not be identified")


def check_unit_change(
    name: str, unit: str | None, amount: Decimal | int | None, units: tuple[str, ...]
) -> None:
    """A limit and its unit in a change: both or neither; 0 and "" together take the limit away.

    Raises Invalid.
    """
    if unit is None and amount is None:
        return
    if amount is None:
        raise Invalid(f"{name} over time can not be empty if {name} unit is specified")
    if unit is None:
        raise Invalid(f"{name} unit can not be empty if {name} over time is specified")
    if unit and not amount:
        raise Invalid(f"{name} unit has to be empty if {name} over time is 0")
    if not unit and amount:
        raise Invalid(f"{name} over time must be 0 if {name} unit is empty")
    if unit and unit not in units:
        raise Invalid(f"{name} unit can not be identified")
