"""Stops the flow into the dead-letter stream: one bad incarnation first, then the partition."""

from collections.abc import Iterable, Mapping, Sized

from metering.ports import DeadLetter, Refused, Unavailable


class Breaker:
    """Counts undecodable records by incarnation, since this process began."""

    def __init__(self, bad_run_max: int, quarantined_max: int) -> None:
        self._bad_run_max = bad_run_max
        self._quarantined_max = quarantined_max
        self._bad_runs: dict[bytes, int] = {}
        self.quarantined: set[bytes] = set()

    def judge(
        self, partition: int, taken: Mapping[str, Sized], letters: Iterable[DeadLetter]
    ) -> None:
        """Look at one batch's undecodable records before anything of it is booked.

        Raises Unavailable when an incarnation was put in quarantine (read the batch again without
        it), Refused when too many are: then the fault is not theirs.
        """
        bad: dict[bytes, int] = {}
        for letter in letters:
            if letter.incarnation is not None:
                bad[letter.incarnation] = bad.get(letter.incarnation, 0) + 1
        for name, records in taken.items():
            incarnation = bytes.fromhex(name)
            count = bad.get(incarnation, 0)
            is_run = count == len(records)
            run = self._bad_runs.get(incarnation, 0) + count if is_run else count
            self._bad_runs[incarnation] = run if is_run else 0
            if run >= self._bad_run_max and run * 2 >= len(records):
                self._quarantine(partition, incarnation, run)

    def _quarantine(self, partition: int, incarnation: bytes, run: int) -> None:
        self.quarantined.add(incarnation)
        if len(self.quarantined) >= self._quarantined_max:
            names = ", ".join(sorted(each.hex() for each in self.quarantined))
            raise Refused(
                f"partition {partition}: {len(self.quarantined)} incarnations ({names}) send what "
                "this build cannot read; look at the dead letters, and at the builds of the "
                "gateways against the build of metering"
            )
        raise Unavailable(
            f"partition {partition}: incarnation {incarnation.hex()} is quarantined after {run} "
            "records that could not be read"
        )
