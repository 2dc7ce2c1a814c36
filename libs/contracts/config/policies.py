"""A policy: what to look for in requests, and what to do about it."""

import msgspec


class PolicyRule(msgspec.Struct, frozen=True):
    """A regular expression or a description in words, and an action."""

    definition: str
    action: str


class Policy(msgspec.Struct, frozen=True, omit_defaults=True):
    """`entity_rules` maps an entity's name to an action; None is a configuration never given."""

    id: str
    created_at: int
    updated_at: int
    name: str = ""
    tags: tuple[str, ...] = ()
    entity_rules: dict[str, str] | None = None
    regex_rules: tuple[PolicyRule, ...] | None = None
    custom_rules: tuple[PolicyRule, ...] | None = None
