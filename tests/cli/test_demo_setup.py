"""What the demo stands on, made at a start and found again at the next."""

from support import loopback

from infra.embedded.demo_setup import set_up_demo
from runtime.state import make_run_dir


async def test_the_demo_key_is_kept_until_it_is_of_no_use(gateway, provider):
    """One that is revoked or deleted is replaced, as one without its setting is."""

    async def demo():
        return await set_up_demo(gateway.data_dir, gateway.admin_url, provider, "")

    make_run_dir(gateway.data_dir)
    with loopback.Client(base_url=gateway.admin_url, timeout=60) as admin:
        first = await demo()
        assert await demo() == first

        path = "/api/key-management/keys/"
        assert admin.patch(path + first.key_id, json={"revoked": True}).status_code == 200
        second = await demo()
        assert second.key_id != first.key_id
        assert await demo() == second

        assert admin.delete(path + second.key_id).status_code == 200
        third = await demo()
    answer = loopback.post(
        f"{gateway.proxy_url}/v1/chat/completions",
        headers={"authorization": f"Bearer {third.key}"},
        json={"model": "gpt-4o", "messages": []},
        trust_env=False,
        timeout=60,
    )
    assert answer.status_code == 200
