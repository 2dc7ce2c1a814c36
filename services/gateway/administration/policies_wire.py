"""Policies as clients send and see them; configurations may be sent in snake case too."""

from collections.abc import Sequence

import msgspec

from contracts.config.policies import Policy, PolicyRule


class EntityConfig(msgspec.Struct):
    """Actions by the name of an entity."""

    rules: dict[str, str] | None = None


class Rule(msgspec.Struct):
    """A regular expression or a description in words, and an action."""

    definition: str = ""
    action: str = ""


class RuleConfig(msgspec.Struct):
    """Rules in their order."""

    rules: list[Rule] | None = None


class NewPolicy(
    msgspec.Struct,
    rename={
        "regex_config": "regexConfig",
        "custom_config": "customConfig",
        "regex_config_in_snake_case": "regex_config",
        "custom_config_in_snake_case": "custom_config",
    },
):
    """What a client sends to create one, or to change one: then what is absent stays."""

    name: str | None = None
    tags: list[str] | None = None
    config: EntityConfig | None = None
    regex_config: RuleConfig | None = None
    custom_config: RuleConfig | None = None
    regex_config_in_snake_case: RuleConfig | None = None
    custom_config_in_snake_case: RuleConfig | None = None


class PolicyWire(msgspec.Struct, frozen=True, rename="camel"):
    """One as clients see it."""

    id: str
    name: str
    created_at: int
    updated_at: int
    tags: tuple[str, ...] | None
    config: EntityConfig
    regex_config: RuleConfig
    custom_config: RuleConfig


def to_wire(policy: Policy) -> PolicyWire:
    """One as clients see it; a configuration never given has no rules."""
    entities = policy.entity_rules
    return PolicyWire(
        id=policy.id,
        name=policy.name,
        created_at=policy.created_at,
        updated_at=policy.updated_at,
        tags=policy.tags or None,
        config=EntityConfig(None if entities is None else dict(sorted(entities.items()))),
        regex_config=_rule_config(policy.regex_rules),
        custom_config=_rule_config(policy.custom_rules),
    )


def _rule_config(rules: Sequence[PolicyRule] | None) -> RuleConfig:
    if rules is None:
        return RuleConfig()
    return RuleConfig([Rule(rule.definition, rule.action) for rule in rules])
