"""One SELECT: its text with typed placeholders, and what is bound to them."""

import msgspec

Parameter = int | str | tuple[str, ...]


class Query(msgspec.Struct, frozen=True):
    """`text` holds `{name:Type}` for each of `parameters`; values never become text here."""

    text: str
    parameters: dict[str, Parameter]
