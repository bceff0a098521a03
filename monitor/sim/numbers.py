"""Amounts as callers may give them: text, int, float or Decimal."""

from decimal import Decimal

Number = str | int | float | Decimal


def number(value: Number) -> Decimal:
    """A float counts as the decimal that it prints as. Raises decimal.InvalidOperation for what is no number."""
    return value if isinstance(value, Decimal) else Decimal(str(value))
