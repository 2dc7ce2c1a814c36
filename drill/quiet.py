"""Waiting until the books are closed: all shipped, all booked, nobody dead left to adopt."""

import asyncio
import time
from typing import Final

import httpx
import nats.errors
from nats.js.errors import Error as JetStreamError

from drill.books import Verdict, aggregates_differ, compare
from drill.installation import Installation
from drill.load import Load
from drill.stores import Broker, consumer_problems, unshipped

_POLL_S: Final = 0.25
_HOPELESS_S: Final = 20.0
"""Quiet for so long and still not clean: it will not be."""


def incarnations(installation: Installation) -> int:
    """Incarnations that have segments in the journal."""
    journal = installation.directory / "journal"
    return len({path.name.split(".")[0] for path in journal.glob("*.seg")})


async def unquiet(installation: Installation) -> str | None:
    """Why the books are still open, None when they are not."""
    lanes = installation.programs["gateway"].env["JOURNAL_LANES"]
    expected = len(installation.workers()) * int(lanes)
    found = incarnations(installation)
    if found != expected:
        return f"{found} incarnations in the journal, the living have {expected}"
    if unshipped(installation):
        return "a worker holds what it has not shipped"
    try:
        async with Broker.open(installation) as broker:
            for number, stand in (await broker.partitions()).items():
                if not stand.is_booked:
                    return f"partition {number} is not booked to its end"
    except (nats.errors.Error, JetStreamError, OSError, TimeoutError) as error:
        return f"NATS: {error!r}"
    return None


async def settle(
    installation: Installation,
    load: Load,
    *,
    timeout_s: float = 90.0,
    again_after_s: float = 0.3,
    hopeless_s: float = _HOPELESS_S,
) -> Verdict:
    """The verdict once the books are closed, looked at twice.

    A verdict that is not clean is given after the timeout, or `hopeless_s` after all is quiet; what
    kept the books open stands in its `lost`.
    """
    deadline = time.monotonic() + timeout_s
    quiet_since: float | None = None
    reason: str | None = "nobody looked"
    while time.monotonic() < deadline:
        reason = await unquiet(installation)
        if reason is None:
            now = time.monotonic()
            quiet_since = quiet_since or now
            verdict = await _compared(installation, load)
            if verdict.is_clean:
                break
            if now - quiet_since > hopeless_s:
                return verdict
        else:
            quiet_since = None
        await asyncio.sleep(_POLL_S)
    if reason is not None:
        verdict = await _compared(installation, load)
        problems = "; ".join(sorted(set(consumer_problems(installation))))
        verdict.lost.append(f"the books are not closed: {reason}. Metering says: {problems or '-'}")
        return verdict
    # What comes too late, a repeated insert or a re-sent parcel, would come now.
    await asyncio.sleep(again_after_s)
    verdict = await compare(installation, load.told)
    if await aggregates_differ(installation):
        verdict.wrong.append("the projection and the rows differ")
    return verdict


async def _compared(installation: Installation, load: Load) -> Verdict:
    try:
        return await compare(installation, load.told)
    except (httpx.HTTPError, RuntimeError) as error:
        return Verdict(lost=[f"the ledger cannot be read: {error!r}"])
