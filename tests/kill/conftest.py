"""Where the tests of whole lives find the kit of the alerts, the fuzzers of the venues and the app of the end-to-end tests."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[1:1] = [str(TESTS / part) for part in ("alerts", "venues", "e2e") if str(TESTS / part) not in sys.path]
