"""`/api/model-aliases`."""

from typing import Any, Final

from gateway.administration import model_aliases
from gateway.administration.model_aliases import (
    ModelAliasChange,
    ModelAliasWire,
    NewModelAlias,
    to_wire,
)
from gateway.administration.store import Store
from gateway.api.resource import Resource, Says, Words

_PATH: Final = "/api/model-aliases"
_WORDS: Final = Words("model alias validation failed", "model alias is not found")

_EXAMPLE: Final = {"alias": "fast", "model": "gpt-4o-mini", "position": 1}
_ANSWER_EXAMPLE: Final = {
    "id": "019ab0c4-5d2e-7c1a-9f00-2b7a4f1d6e55",
    "createdAt": 1767225600,
    "updatedAt": 1767225600,
    "alias": "fast",
    "model": "gpt-4o-mini",
    "settingId": "",
    "position": 1,
}


def handlers(store: Store) -> list[Any]:
    """The routes of this resource."""
    resource = Resource(store, _PATH, "alias_id", ModelAliasWire, to_wire, _ANSWER_EXAMPLE, _WORDS)
    return [
        resource.creates(
            NewModelAlias,
            model_aliases.create,
            Says(
                "Create a model alias",
                "`alias` is a name, or a pattern in which `*` stands for any text.",
                _EXAMPLE,
            ),
        ),
        resource.lists(
            lambda _, reading: model_aliases.find(reading),
            Says("List model aliases", "In the order in which they are tried.", errors=()),
        ),
        resource.shows(model_aliases.get, Says("Get a model alias")),
        resource.changes(
            ModelAliasChange,
            model_aliases.patch,
            Says(
                "Change a model alias",
                example={"position": 2},
                answer_example=_ANSWER_EXAMPLE | {"position": 2},
            ),
        ),
        resource.deletes(model_aliases.delete, Says("Delete a model alias")),
    ]
