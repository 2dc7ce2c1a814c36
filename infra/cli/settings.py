"""What commands read from the environment."""

from typing import Annotated

import msgspec

from runtime.settings import Secret, load


class CommandSettings(msgspec.Struct, frozen=True):
    """Of commands that talk to a running instance."""

    admin_pass: Annotated[
        Secret, msgspec.Meta(description="what admin callers send as X-API-KEY")
    ] = Secret("")


def admin_pass() -> str:
    """The admin password, empty when there is none."""
    return load(CommandSettings).admin_pass.reveal()
