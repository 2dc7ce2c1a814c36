"""Request bodies on their way in: read whole, spooled, or taken on piece by piece."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import msgspec

from gateway.asked import Asked, Incoming
from gateway.configuration.snapshot import Snapshot
from gateway.dispatch.deadlines import Deadlines
from gateway.dispatch.spool import SpoolDirectory
from gateway.dispatch.uploads import WHOLE_BYTES_MAX, Kept, Upload, content_type_of, is_json
from gateway.endpoints.bodies import HIDING, MAY_NAME_MODEL, SILENT, silent
from gateway.endpoints.forms import FormReader, boundary_of, call_of_form, form_of, is_form
from gateway.means import Limits
from gateway.refusals import shutting_down, too_slow
from gateway.values import Call, Endpoint, Principal, too_large

_T = TypeVar("_T")


class Arrival:
    """Takes in the bodies of one worker's requests, each within the time of its exchange."""

    def __init__(self, limits: Limits, deadlines: Deadlines, spools: SpoolDirectory) -> None:
        self._limits = limits
        self._deadlines = deadlines
        self._spools = spools

    async def take(self, asked: Asked, *, in_pieces: bool) -> None:
        """Fills in `body`, or `incoming` for a long one in which nothing needs to be edited.

        A form is spooled when what it says decides whether, or where, it may go. Raises Refusal
        (408, 413, 503), ClientLeft.
        """
        if not in_pieces or not _is_long_and_opaque(asked):
            bytes_max = self._limits.request_body_bytes_max
            if (asked.head.content_length or 0) > bytes_max:
                raise too_large(bytes_max)
            reading = asked.reply.read_body(bytes_max)
            # What is here already is not waited for, and most requests come in one piece.
            asked.body = await (reading if asked.reply.is_whole else self._in_time(asked, reading))
            return
        asked.incoming = incoming = self._incoming(asked)
        asked.form = form = incoming.form
        if form is not None and _must_be_known(asked.endpoint, asked.principal, asked.snapshot):
            spool = await self._spools.open()
            await self._in_time(asked, incoming.upload.settle(spool))
            form.finish()

    async def _in_time(self, asked: Asked, reading: Awaitable[_T]) -> _T:
        try:
            with self._deadlines.after(asked.timeout_s, asked.task):
                return await reading
        except TimeoutError:
            raise too_slow() from None
        except asyncio.CancelledError:
            raise shutting_down() from None

    def _incoming(self, asked: Asked) -> Incoming:
        """Raises Refusal (413) when the head says that the body is over the limit."""
        head, endpoint = asked.head, asked.endpoint
        bytes_max = self._limits.multipart_body_bytes_max
        source = asked.reply.pieces(bytes_max)
        if head.content_length is not None and head.content_length > bytes_max:
            raise too_large(bytes_max)
        content_type = content_type_of(asked.inbound.headers)
        form = None
        if endpoint.parse in MAY_NAME_MODEL and is_form(content_type):
            form = FormReader(boundary_of(content_type))
        kept = Kept(self._limits.event_body_bytes_max)
        tell = None if form is None else form.feed
        return Incoming(Upload(source, head.content_length, kept, tell), form)


def call_of(asked: Asked) -> Call:
    """The call that a body makes, as far as it is known before it goes on. Raises Refusal (400)."""
    endpoint, body, incoming = asked.endpoint, asked.body, asked.incoming
    if body is not None:
        if body[:1] != b"{" and endpoint.parse in MAY_NAME_MODEL:
            content_type = content_type_of(asked.inbound.headers)
            asked.form = form_of(content_type, body) if is_form(content_type) else None
        call = endpoint.parse(body) if asked.form is None else call_of_form(asked.form)
    elif endpoint.parse is silent:
        call = SILENT
    elif incoming is not None and incoming.form is not None and incoming.upload.is_repeatable:
        call = call_of_form(incoming.form)
    else:
        call = HIDING
    if endpoint.model is None or endpoint.lists_models:
        return call
    return msgspec.structs.replace(call, model=endpoint.model, hides_model=False)


def _is_long_and_opaque(asked: Asked) -> bool:
    length = asked.head.content_length
    if length is not None and length <= WHOLE_BYTES_MAX:
        return False
    parse = asked.endpoint.parse
    if not (parse is silent or parse in MAY_NAME_MODEL):
        return False
    return not is_json(content_type_of(asked.inbound.headers))


def _must_be_known(endpoint: Endpoint, principal: Principal, snapshot: Snapshot) -> bool:
    """Whether the model or the user of a call decides on anything."""
    if endpoint.parse is silent:
        return False
    if endpoint.provider is None or principal.allowed_models is not None:
        return True
    if snapshot.users_by_user_id:
        return True
    targets = (snapshot.target_by_setting.get(one) for one in principal.setting_ids)
    return any(target is not None and target.allowed_models for target in targets)
