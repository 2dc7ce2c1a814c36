"""Reads the JSON body of an admin request the way Go does: unknown members ignored, null absent."""

from typing import Any, TypeVar, get_args

import msgspec
from litestar import Request

from gateway.api.admin_problems import AdminProblem

Body = TypeVar("Body", bound=msgspec.Struct)


async def read(request: Request[Any, Any, Any], kind: type[Body], instance: str) -> Body:
    """The body as `kind`. Raises AdminProblem (400) when it is not JSON of that shape."""
    content = await request.body()
    try:
        members = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        names = {field.encode_name.lower(): field for field in msgspec.structs.fields(kind)}
        values: dict[str, Any] = {}
        for name, raw in members.items():
            field = names.get(name.lower())
            if field is None or bytes(raw) == b"null":
                continue
            if msgspec.Raw in get_args(field.type):
                values[field.name] = raw
            else:
                values[field.name] = msgspec.json.decode(bytes(raw), type=field.type)
        return kind(**values)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AdminProblem(
            400, "json-unmarshal", "json unmarshaller error", str(error), instance
        ) from None
    except RecursionError:
        raise AdminProblem(
            400, "json-unmarshal", "json unmarshaller error", "nested too deeply", instance
        ) from None
