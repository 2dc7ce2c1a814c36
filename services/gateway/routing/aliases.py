"""From the model a client names to the alias that stands for it."""

from collections.abc import Iterable

from contracts.config.provider_settings import ModelAlias


def resolve_alias(model: str, aliases: Iterable[ModelAlias]) -> ModelAlias | None:
    """The alias for a model; None when the name stands for itself.

    `aliases` come in the order in which they are tried. One of exactly this name goes before every
    pattern. What an alias names is not looked up again, so aliases cannot run in circles.
    """
    first: ModelAlias | None = None
    for alias in aliases:
        if alias.alias == model:
            return alias
        if first is None and "*" in alias.alias and matches(alias.alias, model):
            first = alias
    return first


def matches(pattern: str, model: str) -> bool:
    """Whether a pattern, in which `*` stands for any text, covers the whole of a model's name.

    Takes time of the order of both lengths multiplied, whatever they hold.
    """
    head, *middle, tail = pattern.split("*")
    if len(model) < len(head) + len(tail):
        return False
    if not (model.startswith(head) and model.endswith(tail)):
        return False
    at = len(head)
    end = len(model) - len(tail)
    for part in middle:
        # The earliest place leaves the most room for the parts behind it.
        found = model.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return at <= end
