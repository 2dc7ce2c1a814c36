"""Parameters that several commands share."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

DataDir = Annotated[
    Path,
    Parameter(
        name="--data-dir",
        env_var="DATA_DIR",
        help="Where everything is kept.",
    ),
]
AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON instead of text.")]

DATA_DIR_DEFAULT = Path(".tollway")
