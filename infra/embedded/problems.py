"""What went wrong with an instance, in words that say how to mend it."""

from infra.embedded.instance import AlreadyRunning, NotRunning
from infra.embedded.launcher import StepFailed
from runtime.children import StartFailed
from runtime.ports import PortInUse
from runtime.settings import BadSettings

_OPTION_HINT = "choose others with --proxy-port, --admin-port, --reporting-port"


def explain(error: Exception) -> str | None:
    """Text for a person; None for what only a trace can explain."""
    if isinstance(error, PortInUse):
        return f"{error}; {_OPTION_HINT}"
    if isinstance(error, StartFailed | StepFailed):
        lines = "".join(f"\n    {line}" for line in error.last_lines)
        return f"{error}{lines}"
    if isinstance(error, BadSettings):
        return "settings cannot be used:" + "".join(f"\n    {text}" for text in error.problems)
    if isinstance(error, AlreadyRunning | NotRunning):
        return str(error)
    if type(error).__name__ in ("DemoFailed", "ProgramMissing"):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
    return None
