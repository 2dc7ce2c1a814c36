"""What reports are asked for and answered with, on 8003 and, passed on, on 8001."""

from typing import Annotated, Final

import msgspec

from contracts.operation import Operation, QueryParameter

Number = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "number"})]
"""A JSON number, digit for digit."""


class TimeseriesRequest(msgspec.Struct, frozen=True, rename="camel"):
    """`filters` names what to group by; names that are none of the four are ignored."""

    key_ids: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    custom_ids: tuple[str, ...] = ()
    user_ids: tuple[str, ...] = ()
    start: int = 0
    end: int = 0
    increment: int = 0
    filters: tuple[str, ...] = ()


class DataPoint(msgspec.Struct, frozen=True, rename="camel"):
    """`timeStamp` is Unix seconds. `costInUsd` does not hold the unpriced and unknown requests."""

    time_stamp: int
    number_of_requests: int
    cost_in_usd: Number
    latency_in_ms: int
    prompt_token_count: int
    completion_token_count: int
    success_count: int
    model: str
    key_id: str
    custom_id: str
    user_id: str
    unpriced_requests: int
    unknown_requests: int


class TimeseriesReport(msgspec.Struct, frozen=True, rename="camel"):
    """Percentiles are over the whole window, in milliseconds."""

    data_points: list[DataPoint]
    latency_in_ms_median: float
    latency_in_ms_99th: float = msgspec.field(name="latencyInMs99th")


class TopKeysRequest(msgspec.Struct, frozen=True, rename="camel"):
    """`limit` 0 is all; `order` is desc (default) or asc."""

    tags: tuple[str, ...] = ()
    key_ids: tuple[str, ...] = ()
    start: int = 0
    end: int = 0
    limit: int = 0
    offset: int = 0
    order: str = ""
    name: str = ""
    revoked: bool | None = None


class KeyDataPoint(msgspec.Struct, frozen=True, rename="camel"):
    """`costInUsd` does not hold the unpriced and unknown requests."""

    key_id: str
    cost_in_usd: Number
    unpriced_requests: int
    unknown_requests: int


class TopKeysReport(msgspec.Struct, frozen=True, rename="camel"):
    """Sorted by cost."""

    data_points: list[KeyDataPoint]


class KeySpendReport(msgspec.Struct, frozen=True, rename="camel"):
    """`costInMicroDollars` is the exact sum rounded once; `costInUsd` is the exact sum."""

    id: str
    cost_in_micro_dollars: int
    cost_in_usd: Number
    unpriced_requests: int
    unknown_requests: int


class EventsRequest(msgspec.Struct, frozen=True, rename="camel"):
    """`limit` 0 is all, and then `offset` does not count."""

    user_ids: tuple[str, ...] = ()
    custom_ids: tuple[str, ...] = ()
    key_ids: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    start: int = 0
    end: int = 0
    limit: int = 0
    offset: int = 0
    policy_ids: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    cost_order: str = ""
    date_order: str = ""
    return_count: bool = False
    status: int = 0


class Event(msgspec.Struct, frozen=True):
    """Mixed case as ever. Numbers that the ledger does not know are 0 here: `rating_status` says
    so (rated, unpriced, unknown, not_billable), and `evidence` how the tokens are known.
    """

    id: str
    created_at: int
    tags: tuple[str, ...]
    key_id: str
    cost_in_usd: Number
    provider: str
    model: str
    status: int
    prompt_token_count: int
    completion_token_count: int
    latency_in_ms: int
    path: str
    method: str
    custom_id: str
    request: str
    response: str
    user_id: str = msgspec.field(name="userId")
    action: str
    policy_id: str = msgspec.field(name="policyId")
    route_id: str = msgspec.field(name="routeId")
    correlation_id: str = msgspec.field(name="correlationId")
    metadata: str
    rating_status: str
    evidence: str


class EventsReport(msgspec.Struct, frozen=True):
    """`count` is 0 unless it was asked for."""

    events: list[Event]
    count: int


