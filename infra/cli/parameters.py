"""Parameters that several commands share."""

from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter
from cyclopts.validators import Number

DataDir = Annotated[
    Path,
    Parameter(
        name="--data-dir",
        env_var="DATA_DIR",
        help="Where everything is kept.",
    ),
]

_PORT: Final = Number(gte=1, lte=65_535)
ProxyPort = Annotated[int, Parameter(env_var="PROXY_PORT", help="For clients.", validator=_PORT)]
AdminPort = Annotated[int, Parameter(env_var="ADMIN_PORT", help="Admin API.", validator=_PORT)]
ReportingPort = Annotated[
    int, Parameter(env_var="REPORTING_PORT", help="Reports.", validator=_PORT)
]

AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON instead of text.")]

DATA_DIR_DEFAULT = Path(".tollway")
