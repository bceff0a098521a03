"""Where the tests of whole lives find the kit of the alerts and the fuzzers of the venues."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[1:1] = [str(TESTS / part) for part in ("alerts", "venues") if str(TESTS / part) not in sys.path]
