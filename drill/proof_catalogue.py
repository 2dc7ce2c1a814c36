"""Every fault of the drills, with what stands against it."""

from collections.abc import Sequence
from typing import Final

from drill import stages
from drill.proofs import FINDINGS, Proof
from drill.stages import STAGES

_SENT_AGAIN: Final = "what was not acknowledged or booked is sent again"
_ONCE: Final = "a parcel is booked once"
_LOOKED_FOR: Final = "an insert that failed is looked for"
_ONLY_MISSING: Final = "only missing rows are inserted again"
_ADOPTED: Final = "the journals of the dead are adopted"
_KEPT: Final = "a journal is kept until it is booked"
_MARKS: Final = "the ledger's marks outweigh the checkpoint"
_KEYS: Final = "keys are kept in memory"
_REFUSED: Final = "what cannot be recorded is refused"
_CLOSED: Final = "an admission without an end is closed"
_FINISHED: Final = "a pending batch is finished"
_LOST: Final = ("lost",)
_DOUBLED: Final = ("doubled",)
_ANY: Final = FINDINGS


def _staged(name: str, protection: str, finds: tuple[str, ...]) -> Proof:
    staged = STAGES[name]
    return Proof(name, protection, staged.stage, finds, staged.settings)


PROOFS: Final[Sequence[Proof]] = (
    Proof("kill nats", _SENT_AGAIN, stages.fault("kill nats"), _LOST),
    Proof("kill postgres", _KEYS, stages.fault("kill postgres", times=2), _LOST, stages.IMPATIENT),
    Proof("kill clickhouse", _LOOKED_FOR, stages.fault("kill clickhouse", times=3), _LOST),
    Proof("kill gateway", _ADOPTED, stages.fault("kill gateway"), _LOST),
    Proof("kill metering", _LOOKED_FOR, stages.killed_at_insert("metering"), _LOST),
    Proof(
        "kill gateway-worker",
        _ADOPTED,
        stages.fault("kill gateway-worker"),
        _LOST,
    ),
    Proof(
        "kill metering-consumer", _LOOKED_FOR, stages.killed_at_insert("metering-consumer"), _LOST
    ),
    Proof("long pause nats", _ONCE, stages.fault("long pause nats"), _DOUBLED, stages.LONG_PARCELS),
    Proof(
        "long pause postgres", _KEYS, stages.fault("long pause postgres"), _LOST, stages.IMPATIENT
    ),
    Proof("long pause clickhouse", _LOOKED_FOR, stages.fault("long pause clickhouse"), _LOST),
    Proof(
        "long pause gateway-worker",
        "a journal is locked by its owner",
        stages.fault("long pause gateway-worker"),
        _ANY,
    ),
    Proof(
        "long pause metering-consumer",
        "checkpoints are compared and set",
        stages.fault("long pause metering-consumer", times=4),
        _DOUBLED,
    ),
    Proof("reset nats", _SENT_AGAIN, stages.fault("reset nats", times=6), _LOST),
    Proof("reset nats", _ONCE, stages.fault("reset nats", times=6), _DOUBLED, stages.LONG_PARCELS),
    Proof("reset clickhouse", _LOOKED_FOR, stages.reset_at_insert, _LOST),
    Proof("cut insert before", _LOOKED_FOR, stages.fault("cut insert before"), _LOST),
    Proof("cut insert sent", _ONLY_MISSING, stages.fault("cut insert sent", times=3), _DOUBLED),
    Proof("cut insert after", _ONLY_MISSING, stages.fault("cut insert after"), _DOUBLED),
    Proof("kill consumer before", _LOOKED_FOR, stages.fault("kill consumer before"), _LOST),
    Proof("kill consumer sent", _FINISHED, stages.fault("kill consumer sent"), _DOUBLED),
    Proof("kill consumer after", _FINISHED, stages.fault("kill consumer after"), _DOUBLED),
    Proof("kill ledger sent", _LOOKED_FOR, stages.fault("kill ledger sent", times=3), _LOST),
    Proof("kill ledger after", _ONLY_MISSING, stages.fault("kill ledger after"), _DOUBLED),
    Proof("late insert", _LOOKED_FOR, stages.fault("late insert"), _LOST),
    Proof(
        "late zombie",
        "the ledger refuses an insert past its deadline",
        stages.fault("late zombie"),
        _DOUBLED,
    ),
    Proof("stuck partition", _LOOKED_FOR, stages.fault("stuck partition"), _LOST),
    Proof(
        "lost parcels", "a gap is not stepped over", stages.fault("lost parcels", times=4), _LOST
    ),
    Proof("lost parcels", _KEPT, stages.fault("lost parcels", times=4), _LOST),
    Proof("checkpoints put back", _MARKS, stages.fault("checkpoints put back"), _DOUBLED),
    Proof("nats put back", _MARKS, stages.fault("nats put back"), _DOUBLED),
    Proof(
        "checkpoints wiped",
        "a missing checkpoint is not zero",
        stages.fault("checkpoints wiped"),
        _DOUBLED,
    ),
    _staged("a worker dies in mid-stream", "an admission is kept before dispatch", _LOST),
    _staged("a worker dies in mid-stream", _CLOSED, _LOST),
    _staged("the gateway dies in mid-stream", _CLOSED, _LOST),
    _staged("parcels of the dead lost", "a gap is not stepped over", _LOST),
    _staged("parcels of the dead lost", _ADOPTED, _LOST),
    _staged("postgres away", _KEYS, _LOST),
    _staged("nats away", _SENT_AGAIN, _LOST),
    _staged("clickhouse away", _LOOKED_FOR, _LOST),
    _staged("stream wiped", "the stream must be the checkpoint's", _LOST),
    _staged("stream put back", "the stream must be the checkpoint's", _LOST),
    _staged("checkpoints put back, quiet", _MARKS, _DOUBLED),
    _staged("nats put back, quiet", _MARKS, _LOST),
    _staged("nats wiped", "a missing checkpoint is not zero", _ANY),
    _staged("ledger put back", "the ledger must hold what is committed", _LOST),
    _staged("8 to 12 to 8 partitions", "partitions are found in the stream", _LOST),
    _staged("full stream", _SENT_AGAIN, _LOST),
    _staged("full journal", _REFUSED, _LOST),
    _staged("full disk", _REFUSED, _LOST),
    Proof("clients leave", "a client that leaves is an end", stages.clients_leave, _LOST),
    Proof("models without a price", "unknown is not zero", stages.unpriced, ("wrong",)),
)
"""Every fault of the drills with what stands against it."""
