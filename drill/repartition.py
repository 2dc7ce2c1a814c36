"""Another number of partitions, while requests go on and metering and the gateway are killed."""

import asyncio
from typing import Final

from drill.installation import Installation
from drill.load import Load

LANES: Final = 12
"""Of each worker, so that every partition is written to, however many there are."""


async def repartition(installation: Installation, load: Load, partitions: int) -> None:
    """METERING_PARTITIONS is another one from here on; what lies in the others is booked as well.

    Metering is dead while the gateway writes to the old ones, and then to the new ones.
    """
    for name in ("gateway", "metering"):
        environ = installation.programs[name].env
        environ |= {"METERING_PARTITIONS": str(partitions), "JOURNAL_LANES": str(LANES)}
    async with load.running(60):
        await installation.kill("metering")
        await asyncio.sleep(0.3)
        await installation.kill("gateway")
        await installation.programs["gateway"].start()
        await asyncio.sleep(0.3)
        await installation.programs["metering"].start()
    await installation.all_ready()
