"""The routes of one kind of thing, out of its use cases: create, list, show, change and delete.

A resource's own file says what is its own: the use cases, the words, and what its document shows.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

import msgspec
from litestar import Request, Response, delete, get, patch, route
from litestar.enums import HttpMethod

from contracts.config.admin_tokens import Scope
from gateway.administration.store import Change, Reading, Store
from gateway.api.admin_body import read
from gateway.api.admin_problems import refusing
from gateway.api.force import FORCE, is_forced
from gateway.api.guards import actor_of
from gateway.api.operation import Operation, QueryParameter, promises

Asked = Request[Any, Any, Any]
Item = TypeVar("Item")
Body = TypeVar("Body", bound=msgspec.Struct)


class Words(msgspec.Struct, frozen=True):
    """Titles of refusals, and what they name where it is not the route's own path."""

    invalid: str = ""
    not_found: str = ""
    not_found_kind: str = "not-found"
    instance: str = ""

    def refusing(self, instance: str) -> AbstractContextManager[None]:
        """Turns what a use case raises into problems of the path with this template."""
        return refusing(
            self.instance or instance,
            self.invalid,
            not_found=self.not_found,
            not_found_kind=self.not_found_kind,
        )


class Says(msgspec.Struct, frozen=True):
    """What the document says of a route, in Operation's terms; `words` in place of the resource's.

    `errors` left out are those that the route has by its nature.
    """

    summary: str
    description: str = ""
    example: Any = None
    answer_example: Any = None
    query: tuple[QueryParameter, ...] = ()
    errors: tuple[int, ...] | None = None
    words: Words | None = None


class Resource(Generic[Item]):
    """Things of one kind under `path`, each under its id, which the document calls `id_name`.

    `to_wire` shows one as `wire`, of which `example` is one. Refusals name `instance` in place of
    `path`. Writing needs `scope`.
    """

    def __init__(
        self,
        store: Store,
        path: str,
        id_name: str,
        wire: type[msgspec.Struct],
        to_wire: Callable[[Item], msgspec.Struct],
        example: Any,
        words: Words,
        *,
        instance: str = "",
        scope: Scope = "write",
    ) -> None:
        self._store = store
        self._path = path
        self._one = f"{path}/{{{id_name}:str}}"
        self._wire = wire
        self._to_wire = to_wire
        self._example = example
        self._words = words
        self._instance = instance or path
        self._scope = scope

    def creates(
        self,
        body: type[Body],
        use: Callable[[Body, Change], Awaitable[Item]],
        says: Says,
        check: Callable[[Body], Awaitable[None]] | None = None,
    ) -> Any:
        """PUT and POST. `check` is what may take long, and is done before others have to wait."""
        words, instance = says.words or self._words, self._instance

        async def create(request: Asked) -> Response[Any]:
            new = await read(request, body, words.instance or instance)
            with words.refusing(instance):
                if check is not None:
                    await check(new)
                async with self._store.change(actor_of(request)) as change:
                    item = await use(new, change)
            return _answer(self._to_wire(item))

        methods = [HttpMethod.POST, HttpMethod.PUT]
        opt = self._promise(says, self._scope, (400,), body, self._wire)
        return route(self._path, http_method=methods, status_code=200, opt=opt)(create)

    def lists(self, use: Callable[[Asked, Reading], Awaitable[list[Item]]], says: Says) -> Any:
        """GET."""
        words, instance = says.words or self._words, self._instance

        async def find(request: Asked) -> Response[Any]:
            with words.refusing(instance):
                async with self._store.read() as reading:
                    found = await use(request, reading)
            return _answer([self._to_wire(item) for item in found])

        says = msgspec.structs.replace(says, answer_example=[self._example])
        opt = self._promise(says, "read", (400,), None, list[self._wire])  # type: ignore[name-defined]
        return get(self._path, opt=opt)(find)

    def shows(self, use: Callable[[str, Reading], Awaitable[Item]], says: Says) -> Any:
        """GET of one."""
        words, instance = says.words or self._words, f"{self._instance}/:id"

        async def show(request: Asked) -> Response[Any]:
            with words.refusing(instance):
                async with self._store.read() as reading:
                    item = await use(_id_in(request), reading)
            return _answer(self._to_wire(item))

        return get(self._one, opt=self._promise(says, "read", (404,), None, self._wire))(show)

    def changes(
        self,
        body: type[Body],
        use: Callable[[str, Body, Change], Awaitable[Item]],
        says: Says,
        check: Callable[[Body], Awaitable[None]] | None = None,
    ) -> Any:
        """PATCH of one. `check` as in `creates`."""
        words, instance = says.words or self._words, f"{self._instance}/:id"

        async def change_one(request: Asked) -> Response[Any]:
            sent = await read(request, body, words.instance or instance)
            with words.refusing(instance):
                if check is not None:
                    await check(sent)
                async with self._store.change(actor_of(request)) as change:
                    item = await use(_id_in(request), sent, change)
            return _answer(self._to_wire(item))

        opt = self._promise(says, self._scope, (400, 404), body, self._wire)
        return patch(self._one, opt=opt)(change_one)

    def deletes(self, use: Callable[[str, Change], Awaitable[object]], says: Says) -> Any:
        """DELETE of one; the answer is empty."""
        return self._deletes(lambda item_id, _, change: use(item_id, change), says, (404,))

    def deletes_unless_used(
        self, use: Callable[[str, bool, Change], Awaitable[object]], says: Says
    ) -> Any:
        """The same where others may refer to it; `use` is told whether the caller insists."""
        return self._deletes(use, msgspec.structs.replace(says, query=(FORCE,)), (400, 404))

    def _deletes(
        self,
        use: Callable[[str, bool, Change], Awaitable[object]],
        says: Says,
        errors: tuple[int, ...],
    ) -> Any:
        words, instance = says.words or self._words, f"{self._instance}/:id"

        async def delete_one(request: Asked) -> Response[bytes]:
            with words.refusing(instance):
                async with self._store.change(actor_of(request)) as change:
                    await use(_id_in(request), is_forced(request), change)
            return Response(b"", media_type="text/plain")

        opt = self._promise(says, self._scope, errors, None, None)
        return delete(self._one, status_code=200, opt=opt)(delete_one)

    def _promise(
        self, says: Says, scope: Scope, errors: tuple[int, ...], body: Any, answer: Any
    ) -> Any:
        return promises(
            Operation(
                summary=says.summary,
                description=says.description,
                scope=scope,
                body=body,
                answer=answer,
                query=says.query,
                errors=errors if says.errors is None else says.errors,
                example=says.example,
                answer_example=None if answer is None else says.answer_example or self._example,
            )
        )


def _id_in(request: Asked) -> str:
    """The one parameter of the path."""
    (item_id,) = request.path_params.values()
    return str(item_id)


def _answer(shown: Any) -> Response[Any]:
    return Response(shown, media_type="application/json")
