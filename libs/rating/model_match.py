"""Recognises a model by the rules of the price book: equals, parts, patterns, any and all of them."""

import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Final

MODEL_NAME_CHARACTERS_MAX: Final = 256
"""Longer names are no model of any book; they would only feed patterns."""

Matches = Callable[[str], bool]
_COMPACT_DATE: Final = re.compile(r"-(20\d{2})(\d{2})(\d{2})(?=-|:|$)")


def compile_match(rule: Mapping[str, Any]) -> Matches:
    """A predicate over lower-case model names. Raises ValueError for a rule of unknown form."""
    if len(rule) != 1:
        raise ValueError(f"a match rule has one key: {rule!r}")
    ((kind, value),) = rule.items()
    if kind in {"or", "and"}:
        parts = tuple(compile_match(part) for part in value)
        if kind == "or":
            return lambda name: any(matches(name) for matches in parts)
        return lambda name: all(matches(name) for matches in parts)
    if kind == "regex":
        pattern = re.compile(value)
        return lambda name: pattern.search(name) is not None
    text = value.lower()
    if kind == "equals":
        return lambda name: name == text
    if kind == "starts_with":
        return lambda name: name.startswith(text)
    if kind == "ends_with":
        return lambda name: name.endswith(text)
    if kind == "contains":
        return lambda name: text in name
    raise ValueError(f"unknown match rule {kind!r}")


def with_dashed_date(name: str) -> str:
    """`model-20251211` as `model-2025-12-11`; some gateways write the date of a model that way."""

    def dashed(found: re.Match[str]) -> str:
        year, month, day = (int(part) for part in found.groups())
        try:
            return f"-{date(year, month, day).isoformat()}"
        except ValueError:
            return found[0]

    return _COMPACT_DATE.sub(dashed, name)
