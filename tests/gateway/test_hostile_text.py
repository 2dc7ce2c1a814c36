"""Hostile text, without a server: bodies, heads, queries, usage blocks and stored rows."""

import json
import tracemalloc

import msgspec
import pytest

from contracts.config.provider_settings import ProviderSetting
from gateway.adapters.postgres_config import read_rows
from gateway.administration.invalid import Invalid
from gateway.administration.key_rules import check
from gateway.administration.keys_wire import NewKey
from gateway.configuration.draft import apply
from gateway.configuration.items import Changes, Item
from gateway.configuration.snapshot import EMPTY
from gateway.configuration.targets import TargetsInTime
from gateway.dispatch.relay import Transcript, UsageStripper
from gateway.endpoints.bodies import model_and_user as parse
from gateway.endpoints.splices import ask_usage
from gateway.identity.head import IDENTITY_ENCODING, sort_headers
from gateway.identity.query import without_credentials
from gateway.providers.registry import PROVIDERS
from gateway.recording.record import usage_only
from gateway.routing.targets import BadBaseUrl, make_target, parse_base
from gateway.values import Refusal, Target

MIB = 1024 * 1024


@pytest.mark.parametrize("content", [b'"%b"' % (b"a" * MIB), b'"%b"' % (b"\\n" * (MIB // 2))])
@pytest.mark.parametrize("options", [b"", b'"stream_options":{},'])
def test_asking_for_usage_takes_memory_in_proportion_to_the_body(content, options):
    """An image of many megabytes in a streaming request must not take a hundred times its size."""
    body = b'{"model":"m",%b"messages":[{"content":%b}]}' % (options, content)
    tracemalloc.start()
    try:
        ask_usage(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 8 * len(body)


@pytest.mark.parametrize("member", [b"user", b"stream", b"stream_options", b"model"])
def test_a_member_we_read_is_not_unfolded_into_objects(member):
    """A megabyte of empty lists is a megabyte, not twenty."""
    body = b'{"model":"m","%b":[%b[]]}' % (member, b"[]," * (MIB // 3))
    tracemalloc.start()
    try:
        parse(body)
    except Refusal:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert peak < 4 * len(body)


@pytest.mark.parametrize("member", [b"messages", b"user", b"stream_options"])
def test_deep_nesting_is_a_bad_request(member):
    """400, not a bug of ours."""
    with pytest.raises(Refusal) as refused:
        parse(b'{"model":"m","%b":%b%b}' % (member, b"[" * 50_000, b"]" * 50_000))

    assert (refused.value.status, refused.value.code) == (400, "invalid_json")


def test_the_last_of_two_options_counts_also_behind_nested_ones():
    """The splice goes where a JSON reader will look."""
    body = b'{"a":[{"stream_options":1},[[]]],"stream_options":2,"stream_options":{"x":[{}]}}'

    read = json.loads(ask_usage(body))

    assert read == {
        "a": [{"stream_options": 1}, [[]]],
        "stream_options": {"include_usage": True, "x": [{}]},
    }


@pytest.mark.parametrize(
    "answer",
    [
        b'{"usage":{"a":"%b"}}' % (b"y" * MIB),
        b'{"usage":{"a":%b%b}}' % (b"[" * 50_000, b"]" * 50_000),
    ],
)
def test_an_absurd_usage_block_is_no_usage(answer):
    """It would keep the completion out of the journal."""
    assert usage_only(answer) is None


@pytest.mark.parametrize("is_stripped", [True, False])
def test_an_absurd_usage_event_is_no_usage(is_stripped):
    """The same on a stream, found by the stripper or in the transcript."""
    document = b'{"choices":[],"usage":{"a":"%b"}}' % (b"y" * MIB)
    transcript = Transcript(4 * MIB)
    transcript.add(b"data: " + document + b"\n\n")
    if is_stripped:
        transcript.document = document

    assert transcript.usage_document() is None


def test_a_client_cannot_have_the_answer_compressed():
    """Connection may name a client's own headers, not the one that keeps the answer readable."""
    head = sort_headers(
        [(b"host", b"x"), (b"connection", b"accept-encoding"), (b"accept-encoding", b"gzip")],
        drops_user_agent=False,
    )

    assert head.forwarded == [IDENTITY_ENCODING]


def test_every_connection_header_counts():
    """Two of them are one list."""
    head = sort_headers(
        [
            (b"host", b"x"),
            (b"connection", b"x-hop"),
            (b"connection", b"keep-alive"),
            (b"x-hop", b"1"),
        ],
        drops_user_agent=False,
    )

    assert head.forwarded == [IDENTITY_ENCODING]


@pytest.mark.parametrize(
    ("query", "forwarded"),
    [
        (b"api_key=sk-1", b""),
        (b"a=1&API-Key=sk-1&b=%00", b"a=1&b=%00"),
        (b"api%5Fkey=sk-1&&x", b"&x"),
        (b"key=sk-1&access_token=sk-1", b""),
        (b"api-version=2024-06-01&keys=1", b"api-version=2024-06-01&keys=1"),
    ],
)
def test_credentials_in_the_query_stay_here(query, forwarded):
    """All other parameters go on byte for byte."""
    assert without_credentials(query) == forwarded


def stored_setting(number: int, secrets: dict[str, str], **changes) -> Item:
    setting = ProviderSetting(
        id=f"s{number}",
        **{
            "provider": "openai",
            "sealed": json.dumps(secrets),
            "created_at": 0,
            "updated_at": 0,
            **changes,
        },
    )
    return Item("provider_setting", setting.id, number, setting)


async def target_of(setting: ProviderSetting, revision: int) -> Target:
    return make_target(setting, revision, json.loads(setting.sealed), PROVIDERS)


@pytest.mark.parametrize(
    "broken",
    [
        {"secrets": {"apikey": "k"}, "setting": {"url": "gopher://h"}},
        {"secrets": {}},
        {"secrets": {"apikey": "\u20ac"}},
    ],
)
async def test_one_broken_setting_leaves_the_others_in_force(broken, caplog):
    """Neither a start nor a revocation waits until somebody mends it; its secret is not logged."""
    items = (stored_setting(1, {"apikey": "k"}), stored_setting(2, **broken))
    changes = Changes(9, items, frozenset(), is_full=True)

    targets = TargetsInTime(target_of, lambda: None)
    snapshot = apply(EMPTY, *await targets.of(changes, EMPTY.target_by_setting))

    assert set(snapshot.target_by_setting) == {"s1"}
    assert snapshot.revision == 9
    assert "s2" in caplog.text
    assert "\u20ac" not in caplog.text


def stored_key(key_id: str, **changes) -> tuple[str, str, int, str]:
    document = {
        "key_id": key_id,
        "key_hash": "ab" * 32,
        "name": "n",
        "setting_ids": ["s1"],
        "created_at": 0,
        "updated_at": 0,
        **changes,
    }
    return "key", key_id, 1, json.dumps(document)


@pytest.mark.parametrize(
    "broken",
    [
        {"key_hash": "no hex"},
        {"key_hash": "abcd"},
        {"allowed_paths": ["/v1"]},
        {"allowed_paths": [{"path": "/v1"}]},
        {"allowed_paths": [{"path": "/v1", "method": None}]},
        {"tags": "a"},
    ],
)
def test_a_broken_key_is_out_of_force_and_alone(broken):
    """What cannot be read must not stay in force as it was before."""
    before = apply(
        EMPTY, Changes(1, read_rows([stored_key("k2")])[0], frozenset(), is_full=True), {}
    )
    assert set(before.principal_by_key_id) == {"k2"}

    rows = [stored_key("k1", key_hash="cd" * 32), stored_key("k2", **broken)]
    items, broken_ones = read_rows(rows)
    after = apply(before, Changes(2, items, frozenset(), False, broken_ones), {})

    assert set(after.principal_by_key_id) == {"k1"}
    assert len(after.principal_by_digest) == 1


@pytest.mark.parametrize("url", ["http://a b/", "http://a%00b/", "http://h:0/", "http://*/"])
def test_a_base_that_no_request_could_be_sent_to_is_refused_when_it_is_set(url):
    """Not at the first request."""
    with pytest.raises(BadBaseUrl):
        parse_base(url)


@pytest.mark.parametrize(
    "changes",
    [
        b'"costLimitInUsd":"NaN"',
        b'"costLimitInUsd":"Infinity"',
        b'"costLimitInUsd":1e9999999',
        b'"costLimitInUsdOverTime":1e-400,"costLimitInUsdUnit":"d"',
        b'"rateLimitOverTime":1%b,"rateLimitUnit":"m"' % (b"0" * 30),
        b'"tags":["%b"]' % (b"t" * 2000),
        b'"tags":[%b"t"]' % (b'"tag",' * 40_000),
        b'"settingIds":["a\\u0000"]',
        b'"allowedPaths":[{"path":"/\\u0000","method":"POST"}]',
    ],
)
def test_what_the_database_or_an_event_cannot_hold_is_invalid(changes):
    """400 for its sender, not a 500."""
    members = b'"name":"n","key":"k","settingIds":["s"],'
    new = msgspec.json.decode(b"{%b%b}" % (members, changes), type=NewKey)

    with pytest.raises(Invalid):
        check(new)


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":5}}\n\n'


@pytest.mark.parametrize(
    "stream",
    [
        b'data: {"choices":[{"delta":{"x":{"choices":[]}}}],"usage":{"prompt_tokens":5}}\n\n',
        b'data: {"choices":[],"x":{"usage":{"prompt_tokens":5}}}\n\n',
        b'data: {"choices":[{"delta":{}}]}\r\r' + USAGE.replace(b"\n", b"\r"),
        b'data: {"choices":[],"usage":{"prompt_tokens":5}}\n\r\ndata: [DONE]\n\n',
    ],
)
def test_nothing_is_stripped_that_might_be_more_than_the_usage(stream):
    """An odd stream shows the client a chunk too many, never one too few."""
    stripper = UsageStripper(MIB)

    assert stripper.feed(stream) + stripper.finish() == stream


def test_the_last_usage_counts_also_when_an_earlier_one_was_stripped():
    """A provider may go on, and report again beside its choices."""
    last = b'{"choices":[{}],"usage":{"prompt_tokens":9}}'
    transcript = Transcript(MIB)
    transcript.add(USAGE + b"data: " + last + b"\n\n")
    transcript.document = USAGE[6:-2]

    assert transcript.usage_document() == last
