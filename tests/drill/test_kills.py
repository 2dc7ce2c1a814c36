"""`kill -9` and pauses of every process under load: the three records agree afterwards."""

import pytest

from drill import faults, scenarios
from drill.installation import SERVERS, TARGETS

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_streams_in_flight_at_a_workers_death_are_there_once(stage):
    """A sibling adopts the journal of a killed worker: each broken stream once, as abandoned."""
    broken = await scenarios.kill_worker_in_flight(stage.installation, stage.load)
    verdict = await stage.settled()
    # A completion may have been journalled whose last byte did not get out.
    assert 1 <= verdict.abandoned <= len(broken)


async def test_streams_in_flight_at_the_gateways_death_are_there_once(stage):
    """The next start adopts what the whole gateway left behind."""
    before = (await stage.settled()).abandoned
    broken = await scenarios.kill_gateway_in_flight(stage.installation, stage.load)
    verdict = await stage.settled()
    assert before < verdict.abandoned <= before + len(broken)


@pytest.mark.parametrize("targets", [SERVERS, TARGETS[len(SERVERS) :]], ids=["servers", "services"])
async def test_kills_of_every_process_under_load_lose_and_double_nothing(stage, targets):
    """One kill of each, one after another, while requests come in."""
    async with stage.load.running(40, slow_share=0.3):
        for target in targets:
            await faults.kill(stage.installation, target, stage.chance)
    await stage.settled()


async def test_pauses_of_every_process_under_load_lose_and_double_nothing(stage):
    """One short SIGSTOP of each, one after another, while requests come in."""
    async with stage.load.running(40):
        for target in TARGETS:
            await faults.pause(stage.installation, target, faults.SHORT_PAUSE_S, stage.chance)
    verdict = await stage.settled()
    assert verdict.corrections == 0


async def test_requests_are_served_without_the_configuration_database(stage):
    """Keys are in memory: Postgres may be away."""
    told = await scenarios.without(stage.installation, "postgres", stage.load, 20)
    assert {each.status for each in told} <= {200, 429}
    await stage.settled()


@pytest.mark.parametrize("server", ["nats", "clickhouse"])
async def test_requests_are_served_without_a_store_and_booked_later(stage, server):
    """The journal holds what cannot be shipped, the stream what cannot be booked."""
    told = await scenarios.without(stage.installation, server, stage.load, 40)
    assert {each.status for each in told} <= {200, 429}
    await stage.settled()
