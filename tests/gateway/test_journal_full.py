"""What clients meet when nothing more can be kept for the bill."""

import json
from pathlib import Path

import pytest
from support import loopback
from support.programs import Gateway

from contracts.records import SEGMENT_HEADER_BYTES, SegmentHeader, records


def started(tmp_path: Path, postgres_url: str, provider: str, policy: str) -> Gateway:
    gateway = Gateway(
        tmp_path,
        {
            "NATS_URL": "nats://127.0.0.1:9",
            "POSTGRES_URL": postgres_url,
            "JOURNAL_BYTES_MAX": "2000000",
            "METERING_UNAVAILABLE": policy,
        },
    )
    gateway.start_ready()
    gateway.key(f"sk-{policy}", gateway.setting(provider))
    return gateway


def statuses(gateway: Gateway, key: str, count: int) -> list[int]:
    """The statuses of so many requests of about 100 KB each."""
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x" * 100_000}]}
    with loopback.Client(headers={"authorization": f"Bearer {key}"}) as client:
        url = f"{gateway.proxy_url}/v1/chat/completions"
        return [client.post(url, json=body).status_code for _ in range(count)]


def journalled(gateway: Gateway) -> int:
    """Records in the gateway's journal; every one of them whole."""
    count = 0
    for path in (gateway.data_dir / "journal").glob("*.seg"):
        content = path.read_bytes()
        header = SegmentHeader.unpack(content)
        found = records(content[SEGMENT_HEADER_BYTES:], header.base_offset, header.base_chain)
        count += sum(1 for _ in found)
    return count


@pytest.mark.parametrize("policy", ["refuse", "serve"])
def test_a_full_journal_refuses_or_serves_as_it_was_told(
    tmp_path, module_postgres, provider, policy
):
    """503 with Retry-After, or an answer that is counted as unmetered; nothing kept is lost."""
    gateway = started(tmp_path, module_postgres.url, provider, policy)
    try:
        key = f"sk-{policy}"
        got = statuses(gateway, key, 30)

        served = got.index(503) if 503 in got else got.count(200)
        if policy == "refuse":
            assert set(got) == {200, 503}
            answer = loopback.post(
                f"{gateway.proxy_url}/v1/chat/completions",
                headers={"authorization": f"Bearer {key}"},
                json={"model": "gpt-4o", "messages": []},
            )
            assert answer.json()["error"]["code"] == "metering_unavailable"
            assert int(answer.headers["retry-after"]) > 0
            # An admission and a completion each, beside the refusal that probed the key.
            assert journalled(gateway) >= 2 * served
        else:
            assert set(got) == {200}
            state = gateway.data_dir / "run" / "gateway-worker-1.state.json"
            gateway.wait_until(lambda: json.loads(state.read_bytes())["counts"]["unmetered"] > 0)
    finally:
        gateway.kill()
