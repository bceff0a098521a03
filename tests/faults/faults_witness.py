"""What the running test looked at: each row of the catalogue is to be seen in an alert, a metric, the log, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

SIGNS = ("alert", "metric", "log", "recovery")
_seen: set[str] = set()  # of the one test that this process runs


def saw(sign: str) -> None:
    assert sign in SIGNS
    _seen.add(sign)


@pytest.fixture(autouse=True)
def watched(record_property: Callable[[str, object], None]) -> Iterator[None]:
    """What the test looked at goes into its report."""
    _seen.clear()
    yield
    record_property("saw", sorted(_seen))
