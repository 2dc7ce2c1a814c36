"""What an admin route promises: the source of the OpenAPI document, and of the scope it needs."""

from collections.abc import Mapping
from typing import Any

import msgspec

from contracts.config.admin_tokens import Scope


class QueryParameter(msgspec.Struct, frozen=True):
    """One parameter of the query; `repeats` for one that may be given several times."""

    name: str
    description: str
    repeats: bool = False
    is_required: bool = False
    kind: str = "string"


class Operation(msgspec.Struct, frozen=True):
    """One method of one path.

    `body` and `answer` are the wire structs (None: no body), examples are JSON values of them.
    `errors` are the statuses besides 400 for what is not JSON, 401, 403 and 503, which every route
    may answer. `scope` is what an admin token needs.
    """

    summary: str
    scope: Scope
    answer: Any = None
    body: Any = None
    query: tuple[QueryParameter, ...] = ()
    errors: tuple[int, ...] = (400,)
    example: Any = None
    answer_example: Any = None
    description: str = ""
    tag: str = ""


def promises(operation: Operation) -> Mapping[str, Any]:
    """For the `opt` of a route."""
    return {"operation": operation}
