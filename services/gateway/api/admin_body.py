"""Reads the JSON body of an admin request the way Go does: unknown members ignored, null absent."""

from typing import Any, TypeVar

import msgspec
from litestar import Request

from gateway.administration.go_json import read_struct
from gateway.api.admin_problems import AdminProblem

Body = TypeVar("Body", bound=msgspec.Struct)


async def read(request: Request[Any, Any, Any], kind: type[Body], instance: str) -> Body:
    """The body as `kind`, names in any case. Raises AdminProblem (400) for another shape."""
    content = await request.body()
    try:
        return read_struct(content, kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AdminProblem(
            400, "json-unmarshal", "json unmarshaller error", str(error), instance
        ) from None
    except RecursionError:
        raise AdminProblem(
            400, "json-unmarshal", "json unmarshaller error", "nested too deeply", instance
        ) from None
