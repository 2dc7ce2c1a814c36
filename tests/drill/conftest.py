"""One whole installation a file of drills: it takes seconds to start, and wear is part of it."""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from support.servers import free_port

from drill.books import Verdict
from drill.installation import PORTS, Installation
from drill.load import Load
from drill.quiet import settle
from drill.stores import consumer_progress


@dataclass
class Stage:
    """A running installation with its load; the books hold everything since the file began."""

    installation: Installation
    load: Load
    chance: random.Random

    async def settled(self, timeout_s: float = 90.0) -> Verdict:
        """The books, closed; they must be right."""
        verdict = await settle(self.installation, self.load, timeout_s=timeout_s)
        assert verdict.is_clean, str(verdict)
        return verdict

    def progress(self, name: str) -> int:
        """A counter of metering, over its living consumers."""
        return consumer_progress(self.installation).get(name, 0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[Stage]:
    """A file's own installation, with the settings its `SETTINGS` says."""
    directory = tmp_path_factory.mktemp("drill")
    settings = getattr(request.module, "SETTINGS", {})
    chance = random.Random(request.module.__name__)
    ports = [free_port() for _ in range(PORTS)]
    async with Installation.running(directory, settings, ports) as installation:
        yield Stage(
            installation, Load(installation.proxy_port, installation.key, chance, "t"), chance
        )
