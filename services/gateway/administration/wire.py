"""What answers of the admin API have in common."""

from decimal import Decimal
from typing import Annotated

import msgspec

Number = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "number"})]
"""A decimal as a JSON number, digit for digit."""


def number(amount: Decimal) -> msgspec.Raw:
    """An amount for a member of type Number."""
    return msgspec.Raw(f"{amount:f}".encode())


Object = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "object"})]
"""A JSON object in the text in which it was sent."""
