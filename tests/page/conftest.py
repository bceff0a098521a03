"""Fixtures of the page's tests; what they use is in page_kit.py and conftest_e2e.py."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[1:1] = [str(TESTS / part) for part in ("e2e", "page") if str(TESTS / part) not in sys.path]

from conftest_e2e import receiver  # noqa: E402  found only from here on
from page_kit import chromium, open_page  # noqa: E402
from web.conftest import client, serve  # noqa: E402
from web.test_web_desk import desk  # noqa: E402

__all__ = ["chromium", "client", "desk", "open_page", "receiver", "serve"]
