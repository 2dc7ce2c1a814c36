"""What can go wrong with a question.

ReportingError
├── BadQuestion          the client's mistake, 400
│   └── BadJson          not JSON, or a field of another type, 400
├── QuestionTooLarge     a limit of ours or of the query, 400
├── NotFound             no such thing in the ledger, 404
├── QuestionTimedOut     the execution limit of a query, 504
├── Unavailable          the ledger or NATS cannot be reached, 503
├── Busy                 too many questions at once, 503
└── LedgerFailed         ClickHouse refused the query, 500
"""


class ReportingError(Exception):
    """`detail` may be shown to the client."""

    status = 500

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class BadQuestion(ReportingError):
    """The client's mistake. `type_name` and `title` are the endpoint's when None."""

    status = 400

    def __init__(
        self, detail: str, *, type_name: str | None = None, title: str | None = None
    ) -> None:
        super().__init__(detail)
        self.type_name = type_name
        self.title = title


class BadJson(BadQuestion):
    """Not JSON, or a field of another type."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, type_name="json-unmarshal", title="json unmarshaller error")


class QuestionTooLarge(ReportingError):
    """The answer would break a limit; the detail names it and says what to narrow."""

    status = 400


class NotFound(ReportingError):
    """No such thing in the ledger."""

    status = 404


class QuestionTimedOut(ReportingError):
    """A query ran into its execution limit."""

    status = 504


class Unavailable(ReportingError):
    """ClickHouse or NATS cannot be reached."""

    status = 503


class Busy(ReportingError):
    """Too many questions at once."""

    status = 503


class LedgerFailed(ReportingError):
    """ClickHouse refused the query: a bug here, or a ledger that is not migrated."""
