"""What a route promises: the source of its OpenAPI entry, of the scope it needs, of the fuzz run."""

from collections.abc import Mapping
from typing import Any

import msgspec

from contracts.config.admin_tokens import Scope


class QueryParameter(msgspec.Struct, frozen=True):
    """One parameter of the query; `repeats` for one that may be given several times.

    `kind` is the JSON type of its text: string, integer or boolean. `example` is such a value.
    """

    name: str
    description: str
    repeats: bool = False
    is_required: bool = False
    kind: str = "string"
    example: Any = None


class Operation(msgspec.Struct, frozen=True):
    """One method of one path.

    `body` and `answer` are the wire structs (None: no body), examples are JSON values of them.
    `errors` are the statuses besides 400 and 413 for a body, 401, 403 and 503, which every route
    may answer. `scope` is what an admin token needs; `is_open` routes ask for no credential.
    `media_type` is the answer's; only JSON has a schema. An answer without one is empty.
    `answered_alike` are failures with the shape of the answer.
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
    is_open: bool = False
    media_type: str = "application/json"
    status: int = 200
    answered_alike: tuple[int, ...] = ()


def promises(operation: Operation) -> Mapping[str, Any]:
    """For the `opt` of a route."""
    return {"operation": operation}
