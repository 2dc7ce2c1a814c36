"""Each fault twice: with every protection, and without the one that it exercises.

The first time the books must be right, the second time the drill must say that they are not: a
drill that cannot fail proves nothing.
"""

import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from drill.books import Verdict, select
from drill.installation import Installation
from drill.interpreters import interpreter
from drill.load import Load
from drill.quiet import settle
from drill.stages import Stage
from drill.unprotected import PROTECTIONS

FINDINGS: Final = ("lost", "doubled", "wrong", "strange")


class Proof(msgspec.Struct, frozen=True):
    """A fault, the protection without which it does harm, and the words that name the harm."""

    scenario: str
    protection: str
    stage: Stage
    finds: tuple[str, ...]
    settings: Mapping[str, str] = {}

    @property
    def name(self) -> str:
        """Of this proof alone."""
        return f"{self.scenario}: {self.protection}"


class Proved(msgspec.Struct, frozen=True):
    """What the drill said with the protection (`problem`: nothing should be wrong) and without."""

    proof: Proof
    took_s: float
    problem: str
    found: Verdict

    @property
    def is_proved(self) -> bool:
        """Right with it, and the harm named without it."""
        return not self.problem and any(getattr(self.found, name) for name in self.proof.finds)

    def __str__(self) -> str:
        counts = [f"{len(getattr(self.found, name))} {name}" for name in FINDINGS]
        first = next((each for name in FINDINGS for each in getattr(self.found, name)), "nothing")
        return f"{self.problem} {', '.join(counts)}; {first}".strip()


async def switch_off(installation: Installation, name: str) -> None:
    """Start the service that has this protection without it, and with all of its others."""
    protection = PROTECTIONS[name]
    if protection.switch_off is None:
        await select(installation, "ALTER TABLE entries DROP CONSTRAINT in_time")
        return
    path = installation.directory / f"without-{list(PROTECTIONS).index(name)}"
    program = installation.programs[protection.service]
    await program.stop()
    program.run_by(interpreter(path, "drill.unprotected", name))
    await program.start()


async def harm(
    installation: Installation,
    load: Load,
    chance: random.Random,
    proof: Proof,
    hopeless_s: float = 2.0,
) -> Verdict:
    """The fault without the protection: what the drill finds then and did not find before."""
    before = await settle(installation, load, timeout_s=10.0, hopeless_s=0.0)
    await switch_off(installation, proof.protection)
    await proof.stage(installation, load, chance, False)
    after = await settle(installation, load, timeout_s=12.0, hopeless_s=hopeless_s)
    if PROTECTIONS[proof.protection].switch_off is None:
        await select(
            installation, "ALTER TABLE entries ADD CONSTRAINT in_time CHECK insert_by > now64(3)"
        )
    return new_findings(before, after)


def new_findings(before: Verdict, after: Verdict) -> Verdict:
    """The second verdict with only what the first one did not name."""
    found = {
        name: [each for each in getattr(after, name) if each not in getattr(before, name)]
        for name in FINDINGS
    }
    return msgspec.structs.replace(after, **found)


async def prove(proof: Proof, directory: Path, seed: int) -> Proved:
    """Both times, on an installation of the proof's own."""
    chance = random.Random(seed)
    began = time.monotonic()
    problem = ""
    async with Installation.running(directory, proof.settings) as installation:
        load = Load(installation.proxy_port, installation.key, chance, f"p{seed}")
        await proof.stage(installation, load, chance, True)
        verdict = await settle(installation, load)
        if not verdict.is_clean:
            problem = f"with every protection: {verdict}"
        found = await harm(installation, load, chance, proof)
    return Proved(proof, time.monotonic() - began, problem, found)
