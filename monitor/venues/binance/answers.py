"""Reads one endpoint's raw answer: JSON bytes or text, or the objects that a JSON parser made of them."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import msgspec

from monitor.model.streams import Counters, count
from monitor.venues.base import Fault, VenueError
from monitor.venues.binance.numbers import UNREADABLE

Answer = bytes | str | dict[str, Any] | list[Any]
T = TypeVar("T")


def read(answer: Answer, shape: type[T], what: str) -> T:
    """The whole answer in its documented shape. Raises VenueError(BAD_ANSWER) with the path of the first thing that is not."""
    try:
        if isinstance(answer, bytes | str):
            return msgspec.json.decode(answer, type=shape, strict=False)
        return msgspec.convert(answer, shape, strict=False)
    except UNREADABLE as exc:
        raise VenueError(Fault.BAD_ANSWER, f"{what}: {exc}", retryable=True) from None


def read_rows(answer: Answer, row: type[T], what: str, *, path: str = "", on_refused: Callable[[], None]) -> list[T]:
    """The good rows of an array (or of the one object that the venue sends for a single symbol), under the key `path` if given.

    The whole array is read at once; only if that fails each row is read alone, so that a bad one costs only itself.
    """
    try:
        if not path:
            return read_one_or_many(answer, row, what)
    except VenueError:
        pass
    data: Any = read(answer, object, what)
    if path:
        data = data.get(path, []) if isinstance(data, dict) else None
    if isinstance(data, dict):
        data = [data]
    if not isinstance(data, list):
        raise VenueError(Fault.BAD_ANSWER, f"{what}: no array of rows", retryable=True)
    rows: list[T] = []
    for item in data:
        try:
            rows.append(msgspec.convert(item, row, strict=False))
        except UNREADABLE:
            on_refused()
    return rows


def read_one_or_many(answer: Answer, row: type[T], what: str) -> list[T]:
    rows = read(answer, cast("type[T | list[T]]", row | list[row]), what)  # type: ignore[valid-type]  # a type made at run time
    return rows if isinstance(rows, list) else [rows]


def refusal(counters: Counters, reason: str) -> Callable[[], None]:
    return lambda: count(counters.refused, reason)
