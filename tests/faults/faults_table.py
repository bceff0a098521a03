"""The table of the run: which fault, which test, with what result, and how long until all was well again."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from faults_witness import SIGNS
from msgspec import Struct

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
ELSEWHERE = {51: "`make soak`: 24 simulated hours"}  # row → who runs its tests
# What a row has no sign of, and why. Everything else must be looked at by a test of the row.
WITHOUT: dict[int, dict[str, str]] = {
    3: {"recovery": "the address stays wrong until its owner mends it"},
    49: {"recovery": "nothing fails, so nothing comes back"},
}
STANDS_IN = {  # where the fault itself is made by other means than in life
    33: "the resolver of the process is broken, not that of the machine",
    35: "a proxy that forwards nothing stands for a firewall that drops; TCP acknowledges, which is the harder case",
    37: "a receiver on loopback with Telegram's answers; so it is for Slack (39)",
    42: "a file system of 640 KiB in memory, and a limit of the file size where nothing can be mounted",
    48: "the clock as the process reads it is shifted; another boot is a time namespace, where the machine has them",
    50: "SIGSTOP, and a part of the program that never returns; the service manager is the test's end of its socket",
}

_ROW = re.compile(r"test_row_(\d\d)_(\w+)(\[[^\]]*\])?$")
_STEPS_S = (3, 10, 30, 100)  # figures of a run to the next of these: the table shall not change with the weather
_HEAD = """# Faults and how they end

Written by `make fault-table`. Each row is one or more tests against the real daemon, the
simulated exchange and a proxy that breaks connections. *Seen in* says where the tests of a row look: the alert that must come
(or must not), the metric, the log, and the time of recovery. That is the time from the end of the fault until all streams are up,
all figures are known and nothing is said of stale data any more. Up to row 36 it is in seconds of a loop whose time jumps, at the
product's defaults; from row 37 on it is in real seconds, to the delivery or refusal that the row asks for. "–": nothing to
recover from. An *expected failure* is a known gap; its reason is below the table.

| row | fault | test | result | seen in | recovery |
|---|---|---|---|---|---|
"""


class Result(Struct):
    """Of one test."""

    test: str
    result: str
    saw: list[str]
    recovery: str


class Table:
    """A pytest plugin: gathers the reports; fails a whole run that leaves a row or a sign out; writes Markdown if asked to."""

    def __init__(self, target: Path | None) -> None:
        self._target = target
        self._results: dict[int, dict[str, Result]] = defaultdict(dict)
        self._gaps: list[tuple[int, str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = _ROW.search(report.nodeid)
        if name is None:
            return
        row, test = int(name[1]), f"{name[2].replace('_', ' ')}{name[3] or ''}"
        said: dict[str, Any] = dict(report.user_properties)
        known = self._results[row].get(test)
        if report.when == "teardown" and known is not None:
            known.saw = [*said.get("saw", []), *(["recovery"] if "recovery_s" in said else [])]
        if report.when != "call" and report.passed:
            return
        why = getattr(report, "wasxfail", "")
        if report.skipped and why:
            result = "expected failure"
            self._gaps.append((row, test, why.removeprefix("reason: ")))
        else:
            result = {"passed": "ok", "failed": "**FAILED**", "skipped": "skipped"}[report.outcome]
        self._results[row][test] = Result(test, result, [], _about(said.get("recovery_s")))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if lacking := self._lacking():
            print("\n" + "\n".join(lacking))
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if self._target is not None:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._target.write_text(self._text(), encoding="utf-8")

    def _lacking(self) -> list[str]:
        """What a run of the whole catalogue did not look at. A run of a part of it is not judged."""
        if set(self._results) != set(ROWS) - set(ELSEWHERE) or any(
            one.result == "skipped" for results in self._results.values() for one in results.values()
        ):
            return []
        return [
            f"row {row}: no test looks at its {sign}"
            for row, results in sorted(self._results.items())
            for sign in SIGNS
            if sign not in WITHOUT.get(row, {}) and not any(sign in one.saw for one in results.values())
        ]

    def _text(self) -> str:
        lines = []
        for row, fault in ROWS.items():
            for _, one in sorted(self._results[row].items()):
                saw = ", ".join(sign for sign in SIGNS if sign in one.saw)
                lines.append(f"| {row} | {fault} | {_cell(one.test)} | {one.result} | {saw} | {one.recovery} |")
            if not self._results[row]:
                lines.append(f"| {row} | {fault} | | {ELSEWHERE.get(row, 'not in this run')} | | |")
        parts = [_HEAD + "\n".join(lines)]
        if self._gaps:
            parts.append("## Known gaps")
            parts.append("\n".join(f"* Row {row}, {test}: {why}" for row, test, why in sorted(self._gaps)))
        parts.append("## What a row has no sign of")
        parts.append("\n".join(f"* Row {row}, {sign}: {why}" for row, signs in WITHOUT.items() for sign, why in signs.items()))
        parts.append("## What stands in for the real thing")
        parts.append("\n".join(f"* Row {row}: {how}" for row, how in STANDS_IN.items()))
        return "\n\n".join(parts) + "\n"


def _about(recovery_s: float | None) -> str:
    if recovery_s is None:
        return "–"
    return next((f"< {step} s" for step in _STEPS_S if recovery_s < step), f"{recovery_s:.0f} s")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
