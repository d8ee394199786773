"""How numbers are written for people: changes, p-values, ε and times."""

from __future__ import annotations

from decimal import Decimal
from itertools import count
from math import isnan

from gpsweep.metrics import ALPHA
from gpsweep.results import decimal
from gpsweep.results.significance import ROUNDING

MINUS = "−"


def signed(number: float, *, minus: str = MINUS) -> str:
    """Write a change with its sign and two digits after the point, or as many as tell it from none.

    Args:
        number: the change.
        minus: a terminal may know no more than ASCII.

    >>> signed(0.874), signed(0.004), signed(0.0), signed(-1.5, minus="-")
    ('+0.87', '+0.004', '0.00', '-1.50')
    """
    if abs(number) < ROUNDING:
        return "0.00"
    texts = (f"{number:+.{digits}f}" for digits in count(2))
    return next(text for text in texts if float(text)).replace("-", minus)


def score(number: float) -> str:
    """Write a number with two digits after the point, zero without a sign.

    >>> score(62.1), score(-0.001)
    ('62.10', '0.00')
    """
    return signed(round(number, 2)).removeprefix("+")


def p(number: float, *, space: str = "\xa0") -> str:
    r"""Write a p-value, with as many digits as tell on which side of 0.05 it lies.

    The space before the bound does not break, unless another is given. NaN: nothing was tested.

    >>> p(0.0312), p(0.0498), p(0.0001), p(0.9996), p(float("nan"))
    ('0.031', '0.0498', '<\xa00.001', '1.000', '–')
    """
    if isnan(number):
        return "–"
    if number < 0.001:
        return f"<{space}0.001"
    texts = (f"{number:.{digits}f}" for digits in count(3))
    return next(text for text in texts if (float(text) < ALPHA) == (number < ALPHA))


def eps(number: float) -> str:
    """Write ε as an exact decimal with a true minus."""
    return decimal(number).replace("-", MINUS)


def seconds(number: float) -> str:
    """Write a time in the unit in which it reads best.

    >>> seconds(0.0042), seconds(4.2), seconds(754)
    ('4.2 ms', '4.2 s', '12 min 34 s')
    """
    if number < 0.9995:  # from there on it rounds to a whole second
        return f"{1000 * number:.3g} ms"
    if number < 120:
        return f"{number:.3g} s"
    minutes, rest = divmod(round(number), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def bare_seconds(number: float) -> str:
    """Write seconds without their unit, with two digits and never with an exponent.

    >>> bare_seconds(0.00022), bare_seconds(1.26), bare_seconds(123.4)
    ('0.00022', '1.3', '123')
    """
    return format(Decimal(f"{number:.2g}"), "f") if number < 10 else f"{number:.0f}"
