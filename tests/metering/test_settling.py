"""What a batch charges: every exchange once, whatever order its records come in."""

from metering_events import make_admitted, make_completed

from contracts.exchange import Event, encode
from contracts.ids import new_id
from metering.openings import Openings
from metering.reading import Taken
from metering.settling import Happened, decode_all, settle


def happened(*events: Event) -> list[Happened]:
    return [Happened(event, bytes(16), 0, 10 * n, 1) for n, event in enumerate(events, 1)]


def test_two_ends_of_one_exchange_in_a_batch_are_one_charge() -> None:
    """Two incarnations of a lane may both hold the record of one write that was tried twice."""
    end = make_completed()
    assert len(settle(happened(end, end), {}, [], Openings(0)).charges) == 1


def test_an_admission_behind_its_end_is_not_opened() -> None:
    """Within a batch records are ordered by incarnation, not by time."""
    openings, event_id = Openings(0), new_id()
    events = happened(make_completed(event_id=event_id), make_admitted(event_id=event_id))
    assert len(settle(events, {}, [event_id], openings).charges) == 1
    assert len(openings) == 0


def test_a_record_whose_text_is_not_utf8_is_a_dead_letter() -> None:
    """Whatever a record holds, decoding it does not stop the partition."""
    good, bad = encode(make_completed()), encode(make_completed()).replace(b"key-1", b"ke\xff-1")
    taken = {"00" * 16: [Taken(bad, 10, 0, 1), Taken(good, 20, 0, 1)]}
    events, letters = decode_all(taken)
    assert [event.offset for event in events] == [20]
    assert letters[0].reason.startswith("undecodable")
