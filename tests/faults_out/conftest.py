"""Fixtures of fault rows 37 to 54: what goes out (channels, store, process). What they use is in faults_out_kit.py."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[1:1] = [str(TESTS / part) for part in ("alerts", "e2e", "faults") if str(TESTS / part) not in sys.path]

from faults_canary import canaries  # noqa: E402  found only from here on
from faults_out_kit import events, stage  # noqa: E402
from faults_witness import watched  # noqa: E402

__all__ = ["canaries", "events", "stage", "watched"]
