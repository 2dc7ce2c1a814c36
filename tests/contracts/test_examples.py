"""Golden examples: every decoder reads every version, for ever. Files are added, never edited."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import contracts
from contracts.exchange import (
    Attempt,
    Body,
    Caller,
    CallFacts,
    Event,
    ExchangeCompleted,
    RequestAdmitted,
    SettingRef,
    decode,
    encode,
)
from contracts.records import ParcelHeaders, SegmentHeader, advance, frame, records

EXAMPLES = Path(contracts.__file__).parent / "examples"
CASES = sorted(EXAMPLES.glob("*/*.json"))


def plain(value: object) -> object:
    """A struct as the example files show it: bytes as hex."""
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    return value


def read(kind: str, encoded: bytes) -> object:
    """What today's decoder makes of an example."""
    if kind == "segment_header.v1":
        return plain(SegmentHeader.unpack(encoded))
    if kind == "parcel_headers.v1":
        return plain(ParcelHeaders.from_headers(json.loads(encoded)))
    if kind == "record.v1":
        (record,) = records(encoded, 0, bytes(16))
        return {"payload": plain(record.payload), "chain_from_zero": plain(record.chain)}
    return plain(decode(encoded))


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_example_decodes_as_it_always_did(path: Path) -> None:
    """A change that breaks this breaks every journal and stream out there."""
    example = json.loads(path.read_text())
    decoded = read(path.parent.name, bytes.fromhex(example["encoded_hex"]))

    assert isinstance(decoded, dict)
    # A field that was added since then is not in the example; it has its default.
    assert {name: decoded[name] for name in example["decoded"]} == example["decoded"]


def test_a_field_that_an_example_does_not_know_has_its_default() -> None:
    """Events written before there was a cache are no cache hits."""
    hits = {}
    for path in CASES:
        if path.parent.name == "exchange_completed.v1":
            event = decode(bytes.fromhex(json.loads(path.read_text())["encoded_hex"]))
            assert isinstance(event, ExchangeCompleted)
            hits[path.stem] = event.is_cache_hit
    assert hits.pop("cache_hit") is True
    assert not any(hits.values())


def test_every_event_tag_has_examples() -> None:
    """A new version comes with examples of its own."""
    tags = {kind.__struct_config__.tag for kind in (RequestAdmitted, ExchangeCompleted)}

    assert tags <= {path.parent.name for path in CASES}


texts = st.text(max_size=20)
optional_texts = st.none() | texts
bodies = st.builds(
    Body, st.binary(max_size=50), st.integers(0, 2**40), st.none() | st.binary(max_size=32)
)
callers = st.builds(
    Caller, texts, optional_texts, optional_texts, st.lists(texts, max_size=3).map(tuple)
)
calls = st.builds(
    CallFacts,
    texts,
    texts,
    texts,
    texts,
    texts,
    optional_texts,
    st.booleans(),
    st.integers(0, 2**40),
)
settings = st.builds(SettingRef, texts, st.integers(0, 2**60), texts)
times = st.integers(0, 2**50)
attempts = st.builds(
    Attempt,
    settings,
    optional_texts,
    st.none() | st.integers(100, 599),
    optional_texts,
    times,
    times,
    st.none() | times,
    optional_texts,
)
admissions = st.builds(
    RequestAdmitted,
    st.binary(min_size=16, max_size=16),
    times,
    times,
    callers,
    calls,
    st.none() | settings,
    texts,
    st.lists(texts, max_size=2).map(tuple),
)
completions = st.builds(
    ExchangeCompleted,
    event_id=st.binary(min_size=16, max_size=16),
    admitted_at_ms=times,
    caller=callers,
    call=calls,
    outcome=st.sampled_from(["answered", "refused", "timed_out"]),
    status=st.integers(0, 599),
    error=optional_texts,
    request=bodies,
    response=bodies,
    response_content_type=texts,
    usage_document=st.none() | st.binary(max_size=30),
    duration_us=times,
    first_byte_us=st.none() | times,
    attempts=st.lists(attempts, max_size=2).map(tuple),
    cost_map=st.none() | st.binary(max_size=30),
    policy_action=texts,
    policy_id=texts,
    route_id=texts,
    correlation_id=texts,
    metadata=optional_texts,
    stores_request=st.booleans(),
    stores_response=st.booleans(),
    was_admitted=st.booleans(),
    is_cache_hit=st.booleans(),
)


@given(admissions | completions)
def test_decode_undoes_encode(event: Event) -> None:
    """No field is lost or changed on the way."""
    assert decode(encode(event)) == event


@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=8), st.data())
def test_records_read_the_same_from_any_boundary(payloads: list[bytes], data) -> None:
    """A parcel may begin at any record: offsets and the running hash go on from there."""
    content = b"".join(frame(payload) for payload in payloads)
    whole = list(records(content, 100, bytes(16)))
    first = data.draw(st.integers(0, len(whole) - 1))
    before = whole[first - 1] if first else None
    offset, chain = (before.end, before.chain) if before else (100, bytes(16))

    rest = list(records(content[offset - 100 :], offset, chain))

    assert rest == whole[first:]
    assert [record.payload for record in whole] == payloads
    assert whole[-1].end == 100 + len(content)
    assert advance(chain, content[offset - 100 :][:8]) == rest[0].chain
