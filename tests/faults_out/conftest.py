"""Fixtures of fault rows 37 to 54: what goes out (channels, store, process). What they use is in faults_out_kit.py."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
sys.path[1:1] = [str(TESTS / part) for part in ("alerts", "e2e", "faults") if str(TESTS / part) not in sys.path]

from faults_out_kit import canaries, events, stage  # noqa: E402  found only from here on
from faults_witness import watched  # noqa: E402

__all__ = ["canaries", "events", "stage"]


@pytest.fixture(autouse=True)
def _watched(record_property: Callable[[str, object], None]) -> Iterator[None]:
    with watched(record_property):
        yield
