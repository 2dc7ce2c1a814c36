"""The demo provider setting and key, made through the admin API like anybody's."""

import asyncio
import hashlib
import secrets
import time
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from infra.embedded.instance import Demo, read_demo, write_demo
from runtime.state import read_state, state_path

ADMIN_TIMEOUT_S: Final = 60.0
KNOWN_EVERYWHERE_S: Final = 60.0
"""Every worker knows a new key within a second, unless the machine stands still."""


class _Worker(msgspec.Struct):
    keys: int


class DemoFailed(RuntimeError):
    """The admin API would not make the demo's setting or key."""


async def set_up_demo(
    data_dir: Path, admin_url: str, upstream_url: str, admin_pass: str | None
) -> Demo:
    """The remembered demo key if it still stands, else a new one. Raises DemoFailed."""
    headers = {"x-api-key": admin_pass} if admin_pass else {}
    async with httpx.AsyncClient(
        base_url=admin_url, headers=headers, timeout=ADMIN_TIMEOUT_S, trust_env=False
    ) as admin:
        try:
            kept = read_demo(data_dir)
            if kept is not None and await _still_stands(admin, kept, upstream_url):
                return kept
            before = max(_keys_by_worker(data_dir), default=0)
            demo = await _make(admin, upstream_url)
        except httpx.HTTPError as error:
            raise DemoFailed(f"the admin API at {admin_url} failed: {error!r}") from error
    write_demo(data_dir, demo)
    await _until_known(data_dir, before)
    return demo


async def _until_known(data_dir: Path, before: int) -> None:
    """Every worker knows more keys than before, or time is up."""
    deadline = time.monotonic() + KNOWN_EVERYWHERE_S
    while time.monotonic() < deadline:
        known = _keys_by_worker(data_dir)
        if known and min(known) > before:
            return
        await asyncio.sleep(0.02)


def _keys_by_worker(data_dir: Path) -> list[int]:
    """How many keys each of the gateway's workers says that it knows; 0 while it says nothing."""
    gateway = read_state(state_path(data_dir, "gateway"))
    known = []
    for process in () if gateway is None else gateway.processes:
        if process.name.startswith("gateway-worker"):
            try:
                content = state_path(data_dir, f"{process.name}.state").read_bytes()
                known.append(msgspec.json.decode(content, type=_Worker).keys)
            except (OSError, msgspec.DecodeError):
                known.append(0)
    return known


async def _still_stands(admin: httpx.AsyncClient, kept: Demo, upstream_url: str) -> bool:
    if kept.upstream_url != upstream_url:
        return False
    response = await admin.get("/api/provider-settings", params={"ids": kept.setting_id})
    if response.status_code != 200 or not response.json():
        return False
    response = await admin.get("/api/key-management/keys", params={"keyIds": kept.key_id})
    return response.status_code == 200 and any(not key["revoked"] for key in response.json())


async def _make(admin: httpx.AsyncClient, upstream_url: str) -> Demo:
    setting = await _put(
        admin,
        "/api/provider-settings",
        {
            "provider": "openai",
            "name": "demo",
            # The demo provider takes any credential; this one says what it is.
            "setting": {"apikey": "demo-provider", "url": upstream_url},
        },
    )
    key = f"tollway-demo-{secrets.token_urlsafe(24)}"
    made = await _put(
        admin,
        "/api/key-management/keys",
        {"name": "demo", "key": key, "settingIds": [setting["id"]], "tags": ["demo"]},
    )
    if made.get("key") not in (hashlib.sha256(key.encode()).hexdigest(), None):
        raise DemoFailed("the admin API made another key than the one it was sent")
    return Demo(key=key, key_id=made["keyId"], setting_id=setting["id"], upstream_url=upstream_url)


async def _put(admin: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = await admin.put(path, json=body)
    if response.status_code != 200:
        raise DemoFailed(f"PUT {path} answered {response.status_code}: {response.text[:500]}")
    answer: dict[str, Any] = response.json()
    return answer
