"""Finished exchanges to ledger rows: usage, price, one entry each. Pure, given the manifest."""

from collections.abc import Sequence
from hashlib import sha1
from typing import Any, Final

import msgspec

from contracts.exchange import Attempt, ExchangeCompleted
from contracts.ledger import Entry, EntryKind, RatingStatus
from contracts.meters import COLUMN_METERS, NO_USAGE, Evidence, Meter, Usage
from metering.entries import reversal_of
from metering.ports import Billed, Body, Chargeable, Closing, Manifest
from rating.charge import charge
from rating.count import is_billable, may_be_billed, usage_of
from rating.price_book import PriceBook
from rating.rate import NOT_BILLABLE, Rating
from rating.usage_media import MEDIA_OPERATIONS, model_in_form

OUTCOME_ABANDONED: Final = "abandoned"
PROVIDER_CACHED: Final = "cached"
"""The provider of an exchange that was answered from the cache."""
CHARGES_RUN: Final = bytes(16)
"""The run of live charges; reruns have ids of their own."""

_AGE_MAX_MS: Final = 400 * 86_400_000
_AHEAD_MAX_MS: Final = 86_400_000
_NO_COLUMNS: Final = (None,) * len(COLUMN_METERS)
_NOTHING_BY_METER: Final[dict[str, Any]] = {
    name: None
    for meter in COLUMN_METERS
    for name in (meter.value, meter.value.removesuffix("_tokens") + "_picousd")
}
_COLUMN_SET: Final = frozenset(COLUMN_METERS)
_UNKNOWN: Final = Rating(RatingStatus.UNKNOWN, None, {}, "none")
_CHARGE: Final = EntryKind.CHARGE
_REPLACEMENT: Final = EntryKind.REPLACEMENT
_UNPRICED: Final = RatingStatus.UNPRICED
_NONE: Final = Evidence.NONE

# entry_id() of the contracts, four times as fast: RFC 9562 §5.5 by hand. A test holds them equal.
_NAMESPACE: Final = bytes.fromhex("6f1f3c1e7f0a5a539d5e0a3f0b5a7c11")
_CHARGES_RUN_HEX: Final = CHARGES_RUN.hex()


