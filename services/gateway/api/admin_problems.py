"""Errors of the admin API: `{type, title, status, detail, instance}`, as BricksLLM words them."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException

from gateway.administration.invalid import Conflict, Invalid, NotFound
from gateway.administration.store import StoreUnavailable
from gateway.ports import SealUnavailable

log = logging.getLogger(__name__)


class AdminProblem(Exception):
    """A request that cannot be done, with the facts its caller gets."""

    def __init__(self, status: int, kind: str, title: str, detail: str, instance: str) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.title = title
        self.detail = detail
        self.instance = instance


@contextmanager
def refusing(
    instance: str, invalid: str, *, not_found: str = "", not_found_kind: str = "not-found"
) -> Iterator[None]:
    """Turns what a use case raises into problems: `invalid` and `not_found` are their titles."""
    try:
        yield
    except Invalid as error:
        raise AdminProblem(
            400, error.kind or "validation", error.title or invalid, str(error), instance
        ) from None
    except Conflict as error:
        raise AdminProblem(400, "validation", invalid, str(error), instance) from None
    except NotFound as error:
        raise AdminProblem(404, not_found_kind, not_found, str(error), instance) from None


def show_problem(_: Request[Any, Any, Any], problem: AdminProblem) -> Response[dict[str, Any]]:
    """An AdminProblem as a response."""
    return Response(
        {
            "type": f"/errors/{problem.kind}",
            "title": problem.title,
            "status": problem.status,
            "detail": problem.detail,
            "instance": problem.instance,
        },
        status_code=problem.status,
        media_type="application/json",
        # What is left of a body that is too long will not be read.
        headers={"connection": "close"} if problem.status == 413 else None,
    )


def show_exception(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    """What the framework refused, or nobody foresaw, in the same shape."""
    instance = request.scope["path"]
    if isinstance(error, HTTPException) and error.status_code == 413:
        problem = AdminProblem(
            413,
            "request-body-read",
            "request body reader error",
            "the body is larger than ADMIN_BODY_BYTES_MAX",
            instance,
        )
    elif isinstance(error, HTTPException) and error.status_code < 500:
        title = HTTPStatus(error.status_code).phrase
        kind = title.lower().replace(" ", "-")
        problem = AdminProblem(error.status_code, kind, title, error.detail, instance)
    elif isinstance(error, SealUnavailable):
        problem = AdminProblem(
            503, "unavailable", "secrets cannot be encrypted or read", str(error), instance
        )
    elif isinstance(error, StoreUnavailable):
        problem = AdminProblem(
            503,
            "unavailable",
            "configuration cannot be read or written at the moment",
            "try again later",
            instance,
        )
    else:
        # Where, but not the text: the database quotes arguments in its errors, secrets among them.
        places = traceback.extract_tb(error.__traceback__)[-3:]
        where = " < ".join(f"{place.name}:{place.lineno}" for place in reversed(places))
        log.error("admin.failed path=%s error=%s at=%s", instance, type(error).__name__, where)
        problem = AdminProblem(500, "internal", "internal error", "internal error", instance)
    return show_problem(request, problem)
