"""Families with many series: what `prometheus_client` writes, line for line, in a fraction of its time."""

import operator
import re
from collections.abc import Iterable, Sequence
from hashlib import blake2s
from itertools import compress

import numpy as np
import orjson

from monitor.model.figures import Array

LABEL_LENGTH_MAX = 32
_UNWANTED = re.compile(r"[^\w:.\-]")  # \w: letters and digits of any script; some symbols are not ASCII


def label_value(text: str) -> str:
    """A name from outside as a label value that needs no escaping in any dialect.

    Control and format characters are dropped, whatever is not a letter, a digit or one of `_:.-` becomes `_`, and the length is
    bounded. A name that had to be changed ends in a digest of the original: two names must never become one series, for
    Prometheus refuses the whole scrape then.
    """
    clean = _UNWANTED.sub("_", "".join(filter(str.isprintable, text)))[:LABEL_LENGTH_MAX]
    if clean == text:
        return text
    return f"{clean}~{blake2s(text.encode('utf-8', 'surrogatepass'), digest_size=6).hexdigest()}"


class Series:
    """Gauges that share their label sets: one line per row of a column, what `prometheus_client` writes for the same values."""

    def __init__(self, rows: Sequence[tuple[str, ...]], names: Sequence[str] = ()) -> None:
        self._rows = rows
        self._label_sets = [_label_set(names, row) for row in rows]
        self._prefixes: dict[str, list[str]] = {}

    def of(self, rows: Sequence[tuple[str, ...]], names: Sequence[str]) -> "Series":
        """Itself if the rows are still the same, else new ones: a scrape under way keeps its own."""
        return self if rows == self._rows else Series(rows, names)

    def gauge(self, name: str, explanation: str, values: Array, *, infinite: bool = False) -> bytes:
        """One family. values: one per row; NaN, and unless `infinite` also ±Inf, has no series."""
        if name not in self._prefixes:
            self._prefixes[name] = [name + labels for labels in self._label_sets]
        prefixes: Iterable[str] = self._prefixes[name]
        known = values > -np.inf if infinite else np.isfinite(values)  # NaN fails the comparison
        if not known.all():
            prefixes, values = compress(prefixes, known.tolist()), values[known]
        lines = map(operator.add, prefixes, number_texts(values))
        return "\n".join([f"# HELP {name} {explanation}\n# TYPE {name} gauge", *lines, ""]).encode()


def _label_set(names: Sequence[str], row: tuple[str, ...]) -> str:
    """As it stands between the name and the number."""
    labels = ",".join(f'{name}="{label_value(value)}"' for name, value in zip(names, row, strict=True))
    return f"{{{labels}}} " if labels else " "


def number_texts(values: Array) -> list[str]:
    """Numbers as `prometheus_client` writes them (`floatToGoString`), by column.

    orjson and `repr` write the same shortest digits; they differ in their exponents and in what is not finite.
    """
    if not len(values):
        return []
    texts = orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].decode().split(",")
    size = np.abs(values)
    plain = (size >= 1e-4) & (size < 1e6) | (size == 0)
    others = np.flatnonzero(~plain)
    for i, value in zip(others.tolist(), values[others].tolist(), strict=True):
        texts[i] = number_text(value)
    return texts


def number_text(value: float) -> str:
    if value != value:  # noqa: PLR0124  NaN
        return "NaN"
    if value in (np.inf, -np.inf):
        return "+Inf" if value > 0 else "-Inf"
    text = repr(value)
    point = text.find(".")
    if value > 0 and point > 6:  # Go writes an exponent sooner than Python
        return f"{text[0]}.{text[1:point]}{text[point + 1 :]}".rstrip("0.") + f"e+{point - 1:02d}"
    return text