class PartitionProgress(msgspec.Struct, frozen=True, rename="camel"):
    """How far one partition is booked.

    `metered_up_to_ms` is Unix milliseconds: everything that reached the stream before it is in the
    ledger; None when its meter has not said. `condition` and `problem` are the meter's own words,
    `backlog_messages` counts parcels in the stream not yet booked.
    """

    partition: int
    member: str | None
    condition: str | None
    problem: str | None
    metered_up_to_ms: int | None
    lag_ms: int | None
    backlog_messages: int | None
    committed_seq: int
    batch_is_pending: bool


class MeteringReport(msgspec.Struct, frozen=True, rename="camel"):
    """`meteredUpToMs` is the least of all partitions; None when one of them has not said.

    A partition that nobody meters, and that has nothing to book, need not say.
    """

    metered_up_to_ms: int | None
    backlog_messages: int | None
    partitions: list[PartitionProgress]


_START: Final = 1767225600
_KEY_ID: Final = "01977f3e-0000-7000-8000-000000000002"
_WINDOW: Final = {"start": _START, "end": _START + 86_400}
_LEDGER: Final = (500, 504)
"""What a question to the ledger may come to, beside its being out of reach."""
_EVENT: Final = {
    "id": "01977f3e-0000-7000-8000-000000000003",
    "created_at": _START + 60,
    "tags": ["team-a"],
    "key_id": _KEY_ID,
    "cost_in_usd": 0.000125,
    "provider": "openai",
    "model": "gpt-4o-mini",
    "status": 200,
    "prompt_token_count": 12,
    "completion_token_count": 34,
    "latency_in_ms": 456,
    "path": "/v1/chat/completions",
    "method": "POST",
    "custom_id": "",
    "request": "e30=",
    "response": "e30=",
    "userId": "",
    "action": "",
    "policyId": "",
    "routeId": "",
    "correlationId": "",
    "metadata": "e30=",
    "rating_status": "rated",
    "evidence": "reported",
}
_EVENTS_QUERY: Final = tuple(
    QueryParameter(
        field.encode_name,
        "as in the body of the POST",
        repeats=field.default == (),
        kind={int: "integer", bool: "boolean"}.get(field.type, "string"),
        example=_WINDOW.get(field.encode_name),
    )
    for field in msgspec.structs.fields(EventsRequest)
)
_KEY_ID_QUERY: Final = (QueryParameter("keyId", "whose", is_required=True, example=_KEY_ID),)

