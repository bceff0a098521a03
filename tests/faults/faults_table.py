"""The table of the run: which fault, which test, with what result, and how long until all was well again."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

ROWS: dict[int, str] = {
    1: "Socket open, pings answered, no data",
    2: "Stall before the first frame",
    3: "Subscription acknowledged on a dead route",
    4: "The same event time repeated for ever while the socket lives",
    5: "One symbol dead, others busy",
    6: "Listen key expired though kept alive",
    7: "Expiry event with a string timestamp",
    8: "Keep-alive REST fails (connection reset)",
    9: "24 h disconnect: planned rotation",
    10: "Reconnect storm",
    11: "Close 1008",
    12: "Close 1011, 1012, 1001, 1006",
    13: "HTTP 429",
    14: "HTTP 418 ban",
    15: "Clock skew, code −1021",
    16: "Events out of order",
    17: "Duplicate events",
    18: "Partial account update; a lost one",
    19: "Event during the fetch of a snapshot",
    20: "Symbol delisted or settling",
    21: "Mark price 0 in a position answer",
    22: "Delivery rollover",
    23: "Settlement window",
    24: "Brackets changed mid-flight",
    25: "NaN, Infinity, empty, null, 1_000, full-width digits",
    26: "Integers past 64 bits",
    27: "Duplicate JSON keys",
    28: "Very deep JSON",
    29: "Huge frame",
    30: "Gzip: half frame, bomb, plain text",
    31: "HTX heartbeats",
    32: "Maintenance: 503 and HTML bodies",
    33: "DNS failure",
    34: "TLS failure, expired certificate",
    35: "Blackholed peer",
    36: "Slow reader, event storm",
    37: "Telegram 429 with retry_after",
    38: "Telegram 400, 403: bot blocked, chat moved",
    39: "Slack 429, 400, 403, 404, 410",
    40: "Webhook time-out, 5xx, slow answer",
    41: "Answer lost after acceptance",
    42: "Disk full",
    43: "Store corrupt, read-only, locked",
    44: "SIGKILL between crossing and send",
    45: "SIGKILL between send and mark",
    46: "Restart with an open alert",
    47: "Configuration reload with an error",
    48: "Wall clock steps",
    49: "Daylight saving, zones",
    50: "Event loop blocked",
    51: "Memory growth",
    52: "Unknown event, enum, field",
    53: "Key revoked, address not allowed",
    54: "Two instances running",
}
NOT_HERE = {51: "measured over 24 simulated hours by `make soak`"}  # row → why no test of the suite shows it

_ROW = re.compile(r"test_row_(\d\d)_(\w+)(\[[^\]]*\])?$")
_HEAD = """# Faults and how they end

Written by `FAULT_TABLE=deploy/docs/faults.md make test-faults`. Each row is one or more tests against the real daemon, the
simulated exchange and a proxy that breaks connections. Recovery is the time from the end of the fault until all streams are up,
all figures are known and nothing is said of stale data any more. Up to row 36 it is in exchange seconds: the monitor's periods
are the product's defaults, compressed by the same factor; from row 37 on it is in real seconds, to the delivery or refusal
that the row asks for. "–": nothing to recover from. An *expected failure* is a known gap; its reason is below the table.

| row | fault | test | result | recovery |
|---|---|---|---|---|
"""


class Table:
    """A pytest plugin: gathers the reports, writes Markdown at the end."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._results: dict[int, list[tuple[str, str, str]]] = defaultdict(list)
        self._gaps: list[tuple[int, str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = _ROW.search(report.nodeid)
        if name is None or (report.when != "call" and report.passed):
            return
        row, test = int(name[1]), f"{name[2].replace('_', ' ')}{name[3] or ''}"
        recovery = dict(report.user_properties).get("recovery_s")
        why = getattr(report, "wasxfail", "")
        if report.skipped and why:
            result = "expected failure"
            self._gaps.append((row, test, why.removeprefix("reason: ")))
        else:
            result = {"passed": "ok", "failed": "**FAILED**", "skipped": "skipped"}[report.outcome]
        self._results[row].append((test, result, "–" if recovery is None else f"{recovery} s"))

    def pytest_sessionfinish(self) -> None:
        lines = []
        for row, fault in ROWS.items():
            for test, result, recovery in sorted(self._results[row]):
                lines.append(f"| {row} | {fault} | {_cell(test)} | {result} | {recovery} |")
            if not self._results[row]:
                lines.append(f"| {row} | {fault} | | {NOT_HERE.get(row, 'not in this run')} | |")
        text = _HEAD + "\n".join(lines) + "\n"
        if self._gaps:
            text += (
                "\n## Known gaps\n\n" + "\n".join(f"* Row {row}, {test}: {why}" for row, test, why in sorted(self._gaps)) + "\n"
            )
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._target.write_text(text, encoding="utf-8")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
