"""The demo provider setting and key, made through the admin API like anybody's."""

import asyncio
import hashlib
import secrets
from pathlib import Path
from typing import Any, Final

import httpx

from infra.embedded.instance import Demo, read_demo, write_demo

ADMIN_TIMEOUT_S: Final = 10.0
KNOWN_EVERYWHERE_S: Final = 1.0
"""Every worker knows a new key within a second."""


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
            demo = await _make(admin, upstream_url)
        except httpx.HTTPError as error:
            raise DemoFailed(f"the admin API at {admin_url} failed: {error!r}") from error
    write_demo(data_dir, demo)
    await asyncio.sleep(KNOWN_EVERYWHERE_S)
    return demo


async def _still_stands(admin: httpx.AsyncClient, kept: Demo, upstream_url: str) -> bool:
    if kept.upstream_url != upstream_url:
        return False
    response = await admin.get("/api/provider-settings", params={"ids": kept.setting_id})
    return response.status_code == 200 and bool(response.json())


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