TIMESERIES: Final = Operation(
    summary="Requests, tokens, money and latency over time",
    description="Buckets of `increment` seconds from `start` on, empty ones included, grouped by"
    " what `filters` names: `model`, `keyId`, `customId`, `userId`.",
    scope="read",
    tag="reporting",
    body=TimeseriesRequest,
    answer=TimeseriesReport,
    errors=(400, *_LEDGER),
    example={**_WINDOW, "increment": 3600, "filters": ["model"], "tags": ["team-a"]},
    answer_example={
        "dataPoints": [
            {
                "timeStamp": _START,
                "numberOfRequests": 2,
                "costInUsd": 0.00025,
                "latencyInMs": 912,
                "promptTokenCount": 24,
                "completionTokenCount": 68,
                "successCount": 2,
                "model": "gpt-4o-mini",
                "keyId": "",
                "customId": "",
                "userId": "",
                "unpricedRequests": 0,
                "unknownRequests": 0,
            }
        ],
        "latencyInMsMedian": 456.0,
        "latencyInMs99th": 456.0,
    },
)
TOP_KEYS: Final = Operation(
    summary="Keys by spend in a window",
    scope="read",
    tag="reporting",
    body=TopKeysRequest,
    answer=TopKeysReport,
    errors=(400, *_LEDGER),
    example={**_WINDOW, "limit": 10},
    answer_example={
        "dataPoints": [
            {"keyId": _KEY_ID, "costInUsd": 0.00025, "unpricedRequests": 0, "unknownRequests": 0}
        ]
    },
)
KEY_SPEND: Final = Operation(
    summary="What a key spent in all",
    scope="read",
    tag="reporting",
    answer=KeySpendReport,
    errors=(400, 404, *_LEDGER),
    answer_example={
        "id": _KEY_ID,
        "costInMicroDollars": 250,
        "costInUsd": 0.00025,
        "unpricedRequests": 0,
        "unknownRequests": 0,
    },
)
USER_IDS: Final = Operation(
    summary="The distinct users of a key",
    scope="read",
    tag="reporting",
    answer=list[str],
    query=_KEY_ID_QUERY,
    errors=(400, *_LEDGER),
    answer_example=["alice", "bob"],
)
CUSTOM_IDS: Final = Operation(
    summary="The distinct custom ids of a key",
    scope="read",
    tag="reporting",
    answer=list[str],
    query=_KEY_ID_QUERY,
    errors=(400, *_LEDGER),
    answer_example=["job-1"],
)
METERING: Final = Operation(
    summary="How far the books are, by partition",
    scope="read",
    tag="reporting",
    answer=MeteringReport,
    errors=(),
    answer_example={
        "meteredUpToMs": _START * 1000,
        "backlogMessages": 0,
        "partitions": [
            {
                "partition": 0,
                "member": "metering-1",
                "condition": "booking",
                "problem": None,
                "meteredUpToMs": _START * 1000,
                "lagMs": 12,
                "backlogMessages": 0,
                "committedSeq": 41,
                "batchIsPending": False,
            }
        ],
    },
)
EVENTS_V2: Final = Operation(
    summary="Single exchanges, by any filter, in pages",
    description="`start` is in, `end` is not. `request`, `response` and `metadata` are Base64.",
    scope="read",
    tag="events",
    body=EventsRequest,
    answer=EventsReport,
    errors=(400, *_LEDGER),
    example={**_WINDOW, "limit": 10, "returnCount": True},
    answer_example={"events": [_EVENT], "count": 1},
)
EVENTS_V2_BY_GET: Final = Operation(
    summary="The same by GET: query parameters, or the body of the POST",
    scope="read",
    tag="events",
    answer=EventsReport,
    query=_EVENTS_QUERY,
    errors=(400, 413, *_LEDGER),
    answer_example={"events": [_EVENT], "count": 0},
)
EVENTS_V1: Final = Operation(
    summary="Exchanges of a custom id, a user, or keys in a window",
    description="With `keyIds` both `start` and `end` are required, and both are in.",
    scope="read",
    tag="events",
    answer=list[Event],
    query=(
        QueryParameter("customId", "of this custom id"),
        QueryParameter("userId", "of this user"),
        QueryParameter("keyIds", "of any of these keys", repeats=True, example=_KEY_ID),
        QueryParameter("start", "Unix seconds", kind="integer", example=_START),
        QueryParameter("end", "Unix seconds", kind="integer", example=_START + 86_400),
    ),
    errors=(400, *_LEDGER),
    answer_example=[_EVENT],
)

REPORTS: Final[tuple[tuple[str, str, Operation], ...]] = (
    ("POST", "/api/reporting/events", TIMESERIES),
    ("POST", "/api/reporting/top-keys", TOP_KEYS),
    ("GET", "/api/reporting/keys/{key_id}", KEY_SPEND),
    ("GET", "/api/reporting/user-ids", USER_IDS),
    ("GET", "/api/reporting/users-ids", USER_IDS),
    ("GET", "/api/reporting/custom-ids", CUSTOM_IDS),
    ("GET", "/api/reporting/metering", METERING),
    ("POST", "/api/v2/events", EVENTS_V2),
    ("GET", "/api/v2/events", EVENTS_V2_BY_GET),
    ("GET", "/api/events", EVENTS_V1),
)
"""Every report: method, path, promise. 8003 answers them, 8001 passes them on."""

REPORT_TAGS: Final[dict[str, str]] = {
    "reporting": "Sums, rankings and ids out of the ledger.",
    "events": "Single exchanges out of the ledger.",
}


def passed_on(operation: Operation) -> Operation:
    """The same asked of 8001, which may get no answer from 8003."""
    return msgspec.structs.replace(operation, errors=(*operation.errors, 502))
