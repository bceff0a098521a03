"""Growing tables of numpy columns: rows are only added, so a row number stays good for ever."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatColumn = NDArray[np.float64]
IntColumn = NDArray[np.int64]
IndexColumn = NDArray[np.intp]
BoolColumn = NDArray[np.bool_]
LevelColumn = NDArray[np.int8]


class Columns:
    """Base of a table. A subclass names its columns and their value in a new row in `new_row`.

    Each column is an attribute: a view of exactly `len(table)` rows. Views are renewed when a row is added, so take them
    from the table each time.
    """

    new_row: dict[str, tuple[Any, Any]] = {}  # noqa: RUF012  a constant of each subclass: name -> (dtype, fill)

    def __init__(self) -> None:
        self._size = 0
        self._buffers = {name: np.full(16, fill, dtype) for name, (dtype, fill) in self.new_row.items()}
        self._show()

    def __len__(self) -> int:
        return self._size

    def add(self, **values: Any) -> int:
        """A new row with these values, the others as in `new_row`. Returns its number."""
        row = self._size
        if row == len(next(iter(self._buffers.values()))):
            for name, (dtype, fill) in self.new_row.items():
                grown = np.full(2 * row, fill, dtype)
                grown[:row] = self._buffers[name]
                self._buffers[name] = grown
        self._size = row + 1
        self._show()
        for name, value in values.items():
            self._buffers[name][row] = value
        return row

    def _show(self) -> None:
        for name, buffer in self._buffers.items():
            setattr(self, name, buffer[: self._size])
