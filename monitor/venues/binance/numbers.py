"""Text to number, in one place.

Venue numbers are strings; a decoder with `strict=False` turns them into floats and takes only plain JSON decimals: "1_000", " 1",
full-width digits and "" are refused. The bounds refuse what it would still let through, "NaN" and "Infinity", inside the decoder.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

PriceNumber = Annotated[float, Meta(gt=0, lt=1e15)]
Amount = Annotated[float, Meta(gt=-1e18, lt=1e18)]
NotNegative = Annotated[float, Meta(ge=0, lt=1e18)]
Leverage = Annotated[float, Meta(gt=0, le=10_000)]
TimeMs = Annotated[int, Meta(ge=0, lt=10**14)]  # up to the year 5138: anything longer is no time in milliseconds
ErrorCode = Annotated[int, Meta(gt=-(10**9), lt=10**9)]
Ordinal = Annotated[int, Meta(ge=0, lt=10**6)]  # a place in a table
WeightLimit = Annotated[int, Meta(ge=0, lt=10**9)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]

# All that a msgspec decoder raises on hostile input: malformed, wrong types, bad UTF-8, nested too deep.
UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)

_decode_amount = msgspec.json.Decoder(Amount, strict=False).decode


def amount_or_none(raw: bytes | msgspec.Raw) -> float | None:
    """A number of which only a text is made."""
    try:
        return _decode_amount(raw)
    except UNREADABLE:
        return None
