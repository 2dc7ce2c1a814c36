"""The limits that are judged before and after a query, with words that say what to change."""

from collections.abc import Iterable, Sized
from typing import Final

from reporting.errors import BadQuestion, QuestionTooLarge
from reporting.questions import Filters, TimeseriesQuestion, Window
from reporting.settings import ReportingSettings

SECONDS_MAX: Final = 10_413_791_999
"""The last second that the ledger's time column can hold: the end of the year 2299."""

VALUE_BYTES_MAX: Final = 1024
"""Length of one id or tag in a question."""


def check_window(window: Window, settings: ReportingSettings) -> None:
    """Raises BadQuestion for times the ledger has no room for, QuestionTooLarge for too long."""
    if window.start_s < 0 or window.end_s > SECONDS_MAX:
        raise BadQuestion(f"start and end must be Unix seconds from 0 to {SECONDS_MAX}")
    if window.end_s - window.start_s > settings.report_window_max:
        raise QuestionTooLarge(
            f"the window is longer than {settings.report_window_max:g} s (REPORT_WINDOW_MAX)"
        )


def check_buckets(question: TimeseriesQuestion, settings: ReportingSettings) -> None:
    """Raises QuestionTooLarge."""
    if question.buckets > settings.report_buckets_max:
        raise QuestionTooLarge(
            f"{question.buckets} buckets are more than {settings.report_buckets_max}"
            " (REPORT_BUCKETS_MAX); use a longer increment or a shorter window"
        )


def check_filters(filters: Filters, settings: ReportingSettings) -> None:
    """Raises QuestionTooLarge."""
    for name, values in (
        ("keyIds", filters.key_ids),
        ("tags", filters.tags),
        ("customIds", filters.custom_ids),
        ("userIds", filters.user_ids),
    ):
        check_values(name, values, settings)


def check_values(name: str, values: Iterable[str], settings: ReportingSettings) -> None:
    """Raises QuestionTooLarge when there are too many of them, or one is too long."""
    listed = list(values)
    if len(listed) > settings.report_filter_values_max:
        raise QuestionTooLarge(
            f"{name} has {len(listed)} values; {settings.report_filter_values_max} are allowed"
            " (REPORT_FILTER_VALUES_MAX)"
        )
    if any(len(value.encode()) > VALUE_BYTES_MAX for value in listed):
        raise QuestionTooLarge(f"a value of {name} is longer than {VALUE_BYTES_MAX} bytes")


def check_rows(rows: Sized, rows_max: int, setting: str, advice: str) -> None:
    """Raises QuestionTooLarge: an answer is whole or it is none."""
    if len(rows) > rows_max:
        raise QuestionTooLarge(f"the answer has more than {rows_max} rows ({setting}); {advice}")
