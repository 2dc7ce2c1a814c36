"""Policies: what to look for in requests, and what to do about it."""

import time
from collections.abc import Sequence
from typing import Final, cast

import msgspec

from contracts.config.keys import ApiKey
from contracts.config.policies import ACTIONS, ENTITIES, Action, Policy, PolicyRule
from contracts.ids import new_id, to_text
from gateway.administration.invalid import Invalid, NotFound, holds_nul
from gateway.administration.limit_rules import LIST_BYTES_MAX, TEXT_BYTES_MAX, wrong_tags
from gateway.administration.policies_wire import EntityConfig, NewPolicy, RuleConfig
from gateway.administration.store import Change, Query, Reading
from runtime.linear_regex import BadPattern, compile_pattern

RULES_MAX: Final = 100
"""Of one kind in one policy: each looks at every text of a request."""
PATTERN_BYTES_MAX: Final = 4096
"""Of a regular expression: matching takes time in proportion."""
KEYS_DETACHED_MAX: Final = 10_000
"""By one deletion: nobody else changes configuration meanwhile."""

_PREFIX: Final = "policy is not valid"


async def create(new: NewPolicy, change: Change) -> Policy:
    """Raises Invalid."""
    policy = policy_of(to_text(new_id()), new, created_at=int(time.time()))
    await change.put(policy.id, policy)
    return policy


def policy_of(policy_id: str, new: NewPolicy, *, created_at: int) -> Policy:
    """A new one. Raises Invalid."""
    policy = _changed(Policy(id=policy_id, created_at=created_at, updated_at=created_at), new)
    problem = _problem(policy)
    if problem:
        raise Invalid(
            f"{_PREFIX}: {problem}", kind="policies/creation", title="policy creation failed"
        )
    return msgspec.structs.replace(policy, updated_at=created_at)


async def patch(policy_id: str, sent: NewPolicy, change: Change) -> Policy:
    """What is absent stays; a configuration is replaced whole. Raises NotFound, Invalid."""
    policy = _changed(await get(policy_id, change), sent)
    problem = _problem(policy)
    if problem:
        raise Invalid(
            f"{_PREFIX}: {problem}", kind="policie/updates", title="update a policy failed"
        )
    await change.put(policy_id, policy)
    return policy


async def get(policy_id: str, reading: Reading) -> Policy:
    """Raises NotFound."""
    policy = await reading.get(Policy, policy_id)
    if policy is None:
        raise NotFound(f"policy is not found for id: {policy_id}")
    return policy


async def find(tags: Sequence[str], reading: Reading) -> list[Policy]:
    """Those that have every one of the tags. Raises Invalid without any."""
    if not tags:
        raise Invalid(
            "query param tags is empty", kind="tags-empty", title="query param tags is empty"
        )
    return await reading.find(Policy, Query(holds={"tags": list(tags)}))


async def delete(policy_id: str, is_forced: bool, change: Change) -> None:
    """Raises NotFound, and Invalid while keys use it; forced, these keys have no policy then."""
    await get(policy_id, change)
    using = Query(holds={"policy_id": policy_id})
    count = await change.count(ApiKey, using)
    if count and not is_forced:
        raise Invalid(f"{count} keys use policy {policy_id}; change them first or add force=true")
    if count > KEYS_DETACHED_MAX:
        raise Invalid(
            f"more than {KEYS_DETACHED_MAX} keys use policy {policy_id}; change some first"
        )
    now = int(time.time())
    for key in await change.find(ApiKey, using) if count else ():
        detached = msgspec.structs.replace(key, policy_id="", updated_at=now)
        await change.put(key.key_id, detached)
    await change.delete(Policy, policy_id)


def _changed(policy: Policy, sent: NewPolicy) -> Policy:
    """With what was sent in its place, still to be checked."""
    regex_config = sent.regex_config or sent.regex_config_in_snake_case
    custom_config = sent.custom_config or sent.custom_config_in_snake_case
    return msgspec.structs.replace(
        policy,
        updated_at=int(time.time()),
        name=policy.name if sent.name is None else sent.name,
        tags=policy.tags if sent.tags is None else tuple(sent.tags),
        entity_rules=policy.entity_rules if sent.config is None else _entity_rules(sent.config),
        regex_rules=policy.regex_rules if regex_config is None else _rules(regex_config),
        custom_rules=policy.custom_rules if custom_config is None else _rules(custom_config),
    )


def _entity_rules(config: EntityConfig) -> dict[str, Action] | None:
    return cast(dict[str, Action] | None, config.rules)


def _rules(config: RuleConfig) -> tuple[PolicyRule, ...] | None:
    if config.rules is None:
        return None
    return tuple(PolicyRule(rule.definition, cast(Action, rule.action)) for rule in config.rules)


def _problem(policy: Policy) -> str:
    """What is wrong with it, "" when nothing is."""
    entities = policy.entity_rules or {}
    regex_rules = policy.regex_rules or ()
    custom_rules = policy.custom_rules or ()
    if len(policy.name.encode()) > TEXT_BYTES_MAX:
        return f"name is over the limit of {TEXT_BYTES_MAX} bytes"
    if wrong_tags(policy.tags):
        return "tags are empty or too long"
    for entity, action in entities.items():
        if entity not in ENTITIES:
            return f"there is no entity {entity[:100]!r}"
        if action not in ACTIONS:
            return f"action of {entity} must be one of {', '.join(ACTIONS)}"
    problem = _problem_of_rules("regex", regex_rules) or _problem_of_rules("custom", custom_rules)
    if problem:
        return problem
    for i, rule in enumerate(regex_rules):
        if len(rule.definition.encode()) > PATTERN_BYTES_MAX:
            return f"regex rule at index [{i}] is over the limit of {PATTERN_BYTES_MAX} bytes"
        try:
            compile_pattern(rule.definition)
        except BadPattern:
            return f"regex rule at index [{i}] cannot be compiled"
    texts = [
        policy.name,
        *policy.tags,
        *(rule.definition for rule in (*regex_rules, *custom_rules)),
    ]
    return "NUL is not allowed" if holds_nul(texts) else ""


def _problem_of_rules(name: str, rules: Sequence[PolicyRule]) -> str:
    if len(rules) > RULES_MAX:
        return f"there are more than {RULES_MAX} {name} rules"
    if sum(len(rule.definition.encode()) for rule in rules) > LIST_BYTES_MAX:
        return f"{name} rules are over the limit of {LIST_BYTES_MAX} bytes"
    for i, rule in enumerate(rules):
        if not rule.definition:
            return f"{name} rule at index [{i}] has no definition"
        if rule.action not in ACTIONS:
            return f"action of {name} rule at index [{i}] must be one of {', '.join(ACTIONS)}"
    return ""
