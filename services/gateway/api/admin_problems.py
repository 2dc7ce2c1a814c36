"""Errors of the admin API: `{type, title, status, detail, instance}`, as BricksLLM words them."""

from typing import Any

from litestar import Request, Response


class AdminProblem(Exception):
    """A request that cannot be done, with the facts its caller gets."""

    def __init__(self, status: int, kind: str, title: str, detail: str, instance: str) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.title = title
        self.detail = detail
        self.instance = instance


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
    )
