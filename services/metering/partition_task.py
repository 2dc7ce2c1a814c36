"""Keeps one partition metered: steps, pauses, begins again after errors, says how it stands."""

import asyncio
from typing import Final

from metering.adapters.nats_stream import NatsPartitionStream
from metering.clock import SystemClock
from metering.ports import Refused, Superseded, Unavailable
from metering.protocol import PartitionMeter
from metering.state import PartitionCondition, PartitionState
from runtime.logs import Log

_IDLE_FIRST_S: Final = 0.01
_IDLE_MAX_S: Final = 0.2
_TROUBLE_FIRST_S: Final = 0.2
_TROUBLE_MAX_S: Final = 5.0
_REFUSED_S: Final = 10.0


class PartitionTask:
    """One partition's loop. `leave` ends it after the batch under way."""

    def __init__(
        self, meter: PartitionMeter, stream: NatsPartitionStream, clock: SystemClock, log: Log
    ) -> None:
        self._meter = meter
        self._stream = stream
        self._clock = clock
        self._log = log
        self._leaving = asyncio.Event()
        self._condition: PartitionCondition = "starting"
        self._problem: str | None = None

    def leave(self) -> None:
        """Ask it to end."""
        self._leaving.set()

    async def run(self) -> None:
        """Until `leave`, whatever the stores do. Only bugs and cancellation get out."""
        idle_s, trouble_s = _IDLE_FIRST_S, _TROUBLE_FIRST_S
        while not self._leaving.is_set():
            try:
                is_busy = await self._meter.step()
            except Refused as refusal:
                self._note("refused", str(refusal))
                await self._pause(_REFUSED_S)
                continue
            except (Unavailable, Superseded) as error:
                self._note("waiting", str(error))
                await self._pause(trouble_s)
                trouble_s = min(trouble_s * 2, _TROUBLE_MAX_S)
                continue
            self._note("metering", None)
            trouble_s = _TROUBLE_FIRST_S
            if is_busy:
                idle_s = _IDLE_FIRST_S
            else:
                await self._pause(idle_s)
                idle_s = min(idle_s * 2, _IDLE_MAX_S)

    def state(self) -> PartitionState:
        """How the partition stands now."""
        progress = self._meter.progress
        now_ms = self._clock.now_ms()
        metered_up_to_ms: int | None = progress.metered_up_to_ms or None
        if progress.is_caught_up and self._condition == "metering":
            metered_up_to_ms = now_ms
        return PartitionState(
            self._condition,
            self._problem,
            metered_up_to_ms,
            None if metered_up_to_ms is None else max(0, now_ms - metered_up_to_ms),
            self._stream.pending_messages,
            progress,
        )

    def _note(self, condition: PartitionCondition, problem: str | None) -> None:
        if problem is not None and problem != self._problem:
            write = self._log.error if condition == "refused" else self._log.warning
            write(f"partition.{condition}", partition=self._meter.partition, problem=problem)
        elif problem is None and self._problem is not None:
            self._log.info("partition.metering", partition=self._meter.partition)
        self._condition, self._problem = condition, problem

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._leaving.wait()
        except TimeoutError:
            return
