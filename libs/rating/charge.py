"""The one call that a bill or a hold makes: which price applies to this usage, and what it costs."""

from contracts.meters import Usage
from rating.cost_map import cost_map_price
from rating.price_book import PriceBook
from rating.rate import Rating, rate


def charge(
    usage: Usage,
    book: PriceBook,
    *,
    provider: str,
    model_sent: str | None,
    operation: str,
    cost_map: bytes | None,
    at_ms: int,
) -> Rating:
    """The rating of `usage`, by the setting's cost map where it lists the model, else by the book.

    The book is asked for the model that was **served**, and for the one sent only when the answer
    names none: a served model that the book does not know is unpriced, not priced as another. A
    cost map lists models as its operator calls them, so it is asked for the served name first and
    then for the one sent.
    """
    model = usage.model_served or model_sent or ""
    price = book.find(provider, model, at_ms)
    if cost_map is not None:
        own = cost_map_price(cost_map, model, operation, price)
        if own is None and model_sent is not None and model_sent != model:
            own = cost_map_price(cost_map, model_sent, operation, price)
        if own is not None:
            price = own
    return rate(usage, price)
