"""Real server containers in place of the embedded ones; every test here needs a Docker engine."""

import secrets
from collections.abc import Iterator

import pytest
from support.stores import ClickHouseDatabase, migrated


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks this folder, the tests it borrows included."""
    for item in items:
        if item.path.parent.name == "docker":
            item.add_marker(pytest.mark.docker)


@pytest.fixture(scope="session")
def clickhouse_container() -> Iterator[str]:
    """The URL of a ClickHouse server proper."""
    from testcontainers.community.clickhouse import ClickHouseContainer

    # The default user without a password, as the embedded owner has it: loopback only.
    image = "clickhouse/clickhouse-server:26.9"
    with ClickHouseContainer(image, port=8123, username="default", password="").with_env(
        "CLICKHOUSE_SKIP_USER_SETUP", "1"
    ) as container:
        yield f"http://{container.get_container_host_ip()}:{container.get_exposed_port(8123)}"


@pytest.fixture
def clickhouse(clickhouse_container: str) -> ClickHouseDatabase:
    """In place of the embedded engine: the same name, the same migrations."""
    return migrated(clickhouse_container, f"t_{secrets.token_hex(6)}")
