"""What is no HTTP: aiohttp logs each such request with its traceback, and whoever reaches the port can send a million of them."""

from __future__ import annotations

import logging

from aiohttp.http import HttpProcessingError

from monitor.web.connections import SeldomLog


class _Filter(logging.Filter):
    def __init__(self, seldom: SeldomLog) -> None:
        super().__init__()
        self._seldom = seldom

    def filter(self, record: logging.LogRecord) -> bool:
        exc = record.exc_info[1] if record.exc_info else None
        if not isinstance(exc, HttpProcessingError):
            return True
        self._seldom.warning("web_request_malformed", problem=type(exc).__name__)  # not its text, which is the client's
        return False


def request_logger(seldom: SeldomLog) -> logging.Logger:
    """For the HTTP server: a defect of ours is logged as ever, a malformed request seldom."""
    logger = logging.Logger("aiohttp.server")
    logger.parent = logging.getLogger("aiohttp.server")
    logger.addFilter(_Filter(seldom))
    return logger
