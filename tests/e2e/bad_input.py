"""What a client or a provider can do wrong, in both dialects, and what should come of it."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx
from support import loopback

from e2e.conftest import REQUEST_BODY_BYTES_MAX, House

PATHS: Final = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
ASKED: Final = {
    "openai": {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]},
    "anthropic": {
        "model": "claude-sonnet-4-5",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}],
    },
}
ANTHROPIC_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    502: "api_error",
    504: "timeout_error",
}
REFUSED: Final = {"refused": 1}


@dataclass(frozen=True)
class Case:
    """One mistake.

    `key` is who asks, empty for nobody. In `path`, `:dialect` and `:path` stand for the dialect and
    its usual path. `body` is sent instead of a good one, in chunks when it is a list. `counts` is
    what the gateway counts beside the request. `rating` is how the entry in the ledger is rated,
    empty when there is none; `is_sent` says whether a provider was to be asked.
    """

    name: str
    status: int
    code: str
    type: str = "invalid_request_error"
    param: str | None = None
    key: str = "both"
    path: str = ":path"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | list[bytes] | None = None
    counts: Mapping[str, int] = field(default_factory=lambda: REFUSED)
    rating: str = "not_billable"
    is_sent: bool = False

    def path_in(self, dialect: str) -> str:
        """Where it is asked."""
        return self.path.replace(":dialect", dialect).replace(":path", PATHS[dialect])

    def content(self, dialect: str) -> bytes | Iterator[bytes]:
        """What is sent."""
        if isinstance(self.body, list):
            return iter(self.body)
        return json.dumps(ASKED[dialect]).encode() if self.body is None else self.body


_NOBODY: Final = {"type": "authentication_error", "counts": {"unauthenticated": 1}, "rating": ""}
_NOWHERE: Final = "/api/providers/:dialect/nothing"
_FAILED: Final = {"type": "api_error", "counts": {"upstream_failed": 1}, "is_sent": True}
_LONG: Final = b"{%b}" % (b" " * (REQUEST_BODY_BYTES_MAX - 1))

# Those that leave no entry come first: whatever comes after them is in the ledger by the time that
# theirs is looked for.
CASES: Final = [
    Case("missing-key", 401, "missing_api_key", key="", **_NOBODY),
    Case("unknown-key", 401, "invalid_api_key", key="nobody", **_NOBODY),
    Case(
        "unknown-path-without-key",
        404,
        "not_found",
        key="",
        path=_NOWHERE,
        counts={"unknown_path": 1},
        rating="",
    ),
    Case(
        "unknown-path",
        404,
        "not_found",
        path=_NOWHERE,
        counts={"unknown_path": 1, "refused": 1},
    ),
    Case("revoked-key", 401, "api_key_revoked", "authentication_error", key="revoked"),
    Case(
        "no-provider-setting",
        401,
        "provider_setting_not_found",
        "authentication_error",
        key="other",
        path="/api/providers/:dialect:path",
    ),
    Case("not-json", 400, "invalid_json", body=b"not json"),
    Case("no-object", 400, "invalid_json", body=b"[]"),
    Case("empty", 400, "empty_body", body=b""),
    Case("no-model", 400, "missing_required_parameter", param="model", body=b"{}"),
    Case("over-the-limit", 413, "request_too_large", body=_LONG),
    Case("over-the-limit-in-chunks", 413, "request_too_large", body=[_LONG]),
    Case("upstream-refused", 502, "upstream_unavailable", key="refused", **_FAILED),
    Case(
        "upstream-cut",
        502,
        "upstream_unavailable",
        headers={"x-demo-cut": "head"},
        rating="unknown",
        **_FAILED,
    ),
    Case(
        "upstream-timed-out",
        504,
        "upstream_timeout",
        headers={"x-demo-latency-ms": "60000", "x-request-timeout": "500ms"},
        rating="unknown",
        **{**_FAILED, "counts": {"timed_out": 1}},
    ),
]


def configure(house: House, upstream_url: str, closed_url: str) -> dict[str, str]:
    """Makes the keys that cases are asked with; their ids by name. The last one made is `both`."""

    def setting(provider: str, url: str) -> str:
        document = {"provider": provider, "setting": {"apikey": "k", "url": url}}
        answer = loopback.put(f"{house.admin_url}/api/provider-settings", json=document)
        return str(answer.json()["id"])

    def key(name: str, *settings: str) -> str:
        document = {"name": name, "key": f"sk-bad-{name}", "settingIds": settings}
        answer = loopback.put(f"{house.admin_url}/api/key-management/keys", json=document)
        return str(answer.json()["keyId"])

    served = [setting(provider, upstream_url) for provider in PATHS]
    ids = {
        "revoked": key("revoked", *served),
        "other": key("other", setting("vllm", upstream_url)),
        "refused": key("refused", *(setting(provider, closed_url) for provider in PATHS)),
    }
    revoked = {"revoked": True, "revokedReason": "lost"}
    loopback.patch(f"{house.admin_url}/api/key-management/keys/{ids['revoked']}", json=revoked)
    return {**ids, "both": key("both", *served)}


def send(house: House, case: Case, dialect: str, custom_id: str) -> httpx.Response:
    """Asks it."""
    raw = f"sk-bad-{case.key}"
    shown = {"x-api-key": raw} if dialect == "anthropic" else {"authorization": f"Bearer {raw}"}
    return loopback.post(
        house.proxy_url + case.path_in(dialect),
        headers={**(shown if case.key else {}), "x-custom-event-id": custom_id, **case.headers},
        content=case.content(dialect),
        timeout=60,
    )


def counts(house: House, told_after_s: float) -> Counter[str]:
    """What the house's one data worker has counted; empty unless it was told later than that.

    It tells once a second. Empty as well while anything is under way, which may be counted yet.
    """
    path = house.data_dir / "run" / "gateway-worker-1.state.json"
    told_at_s = path.stat().st_mtime
    told = Counter(json.loads(path.read_text())["counts"])
    return told if told_at_s > told_after_s and told["in_flight"] == 0 else Counter()