def live_entry_id(event_id: bytes, attempt_no: int, kind: str) -> bytes:
    """The deterministic identity of a live entry, sixteen bytes."""
    name = f"{event_id.hex()}:{attempt_no}:{kind}:{_CHARGES_RUN_HEX}"
    digest = bytearray(sha1(_NAMESPACE + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


class Pipeline:
    """Bills with one price book."""

    def __init__(self, book: PriceBook) -> None:
        self._book = book

    def rows(
        self, charges: Sequence[Chargeable], closings: Sequence[Closing], manifest: Manifest
    ) -> Billed:
        """One entry an exchange; a reversal and a replacement where it was booked as abandoned.

        One more for every earlier attempt that its provider may bill: no request, cost unknown.
        """
        entries: list[Entry] = []
        bodies: list[Body] = []
        unrated: list[tuple[Chargeable, str]] = []
        unpriced = 0
        for each in charges:
            event = each.event
            try:
                usage, rating = self._rate(event)
            except Exception as error:  # noqa: BLE001 - whatever one event does, the batch goes on
                usage, rating = NO_USAGE, _UNKNOWN
                unrated.append((each, repr(error)))
            if rating.status is _UNPRICED:
                unpriced += 1
            if each.reverses is not None:
                entries.append(_taken_back(each.reverses, each, manifest))
            answering = _entry(each, usage, rating, manifest)
            if len(event.attempts) > 1:
                entries += _further(each, answering)
            entries.append(answering)
            if event.stores_request or event.stores_response:
                bodies.append(_body(event, manifest))
        entries += [_abandoned(closing, manifest) for closing in closings]
        return Billed(entries, bodies, unrated, unpriced)

    def _rate(self, event: ExchangeCompleted) -> tuple[Usage, Rating]:
        if not is_billable(event):
            return NO_USAGE, NOT_BILLABLE
        usage = usage_of(event)
        last = event.attempts[-1]
        return usage, charge(
            usage,
            self._book,
            provider=last.setting.provider,
            model_sent=last.model_sent or event.call.model_asked or _model_in_form(event),
            operation=event.call.operation,
            cost_map=event.cost_map,
            at_ms=event.admitted_at_ms,
        )


def _model_in_form(event: ExchangeCompleted) -> str | None:
    """The model of a form, which nobody had read when the call was recorded."""
    return model_in_form(event.request) if event.call.operation in MEDIA_OPERATIONS else None


def _clamped(occurred_at_ms: int, manifest: Manifest) -> int:
    """A gateway's clock must not cut a batch into a hundred months."""
    booked_at_ms = manifest.booked_at_ms
    return min(max(occurred_at_ms, booked_at_ms - _AGE_MAX_MS), booked_at_ms + _AHEAD_MAX_MS)


def _entry(each: Chargeable, usage: Usage, rating: Rating, manifest: Manifest) -> Entry:
    event = each.event
    attempts = event.attempts
    attempt_no = max(len(attempts) - 1, 0)
    last = attempts[-1] if attempts else None
    kind = _CHARGE if each.reverses is None else _REPLACEMENT
    quantities, amounts = usage.quantities, rating.amounts
    caller, call = event.caller, event.call
    # By position, in the order of the fields: naming seventy of them would double the time.
    facts: tuple[Any, ...] = (
        live_entry_id(event.event_id, attempt_no, kind.value),
        event.event_id,
        CHARGES_RUN,
        kind,
        1,
        attempt_no,
        manifest.partition,
        manifest.batch_id,
        0,
        each.incarnation,
        each.segment_no,
        each.offset,
        _clamped(event.admitted_at_ms, manifest),
        manifest.booked_at_ms,
        caller.key_id,
        caller.user_id or "",
        caller.custom_id or "",
        caller.tags,
        _provider(event, last),
        "" if last is None else last.setting.setting_id,
        0 if last is None else last.setting.revision,
        call.endpoint,
        call.operation,
        call.method,
        call.path,
        call.model_asked or "",
        "" if last is None else last.model_sent or "",
        usage.model_served or "",
        call.is_streaming,
        event.status,
        event.outcome,
        event.error or "",
        event.policy_action,
        event.policy_id,
        event.route_id,
        event.correlation_id,
        len(attempts),
        usage.response_id or "",
        usage.service_tier or "",
        event.duration_us,
        event.first_byte_us,
        call.request_bytes,
        event.response.length_bytes,
        usage.input_tokens,
        usage.output_tokens,
        *(map(quantities.get, COLUMN_METERS) if quantities else _NO_COLUMNS),
        _rare(quantities),
        rating.total_picousd,
        *(map(amounts.get, COLUMN_METERS) if amounts else _NO_COLUMNS),
        _rare(amounts),
        usage.evidence,
        rating.status,
        manifest.price_book,
        rating.source,
        manifest.build,
    )
    return Entry(*facts)


def _provider(event: ExchangeCompleted, last: Attempt | None) -> str:
    if event.is_cache_hit:
        return PROVIDER_CACHED
    return "" if last is None else last.setting.provider


def _further(each: Chargeable, answering: Entry) -> list[Entry]:
    """The rows of earlier attempts that may be billed though their answers were of no use.

    What they used is in no answer that anybody kept, so quantities and cost are unknown. Facts of
    the attempt are its own, everything else is the exchange's. Beside a replacement they are
    replacements too: the charge of attempt 0 may be the row that was taken back.
    """
    event = each.event
    return [
        msgspec.structs.replace(
            answering,
            entry_id=live_entry_id(event.event_id, attempt_no, answering.kind.value),
            requests=0,
            attempt_no=attempt_no,
            provider=attempt.setting.provider,
            setting_id=attempt.setting.setting_id,
            setting_revision=attempt.setting.revision,
            model_sent=attempt.model_sent or "",
            model_served="",
            status=attempt.status or 0,
            outcome="timed_out" if (attempt.error or "").endswith("timeout") else "upstream_failed",
            error=attempt.error or "",
            response_id="",
            service_tier="",
            duration_us=attempt.duration_us,
            first_byte_us=attempt.first_byte_us,
            response_bytes=0,
            input_tokens=None,
            output_tokens=None,
            rare_quantities={},
            cost_picousd=None,
            rare_picousd={},
            evidence=_NONE,
            rating_status=_UNKNOWN.status,
            price_source=_UNKNOWN.source,
            **_NOTHING_BY_METER,
        )
        for attempt_no, attempt in enumerate(event.attempts[:-1])
        if may_be_billed(attempt)
    ]


def _rare(by_meter: dict[Meter, int]) -> dict[str, int]:
    if by_meter.keys() <= _COLUMN_SET:
        return {}
    return {meter.value: n for meter, n in by_meter.items() if meter not in _COLUMN_SET}


def _abandoned(closing: Closing, manifest: Manifest) -> Entry:
    """An admission whose end never came: one request, everything else unknown."""
    admitted = closing.admitted
    caller, call, setting = admitted.caller, admitted.call, admitted.setting
    return Entry(
        entry_id=live_entry_id(admitted.event_id, 0, _CHARGE.value),
        event_id=admitted.event_id,
        run_id=CHARGES_RUN,
        kind=_CHARGE,
        requests=1,
        attempt_no=0,
        partition=manifest.partition,
        batch_id=manifest.batch_id,
        insert_by_ms=0,
        incarnation=closing.incarnation,
        segment_no=closing.segment_no,
        journal_offset=closing.offset,
        occurred_at_ms=_clamped(admitted.admitted_at_ms, manifest),
        booked_at_ms=manifest.booked_at_ms,
        key_id=caller.key_id,
        user_id=caller.user_id or "",
        custom_id=caller.custom_id or "",
        tags=caller.tags,
        provider="" if setting is None else setting.provider,
        setting_id="" if setting is None else setting.setting_id,
        setting_revision=0 if setting is None else setting.revision,
        endpoint=call.endpoint,
        operation=call.operation,
        method=call.method,
        path=call.path,
        model_asked=call.model_asked or "",
        model_sent="",
        model_served="",
        is_streaming=call.is_streaming,
        status=0,
        outcome=OUTCOME_ABANDONED,
        error="",
        policy_action="",
        policy_id="",
        route_id="",
        correlation_id=admitted.correlation_id,
        attempts=0,
        response_id="",
        service_tier="",
        duration_us=None,
        first_byte_us=None,
        request_bytes=call.request_bytes,
        response_bytes=0,
        input_tokens=None,
        output_tokens=None,
        rare_quantities={},
        cost_picousd=None,
        rare_picousd={},
        evidence=_NONE,
        rating_status=RatingStatus.UNKNOWN,
        price_book=manifest.price_book,
        price_source="none",
        build=manifest.build,
        **_NOTHING_BY_METER,
    )


def _taken_back(abandoned: Entry, each: Chargeable, manifest: Manifest) -> Entry:
    return msgspec.structs.replace(
        reversal_of(abandoned),
        partition=manifest.partition,
        batch_id=manifest.batch_id,
        insert_by_ms=0,
        incarnation=each.incarnation,
        segment_no=each.segment_no,
        journal_offset=each.offset,
        booked_at_ms=manifest.booked_at_ms,
        build=manifest.build,
    )


def _body(event: ExchangeCompleted, manifest: Manifest) -> Body:
    return Body(
        event.event_id,
        _clamped(event.admitted_at_ms, manifest),
        event.caller.key_id,
        event.request.content if event.stores_request else b"",
        event.response.content if event.stores_response else b"",
        event.metadata or "",
        event.stores_request,
        event.stores_response,
    )
