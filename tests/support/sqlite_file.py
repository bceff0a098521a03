"""A look into a SQLite file, or a change in it, from beside the product: committed, and closed at the end."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def opened_file(path: Path) -> Iterator[sqlite3.Connection]:
    """sqlite3's own `with` commits but does not close: Python 3.13 says so, and the file stays open."""
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        yield db
