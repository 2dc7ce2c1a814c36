"""Writes an OpenAPI 3.1 document from what routes promise."""

import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from http import HTTPStatus
from typing import Any, Final

import msgspec

from contracts.operation import Operation, QueryParameter
from runtime.admin_gate import Refusal
from runtime.routes import Route

JSON: Final = "application/json"
_REFUSAL: Final = {"$ref": "#/components/schemas/Refusal"}
_PARAMETER: Final = re.compile(r"\{([^}]+)\}")

_REASONS: Final = {
    400: "The request cannot be accepted; `detail` says what is wrong with it.",
    401: "The credential is missing or wrong.",
    403: "The token's scopes do not cover this, or a web page of another site asked.",
    404: "There is no such thing.",
    413: "The body is longer than the limit.",
    500: "The ledger refused the question.",
    502: "The reporting service gave no answer.",
    503: "What this needs cannot be reached at the moment.",
    504: "The question ran into its time limit.",
}

_SCHEMES: Final = {
    "adminKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-KEY",
        "description": "The admin password (ADMIN_PASS) or an admin token.",
    },
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "The same, as `Authorization: Bearer`.",
    },
}


def statuses_of(operation: Operation) -> tuple[int, ...]:
    """Every status that a route may answer, its own success first."""
    errors = {*operation.errors, *operation.answered_alike}
    if operation.body is not None:
        errors |= {400, 413}
    if not operation.is_open:
        errors |= {401, 403, 503}
    return (operation.status, *sorted(errors))


def describe_api(
    title: str,
    description: str,
    version: str,
    routes: Iterable[Route],
    tags: Mapping[str, str],
    tag_of: Callable[[str], str],
) -> dict[str, Any]:
    """The document. `tags` are the names and meanings of the groups, in the order of reading.

    `tag_of` gives the group of a path template whose operation names none.

    Raises ValueError when a route promises nothing.
    """
    promised = [(route, _promise(route, tag_of)) for route in routes]
    shapes = [Refusal]
    for _, operation in promised:
        shapes += [shape for shape in (operation.body, operation.answer) if shape is not None]
    schemas, components = msgspec.json.schema_components(
        shapes, ref_template="#/components/schemas/{name}"
    )
    rest = iter(schemas[1:])
    paths: dict[str, Any] = {}
    for route, operation in promised:
        body = None if operation.body is None else _json_schema(next(rest))
        answer = None if operation.answer is None else _json_schema(next(rest))
        path = paths.setdefault(route.template, {})
        path[route.method.lower()] = _operation(route, operation, body, answer)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": description},
        "servers": [{"url": "/"}],
        "security": [{"adminKey": []}, {"bearer": []}],
        "tags": [{"name": name, "description": text} for name, text in tags.items()],
        "paths": paths,
        "components": {"schemas": _json_schema(components), "securitySchemes": _SCHEMES},
    }


def _promise(route: Route, tag_of: Callable[[str], str]) -> Operation:
    if route.operation is None:
        raise ValueError(f"{route.method} {route.template} promises nothing")
    tag = route.operation.tag or tag_of(route.template)
    return msgspec.structs.replace(route.operation, tag=tag)


def _operation(route: Route, operation: Operation, body: Any, answer: Any) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": operation.summary,
        "tags": [operation.tag],
    }
    scope = "" if operation.is_open else f"Token scope: `{operation.scope}`."
    text = "\n\n".join(part for part in (operation.description, scope) if part)
    if text:
        described["description"] = text
    if operation.is_open:
        described["security"] = []
    else:
        described["x-scope"] = operation.scope
    parameters = [_path_parameter(name) for name in _PARAMETER.findall(route.template)]
    parameters += [_query_parameter(parameter) for parameter in operation.query]
    if parameters:
        described["parameters"] = parameters
    if body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {JSON: _media(body, operation.example)},
        }
    described["responses"] = {
        str(status): _response(status, operation, answer) for status in statuses_of(operation)
    }
    return described


def _response(status: int, operation: Operation, answer: Any) -> dict[str, Any]:
    if status != operation.status:
        text = _REASONS.get(status, HTTPStatus(status).phrase)
        schema = answer if status in operation.answered_alike else _REFUSAL
        return {"description": text, "content": {JSON: {"schema": schema}}}
    if answer is not None:
        content = {JSON: _media(answer, operation.answer_example)}
        return {"description": "Done.", "content": content}
    if operation.media_type != JSON:
        content = {operation.media_type: {"schema": {"type": "string"}}}
        return {"description": "Done.", "content": content}
    return {"description": "Done; the body is empty."}


def _media(schema: Any, example: Any) -> dict[str, Any]:
    return {"schema": schema} if example is None else {"schema": schema, "example": example}


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _query_parameter(parameter: QueryParameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": parameter.kind}
    if parameter.repeats:
        schema = {"type": "array", "items": schema}
    described = {
        "name": parameter.name,
        "in": "query",
        "description": parameter.description,
        "required": parameter.is_required,
        "schema": schema,
    }
    if parameter.example is not None:
        described["example"] = parameter.example
    return described


def _operation_id(route: Route) -> str:
    words = re.findall(r"[A-Za-z0-9]+", route.template)
    return "_".join([route.method.lower(), *words])


def _json_schema(schema: Any) -> Any:
    """With decimals as the numbers that they are on the wire."""
    if isinstance(schema, list):
        return [_json_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return _number(schema) if isinstance(schema, Decimal) else schema
    written = {name: _json_schema(value) for name, value in schema.items()}
    if written.get("format") == "decimal":
        del written["format"]
        written["type"] = "number"
        if isinstance(written.get("default"), str):
            written["default"] = _number(Decimal(written["default"]))
    return written


def _number(amount: Decimal) -> int | float:
    return int(amount) if amount == amount.to_integral_value() else float(amount)
