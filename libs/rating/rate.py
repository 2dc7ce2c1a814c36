"""Rating: usage × price → one integer amount per meter. Unknown stays unknown, never free."""

from typing import Final

import msgspec

from contracts.ledger import RatingStatus
from contracts.meters import INPUT_METERS, Evidence, Meter, Usage
from contracts.money import PicoUsd
from rating.prices import ModelPrice

SOURCE_NONE: Final = "none"

# An enum's member costs 100 ns to look up by name, several times what the arithmetic does.
_NO_EVIDENCE: Final = Evidence.NONE
_RATED: Final = RatingStatus.RATED
_REQUESTS: Final = Meter.REQUESTS


class Rating(msgspec.Struct, frozen=True):
    """What usage costs: pico-dollars per meter, and their sum.

    `total_picousd` is None and `amounts` is empty unless the status is `rated`: half a bill would
    read like a whole one. `unpriced_meters` names what had no price.
    """

    status: RatingStatus
    total_picousd: PicoUsd | None
    amounts: dict[Meter, PicoUsd]
    source: str
    unpriced_meters: tuple[Meter, ...] = ()


NOT_BILLABLE: Final = Rating(RatingStatus.NOT_BILLABLE, 0, {}, SOURCE_NONE)
"""For what no provider bills: refusals, failures, answers from the cache."""


def rate(usage: Usage, price: ModelPrice | None) -> Rating:
    """The amounts of `usage` at `price`, exact, each rounded once, half to even.

    - No evidence, no quantities, or only one of the two token totals: `unknown`.
    - No price, or a quantity above zero without one: `unpriced`.
    - A prompt that crosses a tier is charged at the tier's price as a whole; so is its answer.
    - A price per request is charged once, whether or not the usage counts requests.
    """
    quantities = usage.quantities
    if (
        usage.evidence is _NO_EVIDENCE
        or not quantities
        or (usage.input_tokens is None) is not (usage.output_tokens is None)
    ):
        source = SOURCE_NONE if price is None else price.source
        return Rating(RatingStatus.UNKNOWN, None, {}, source)
    if price is None:
        return Rating(RatingStatus.UNPRICED, None, {}, SOURCE_NONE, _above_zero(quantities))
    prices = price.prices
    if usage.service_tier is not None:
        prices = price.by_service_tier.get(usage.service_tier, prices)
    prompt_tokens = usage.input_tokens
    if prompt_tokens is None:
        prompt_tokens = sum(quantities.get(meter, 0) for meter in INPUT_METERS)
    amounts: dict[Meter, PicoUsd] = {}
    total = 0
    unpriced: list[Meter] = []
    for meter, quantity in quantities.items():
        unit = prices.get(meter)
        if unit is not None:
            if price.minimums and 0 < quantity < price.minimums.get(meter, 0):
                quantity = price.minimums[meter]  # noqa: PLW2901 - billed, not used
            amount = unit.amount(quantity, prompt_tokens)
        elif quantity == 0:
            amount = 0
        else:
            unpriced.append(meter)
            continue
        amounts[meter] = amount
        total += amount
    if unpriced:
        return Rating(RatingStatus.UNPRICED, None, {}, price.source, tuple(unpriced))
    per_request = prices.get(_REQUESTS)
    if per_request is not None and _REQUESTS not in quantities:
        fee = per_request.amount(1, prompt_tokens)
        amounts[_REQUESTS] = fee
        total += fee
    return Rating(_RATED, total, amounts, price.source)


def _above_zero(quantities: dict[Meter, int]) -> tuple[Meter, ...]:
    return tuple(meter for meter, quantity in quantities.items() if quantity > 0)
