"""Where the soak finds the receiver and the configuration of the end-to-end tests."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
if str(TESTS / "e2e") not in sys.path:
    sys.path.insert(1, str(TESTS / "e2e"))

from conftest_e2e import receiver  # noqa: E402  found only from here on

__all__ = ["receiver"]
