"""What the running test looked at: each row of the catalogue is to be seen in an alert, a metric, the log, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNS = ("alert", "metric", "log", "recovery")
_seen: set[str] = set()  # of the one test that this process runs


def saw(sign: str) -> None:
    assert sign in SIGNS
    _seen.add(sign)


@contextmanager
def watched(record: Callable[[str, object], None]) -> Iterator[None]:
    """Around a test; what it looked at goes into its report."""
    _seen.clear()
    yield
    record("saw", sorted(_seen))
