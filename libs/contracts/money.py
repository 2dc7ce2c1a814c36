"""Money is an integer of pico-dollars (10**-12 USD). Never a float.

Nano-dollars are too coarse: a cached-input price of 0.0125 USD per million tokens is 12.5
nano-dollars a token.
"""

from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Final

PicoUsd = int
PICOUSD_PER_USD: Final = 10**12


def picousd_from_decimal(usd: Decimal) -> PicoUsd:
    """USD as exact pico-dollars. Raises ValueError when the amount has a finer fraction."""
    with localcontext() as context:
        context.prec = 60
        scaled = usd * PICOUSD_PER_USD
        if scaled != scaled.to_integral_value():
            raise ValueError(f"{usd} USD is finer than a pico-dollar")
        return int(scaled)


def decimal_from_picousd(picousd: PicoUsd) -> Decimal:
    """Pico-dollars as an exact Decimal of USD."""
    with localcontext() as context:
        context.prec = 60
        return Decimal(picousd).scaleb(-12)


def rounded_usd(picousd: PicoUsd, places: int = 12) -> Decimal:
    """The one rounding of this house, half to even, where money is shown."""
    with localcontext() as context:
        context.prec = 60
        exponent = Decimal(1).scaleb(-places)
        return decimal_from_picousd(picousd).quantize(exponent, rounding=ROUND_HALF_EVEN)
