"""Numbers as the exchange prints them: strings, cut (not rounded) to 8 places."""

from decimal import ROUND_DOWN, Decimal

PLACES_8 = Decimal("0.00000001")


def cut(value: Decimal) -> Decimal:
    """Toward zero at 8 places; never −0."""
    return value.quantize(PLACES_8, rounding=ROUND_DOWN) + 0


def money(value: Decimal) -> str:
    """ "12.30000000"."""
    return f"{cut(value):.8f}"


def money_or_zero(value: Decimal) -> str:
    """As `money`, but the bare "0" that the exchange prints for nothing in some fields."""
    return money(value) if cut(value) else "0"


def plain(value: Decimal, places: int = 0) -> str:
    """Without exponent and without needless zeros, with at least `places` places: "12.3", "0", "0.00000"."""
    text = f"{value:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    if text in {"", "-0"}:
        text = "0"
    have = len(text.partition(".")[2])
    if have < places:
        text += ("" if have else ".") + "0" * (places - have)
    return text
