"""Text to number, in one place.

The venue writes numbers as JSON numbers and as strings, both with up to 18 decimals and more. A decoder with `strict=False` takes
both and refuses what is not a plain JSON decimal: "1_000", " 1", full-width digits, "". The bounds refuse "NaN" and "Infinity".
"""

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from monitor.venues.base import Fault, VenueError

PriceNumber = Annotated[float, Meta(gt=0, lt=1e15)]
Amount = Annotated[float, Meta(gt=-1e18, lt=1e18)]
NotNegative = Annotated[float, Meta(ge=0, lt=1e18)]
Leverage = Annotated[float, Meta(gt=0, le=10_000)]
TimeMs = Annotated[int, Meta(ge=0, lt=10**14)]  # up to the year 5138: anything longer is no time in milliseconds
TimeS = Annotated[int, Meta(ge=0, lt=10**11)]
Ordinal = Annotated[int, Meta(ge=0, lt=10**6)]  # a place in a table
Name = Annotated[str, Meta(min_length=1, max_length=32, pattern="^[A-Za-z0-9_-]+$")]

# All that a msgspec decoder raises on hostile input: malformed, wrong types, bad UTF-8, nested too deep.
UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)

ABSENT = msgspec.Raw()
Answer = bytes | str | dict[str, Any] | list[Any]
T = TypeVar("T")

_decode_amount = msgspec.json.Decoder(Amount, strict=False).decode
_decode_price = msgspec.json.Decoder(PriceNumber, strict=False).decode
_decode_time = msgspec.json.Decoder(TimeMs, strict=False).decode


def amount_or_none(raw: msgspec.Raw) -> float | None:
    """A figure that the venue may leave out, or write as null or ""."""
    try:
        return _decode_amount(raw)
    except UNREADABLE:
        return None


def price_or_none(raw: msgspec.Raw) -> float | None:
    try:
        return _decode_price(raw)
    except UNREADABLE:
        return None


def time_or_none(raw: msgspec.Raw) -> int | None:
    """Epoch ms, a number or a string."""
    try:
        return _decode_time(raw)
    except UNREADABLE:
        return None


def read(answer: Answer, shape: type[T], what: str) -> T:
    """A raw answer, as it came or as a JSON parser made it, in its documented shape.

    Raises VenueError(BAD_ANSWER) with the path of the first thing that is not as documented.
    """
    try:
        raw = answer if isinstance(answer, bytes | str) else msgspec.json.encode(answer)  # NaN becomes null, and is refused
        return msgspec.json.decode(raw, type=shape, strict=False)
    except (*UNREADABLE, TypeError) as exc:  # TypeError: a value that JSON does not know
        raise VenueError(Fault.BAD_ANSWER, f"{what}: {exc}", retryable=True) from None
