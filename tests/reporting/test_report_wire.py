"""Requests are decoded with Go's leniency; money is printed exactly."""

import json
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.money import decimal_from_picousd
from reporting.api.events import EventsRequest
from reporting.api.keys import micro_dollars
from reporting.api.timeseries import TimeseriesRequest
from reporting.api.wire import decode, decode_query, number
from reporting.errors import BadJson, BadQuestion


def test_unknown_fields_null_and_case_do_not_matter() -> None:
    """The ancestor's clients rely on its decoder."""
    body = b'{"KEYIDS":["a",null],"Start":5,"end":null,"increment":1,"what":{"x":[1]}}'

    request = decode(body, TimeseriesRequest)

    assert request == TimeseriesRequest(key_ids=("a", ""), start=5, increment=1)


def test_null_body_is_an_empty_request() -> None:
    """Decoding null into a struct changes nothing in Go."""
    assert decode(b"null", TimeseriesRequest) == TimeseriesRequest()


def test_later_field_wins_whatever_its_case() -> None:
    """Go takes fields as they come."""
    assert decode(b'{"start":1,"START":2}', TimeseriesRequest).start == 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"[]",
        b'"x"',
        b'{"start":"5"}',
        b'{"start":1.5}',
        b'{"start":true}',
        b'{"keyIds":"a"}',
        b'{"keyIds":[1]}',
        b'{"start":9223372036854775808}',
        b'{"start":-9223372036854775809}',
        b'{"start":1e400}',
        b"\xff\xfe",
        b'{"keyIds":["\\ud800"]}',
        b'{"a":' + b"[" * 100_000,
    ],
)
def test_what_does_not_fit_is_bad_json(body: bytes) -> None:
    """Never a server error, never a guess."""
    with pytest.raises(BadJson):
        decode(body, TimeseriesRequest)


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(body: bytes) -> None:
    """No body makes the decoder fail in any other way."""
    try:
        decode(body, EventsRequest)
    except BadJson:
        pass


def test_query_parameters_fill_the_same_request() -> None:
    """The README's GET form of events."""
    query = {
        "keyIds": ["a", "b"],
        "start": ["5"],
        "end": ["9"],
        "returnCount": ["true"],
        "costOrder": ["desc"],
        "other": ["x"],
    }

    request = decode_query(query, EventsRequest)

    assert request == EventsRequest(
        key_ids=("a", "b"), start=5, end=9, return_count=True, cost_order="desc"
    )


@pytest.mark.parametrize("text", ["", "x", "1.5", "９", "99999999999999999999"])
def test_query_number_that_is_none_is_refused(text: str) -> None:
    """Digits of other scripts and numbers beyond 64 bits included."""
    with pytest.raises(BadQuestion):
        decode_query({"start": [text]}, EventsRequest)


@given(st.integers(min_value=-(10**38) + 1, max_value=10**38 - 1))
def test_money_is_printed_to_the_last_pico_dollar(picousd: int) -> None:
    """A JSON number with all its digits, read back as a decimal, is the amount."""
    printed = msgspec.json.encode({"cost": number(decimal_from_picousd(picousd))})

    read = json.loads(printed, parse_float=Decimal, parse_int=Decimal)["cost"]

    assert read == decimal_from_picousd(picousd)


def test_money_has_no_exponent_and_no_trailing_zeros() -> None:
    """One pico-dollar is as readable as a dollar."""
    texts = [
        bytes(number(Decimal(text)))
        for text in ("0.000000000001", "1.500000000000", "100", "-0.000000000000", "0E-12")
    ]

    assert texts == [b"0.000000000001", b"1.5", b"100", b"0", b"0"]


def test_unknown_money_is_zero_on_the_wire() -> None:
    """The field is a number; the status beside it says that it is not known."""
    assert bytes(number(None)) == b"0"


@pytest.mark.parametrize(
    ("usd", "micros"),
    [("0.0000005", 0), ("0.0000015", 2), ("1.000000499999", 1_000_000), ("-0.0000006", -1)],
)
def test_micro_dollars_are_rounded_once_half_to_even(usd: str, micros: int) -> None:
    """The sum is exact; only the last step rounds."""
    assert micro_dollars(Decimal(usd)) == micros
