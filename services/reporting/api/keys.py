"""Questions about keys: the top ones, one key's spend, the users and custom ids of a key."""

from decimal import Decimal
from typing import Any, Literal

from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from contracts import reports
from contracts.money import picousd_from_decimal, rounded_usd
from contracts.operation import promises
from contracts.reports import KeyDataPoint, KeySpendReport, TopKeysReport, TopKeysRequest
from reporting.answers.keys import KeySpend, ask_distinct_ids, ask_key_spend, ask_top_keys
from reporting.api.endpoint import CUSTOM_IDS, KEY_SPEND, TOP_KEYS, USER_IDS
from reporting.api.problems import respond
from reporting.api.wire import decode, number
from reporting.errors import BadQuestion
from reporting.ports import KeyDirectory, Ledger
from reporting.questions import Filters, TopKeysQuestion, Window
from reporting.settings import ReportingSettings


def to_question(request: TopKeysRequest) -> TopKeysQuestion:
    """Raises BadQuestion."""
    if request.start <= 0 or request.end <= 0:
        raise BadQuestion("start and end are required, in Unix seconds")
    if request.start >= request.end:
        raise BadQuestion(f"start {request.start} cannot be larger than end {request.end}")
    if request.limit < 0 or request.offset < 0:
        raise BadQuestion("limit and offset cannot be negative")
    if request.order.lower() not in ("", "asc", "desc"):
        raise BadQuestion(f"order can only be asc or desc, not {request.order}")
    if "" in request.tags or "" in request.key_ids:
        raise BadQuestion("tags and keyIds cannot hold empty values")
    return TopKeysQuestion(
        Window(request.start, request.end),
        Filters(key_ids=request.key_ids, tags=request.tags),
        name=request.name,
        revoked=request.revoked,
        is_descending=request.order.lower() != "asc",
        limit=request.limit or None,
        offset=request.offset,
    )


def micro_dollars(cost_usd: Decimal) -> int:
    """Rounded once, half to even."""
    rounded = rounded_usd(picousd_from_decimal(cost_usd), 6)
    return picousd_from_decimal(rounded) // 10**6


def _key_data_point(spend: KeySpend) -> KeyDataPoint:
    return KeyDataPoint(
        spend.key_id, number(spend.cost_usd), spend.unpriced_requests, spend.unknown_requests
    )


def _required_key_id(request: Request[Any, Any, Any]) -> str:
    key_id = request.query_params.get("keyId", "")
    if not key_id:
        raise BadQuestion("key id query is missing")
    return key_id


def key_endpoints(
    ledger: Ledger, directory: KeyDirectory | None, settings: ReportingSettings
) -> list[HTTPRouteHandler]:
    """The handlers, bound to what they ask."""

    @post(
        TOP_KEYS.instance, status_code=200, opt={"endpoint": TOP_KEYS, **promises(reports.TOP_KEYS)}
    )
    async def report_top_keys(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Keys by spend in a window."""
        question = to_question(decode(await request.body(), TopKeysRequest))
        spends = await ask_top_keys(question, ledger, directory, settings)
        return respond(TopKeysReport([_key_data_point(spend) for spend in spends]))

    @get(
        "/api/reporting/keys/{key_id:str}",
        opt={"endpoint": KEY_SPEND, **promises(reports.KEY_SPEND)},
    )
    async def report_key(key_id: FromPath[str]) -> Response[bytes]:
        """What a key spent in all."""
        spend = await ask_key_spend(key_id, ledger, directory, settings)
        return respond(
            KeySpendReport(
                key_id,
                micro_dollars(spend.cost_usd),
                number(spend.cost_usd),
                spend.unpriced_requests,
                spend.unknown_requests,
            )
        )

    async def ids(
        request: Request[Any, Any, Any], of: Literal["userId", "customId"]
    ) -> Response[bytes]:
        return respond(await ask_distinct_ids(_required_key_id(request), of, ledger, settings))

    @get(
        [USER_IDS.instance, "/api/reporting/users-ids"],
        opt={"endpoint": USER_IDS, **promises(reports.USER_IDS)},
    )
    async def report_user_ids(request: Request[Any, Any, Any]) -> Response[bytes]:
        """The distinct users of a key."""
        return await ids(request, "userId")

    @get(CUSTOM_IDS.instance, opt={"endpoint": CUSTOM_IDS, **promises(reports.CUSTOM_IDS)})
    async def report_custom_ids(request: Request[Any, Any, Any]) -> Response[bytes]:
        """The distinct custom ids of a key."""
        return await ids(request, "customId")

    return [report_top_keys, report_key, report_user_ids, report_custom_ids]
