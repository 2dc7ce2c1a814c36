"""GET /api/events and POST (or GET) /api/v2/events: single exchanges."""

from typing import Any

from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler

from contracts import reports
from contracts.operation import promises
from contracts.reports import Event, EventsReport, EventsRequest
from reporting.answers.events import ReportedEvent, ask_events
from reporting.api.endpoint import EVENTS_V1, EVENTS_V2
from reporting.api.problems import respond
from reporting.api.wire import decode, decode_query, integer, number
from reporting.errors import BadQuestion
from reporting.ports import Ledger
from reporting.questions import EventOrder, EventsQuestion, Filters, Window
from reporting.settings import ReportingSettings

ACTIONS = ("warned", "allowed", "blocked", "redacted")


def to_question(request: EventsRequest) -> EventsQuestion:
    """Raises BadQuestion."""
    invalid = [name for name in ("start", "end") if getattr(request, name) <= 0]
    for name, values in (
        ("keyIds", request.key_ids),
        ("userIds", request.user_ids),
        ("customIds", request.custom_ids),
        ("policyIds", request.policy_ids),
        ("tags", request.tags),
    ):
        if "" in values:
            invalid.append(name)
    invalid += [name for name in ("limit", "offset") if getattr(request, name) < 0]
    if not 0 <= request.status <= 999:
        invalid.append("status")
    if invalid:
        raise BadQuestion(f"fields [{', '.join(invalid)}] are invalid")
    if request.start >= request.end:
        raise BadQuestion(f"start {request.start} cannot be larger than end {request.end}")
    for action in request.actions:
        if action not in ACTIONS:
            raise BadQuestion(f"action cannot be {action}")
    return EventsQuestion(
        Window(request.start, request.end),
        Filters(request.key_ids, request.tags, request.custom_ids, request.user_ids),
        policy_ids=request.policy_ids,
        actions=tuple(sorted(set(request.actions))),
        status=request.status or None,
        order=_order(request),
        limit=request.limit or None,
        offset=request.offset if request.limit else 0,
    )


def _order(request: EventsRequest) -> EventOrder:
    cost_order, date_order = request.cost_order.lower(), request.date_order.lower()
    if cost_order not in ("", "asc", "desc"):
        raise BadQuestion(f"cost order is not valid {request.cost_order}")
    if date_order not in ("", "asc", "desc"):
        raise BadQuestion(f"date order is not valid {request.date_order}")
    if cost_order and date_order:
        raise BadQuestion("cost order and date order cannot be both present")
    if cost_order:
        return EventOrder.DEAREST if cost_order == "desc" else EventOrder.CHEAPEST
    return EventOrder.OLDEST if date_order == "asc" else EventOrder.NEWEST


def to_first_version_question(query: dict[str, list[str]]) -> EventsQuestion:
    """The question of GET /api/events: time counts only with keys, and both its ends are in.

    Raises BadQuestion.
    """
    custom_id, user_id = _last(query, "customId"), _last(query, "userId")
    key_ids = tuple(key_id for key_id in query.get("keyIds", []) if key_id)
    if not (custom_id or user_id or key_ids):
        raise BadQuestion(
            "customId, userId and keyIds are empty. one of them is required for retrieving events.",
            type_name="no-filters-empty",
            title="none of customId, keyIds and userId is specified",
        )
    window = None
    if key_ids:
        start_s, end_s = _bound(query, "start"), _bound(query, "end")
        if start_s > end_s:
            raise BadQuestion(f"start {start_s} cannot be larger than end {end_s}")
        window = Window(start_s, end_s + 1)
    return EventsQuestion(
        window,
        Filters(
            key_ids=key_ids,
            custom_ids=(custom_id,) if custom_id else (),
            user_ids=(user_id,) if user_id else (),
        ),
    )


def _last(query: dict[str, list[str]], name: str) -> str:
    return query.get(name, [""])[-1]


def _bound(query: dict[str, list[str]], name: str) -> int:
    text = _last(query, name)
    if not text:
        raise BadQuestion(
            f"{name} query param is not provided",
            type_name=f"query-param-{name}-missing",
            title=f"query param {name} is missing",
        )
    try:
        value = integer(name, text)
    except BadQuestion:
        value = 0
    if value <= 0:
        raise BadQuestion(
            f"{name} query param must be int64",
            type_name=f"bad-{name}-query-param",
            title=f"{name} query cannot be parsed",
        )
    return value


def to_wire(event: ReportedEvent) -> Event:
    """Seconds, a JSON number for money, 0 for what is not known."""
    return Event(
        id=event.event_id,
        created_at=event.occurred_at_ms // 1000,
        tags=event.tags,
        key_id=event.key_id,
        cost_in_usd=number(event.cost_usd),
        provider=event.provider,
        model=event.model,
        status=event.status,
        prompt_token_count=event.input_tokens or 0,
        completion_token_count=event.output_tokens or 0,
        latency_in_ms=event.latency_ms or 0,
        path=event.path,
        method=event.method,
        custom_id=event.custom_id,
        request=event.request,
        response=event.response,
        user_id=event.user_id,
        action=event.policy_action,
        policy_id=event.policy_id,
        route_id=event.route_id,
        correlation_id=event.correlation_id,
        metadata=event.metadata,
        rating_status=event.rating_status,
        evidence=event.evidence,
    )


def event_endpoints(ledger: Ledger, settings: ReportingSettings) -> list[HTTPRouteHandler]:
    """The handlers, bound to what they ask."""

    async def listed(request: EventsRequest) -> Response[bytes]:
        answer = await ask_events(
            to_question(request), ledger, settings, is_counted=request.return_count
        )
        return respond(EventsReport([to_wire(event) for event in answer.events], answer.count or 0))

    @post(
        EVENTS_V2.instance,
        status_code=200,
        opt={"endpoint": EVENTS_V2, **promises(reports.EVENTS_V2)},
    )
    async def list_events(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Exchanges by any filter, sorted, in pages."""
        return await listed(decode(await request.body(), EventsRequest))

    @get(EVENTS_V2.instance, opt={"endpoint": EVENTS_V2, **promises(reports.EVENTS_V2_BY_GET)})
    async def list_events_by_get(request: Request[Any, Any, Any]) -> Response[bytes]:
        """The same by GET: a body if there is one, else query parameters."""
        body = await request.body()
        if body:
            return await listed(decode(body, EventsRequest))
        return await listed(decode_query(request.query_params.dict(), EventsRequest))

    @get(EVENTS_V1.instance, opt={"endpoint": EVENTS_V1, **promises(reports.EVENTS_V1)})
    async def list_events_first_version(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Exchanges of a custom id, a user, or keys in a window."""
        question = to_first_version_question(request.query_params.dict())
        answer = await ask_events(question, ledger, settings, is_counted=False)
        return respond([to_wire(event) for event in answer.events])

    return [list_events, list_events_by_get, list_events_first_version]
