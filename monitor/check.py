"""`margin-monitor check`: does everything work that `run` will need? The same venues and engine, without store and alerts.

Nothing is changed anywhere: the calls are those of the daemon, which only reads, and no message is sent unless asked for.
"""

import asyncio
import contextlib
import errno
import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path

import numpy as np
from msgspec import Struct
from rich.console import Console
from rich.table import Table
from rich.text import Text

from monitor.alerts import trial
from monitor.app import engine_of, venues_of
from monitor.clock import Clock
from monitor.config import AccountConfig, Config
from monitor.engine.engine import Engine
from monitor.model.alerts import Level
from monitor.model.events import Event, TimePassed
from monitor.model.figures import PoolFigures
from monitor.readiness import Gap, gaps
from monitor.remote import Daemon, RemoteError
from monitor.terminal import amount, printable
from monitor.venues import Venue

LOOK_S = 0.05
TIME_LIMIT_S = 30.0


class Verdict(StrEnum):
    """What became of one check. Only FAIL makes the command fail."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


class Finding(Struct, frozen=True):
    """One line of the result."""

    check: str  # "key", "clock", "stream", "account", "pool", "page", "store", "channel"
    subject: str
    verdict: Verdict
    text: str
    ms: int | None = None  # how long it took, where that says something


async def check(config: Config, *, send: bool = False, limit_s: float = TIME_LIMIT_S) -> list[Finding]:
    """All checks, at most `limit_s` for each of keys and data. send: also a test message to every channel."""
    probe = _Probe(config)
    findings = [_page(config), _store(config)]
    findings += await probe.keys(limit_s)
    findings += await probe.data(limit_s)
    findings += await _channels(config, send=send)
    return findings


class _Probe:
    """One short run of the venues into an engine that nobody listens to."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._clock = Clock()
        self._engine: Engine = engine_of(config)
        self._venues: Sequence[Venue] = venues_of(config, self._step, self._clock)

    def _step(self, event: Event) -> None:
        self._engine.step(event, self._clock.now_ms())

    async def keys(self, limit_s: float) -> list[Finding]:
        """What the venues say of each key."""
        rows = []
        for venue in self._venues:
            accounts = [account for account in self._config.accounts if account.venue == venue.name]
            try:
                async with asyncio.timeout(limit_s):
                    found = await venue.check_keys()
            except TimeoutError:
                rows += [Finding("key", one.name, Verdict.FAIL, f"no answer within {limit_s:g} s") for one in accounts]
                continue
            for account in accounts:
                said = [one for one in found if one.alias == account.name]
                rows += [Finding("key", account.name, _key_verdict(one.verdict, account), one.text) for one in said]
                if not said:
                    rows.append(Finding("key", account.name, Verdict.OK, "it may only read, from addresses of your choice"))
        return rows

    async def data(self, limit_s: float) -> list[Finding]:
        """Runs until the monitor would be ready, or the time is over. Raises what ends a venue: that is a bug."""
        began_s = time.monotonic()
        first_ms: dict[Gap, int] = {}
        open_gaps = set(gaps(self._venues, self._engine))
        tasks = [asyncio.create_task(venue.run(), name=venue.name) for venue in self._venues]
        try:
            while (
                (open_gaps or self._unknown()) and time.monotonic() - began_s < limit_s and not any(task.done() for task in tasks)
            ):
                await asyncio.sleep(LOOK_S)
                self._step(TimePassed())
                now = set(gaps(self._venues, self._engine))
                took_ms = round((time.monotonic() - began_s) * 1000)
                first_ms |= dict.fromkeys(open_gaps - now, took_ms)
                open_gaps = now
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        bugs = [one for one in ended if isinstance(one, Exception)]
        if bugs:
            raise ExceptionGroup("a venue failed", bugs)
        return [*self._clocks(), *self._streams(first_ms, limit_s), *self._accounts(open_gaps, limit_s), *self._pools(open_gaps)]

    def _unknown(self) -> bool:
        """Whether a pool cannot be valued: perhaps only for the moment, until the price of a quiet contract has come."""
        table = self._engine.table()
        return bool((np.isnan(table.equity) | np.isnan(table.requirement)).any())

    def _clocks(self) -> Iterator[Finding]:
        offsets_ms = self._engine.clock_offsets_ms()
        rule = self._config.rules.clock
        for venue in self._venues:
            if venue.name not in offsets_ms:
                yield Finding("clock", venue.name, Verdict.FAIL, "the venue's clock could not be read")
                continue
            offset_s = offsets_ms[venue.name] / 1000
            level = int(rule.judge(np.array([offset_s]), np.zeros(1, np.int8))[0])
            verdict = Verdict.FAIL if level >= Level.HIGH else Verdict.WARN if level > Level.OK else Verdict.OK
            way = "behind" if offset_s > 0 else "ahead of"
            text = f"ours is {abs(offset_s):.2f} s {way} the venue's" + ("" if level <= Level.OK else ": set it by NTP")
            yield Finding("clock", venue.name, verdict, text)

    def _streams(self, first_ms: dict[Gap, int], limit_s: float) -> Iterator[Finding]:
        times = {(gap.venue, gap.account, gap.subject): ms for gap, ms in first_ms.items() if gap.part == "stream"}
        for stream in (stream for venue in self._venues for stream in venue.streams):
            subject = f"{stream.venue} {stream.account} {stream.stream}".replace("  ", " ")
            if not stream.first_data:
                why = stream.down_reason or "connected, but silent"
                yield Finding("stream", subject, Verdict.FAIL, f"no data within {limit_s:g} s: {why}")
            else:
                ms = times.get((stream.venue, stream.account, stream.stream))
                verdict = Verdict.OK if stream.up else Verdict.WARN
                yield Finding("stream", subject, verdict, "first data" if stream.up else f"down again: {stream.down_reason}", ms)

    def _accounts(self, open_gaps: Iterable[Gap], limit_s: float) -> Iterator[Finding]:
        untold = {(gap.venue, gap.account): gap.text for gap in open_gaps if gap.part == "account"}
        held = {(key.venue, key.account) for key in self._engine.table().keys}
        for account in self._config.accounts:
            path = (account.venue, account.name)
            if path in untold:
                yield Finding("account", account.name, Verdict.FAIL, f"not known within {limit_s:g} s: {untold[path]}")
            elif path not in held:
                yield Finding("account", account.name, Verdict.OK, "it holds nothing now")
            else:
                yield Finding("account", account.name, Verdict.OK, "a full picture")

    def _pools(self, open_gaps: Iterable[Gap]) -> Iterator[Finding]:
        """Own figures against the venue's, judged by the limits of the rule `reconcile`."""
        uncompared = {(gap.venue, gap.account, gap.subject): gap.text for gap in open_gaps if gap.part == "pool"}
        rules = {account.name: account.rules.reconcile for account in self._config.accounts}
        for key in self._engine.table().keys:
            figures, subject = self._engine.figures(key), f"{key.account} {key.pool}"
            if figures is None:
                continue
            if figures.equity is None or figures.requirement is None:
                yield Finding("pool", subject, Verdict.FAIL, f"not known: {'; '.join(figures.unknown)}")
                continue
            if (key.venue, key.account, key.pool) in uncompared:
                yield Finding("pool", subject, Verdict.FAIL, "not compared with the venue's own figures")
                continue
            difference, rule = figures.reconcile_difference or 0.0, rules[key.account]
            verdict = Verdict.WARN if rule.warning is not None and difference > rule.warning else Verdict.OK
            verdict = Verdict.FAIL if rule.high is not None and difference > rule.high else verdict
            yield Finding("pool", subject, verdict, _compared(figures))


def _key_verdict(verdict: str, account: AccountConfig) -> Verdict:
    return Verdict.FAIL if verdict == "refuse" and not account.allow_dangerous_key else Verdict.WARN


def _compared(figures: PoolFigures) -> str:
    unit, difference = figures.unit, figures.reconcile_difference
    own = f"equity {amount(figures.equity)} {unit}, maintenance margin {amount(figures.requirement)}"
    theirs = f"the venue says {amount(figures.venue_equity)} and {amount(figures.venue_requirement)}"
    apart = "" if difference is None else f" ({difference:.2%} apart)"
    health = "nothing at risk" if figures.health is None else f"health {figures.health:.3f}"
    return f"{health}: {own}; {theirs}{apart}"


def _page(config: Config) -> Finding:
    """Whether `run` could have its address; one that a daemon of ours has is no fault."""
    web = config.web
    family = socket.AF_INET6 if ":" in web.host else socket.AF_INET
    try:
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((web.host, web.port))
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE and _is_ours(web.listen):
            return Finding("page", web.listen, Verdict.WARN, "a margin-monitor listens there already: stop it before `run`")
        why = exc.strerror or str(exc)
        return Finding("page", web.listen, Verdict.FAIL, f"cannot listen there: {why}; set web.listen to another address")
    return Finding("page", web.listen, Verdict.OK, "the address is free")


def _is_ours(listen: str) -> bool:
    with contextlib.suppress(RemoteError):
        Daemon(f"http://{listen}").hangs()
        return True
    return False


def _store(config: Config) -> Finding:
    file = config.store.file()
    if str(file) == ":memory:":
        return Finding("store", ":memory:", Verdict.WARN, "in memory: a restart forgets what is open and unsent")
    there = next(folder for folder in (file, *file.absolute().parents) if folder.exists())
    if not os.access(there, os.R_OK | os.W_OK | (os.X_OK if there.is_dir() else 0)):
        return Finding("store", _shown(file), Verdict.FAIL, f"{_shown(there)} cannot be written by this user")
    return Finding("store", _shown(file), Verdict.OK, "it can be written")


def _shown(path: Path) -> str:
    return printable(str(path))


async def _channels(config: Config, *, send: bool) -> list[Finding]:
    channels = config.alerts.channels
    if not channels:
        return [Finding("channel", "none", Verdict.WARN, "alerts are only kept and logged: nobody is called")]
    if not send:
        return [Finding("channel", one.name, Verdict.SKIPPED, "--send sends it a test message") for one in channels]
    return [channel_finding(one) for one in await trial.test_alert(config.alerts)]


def channel_finding(result: trial.TestResult) -> Finding:
    """What became of a test message."""
    verdict = Verdict.OK if result.ok else Verdict.FAIL
    return Finding(
        "channel", f"{result.channel} ({result.kind})", verdict, result.refusal or f"delivered to {result.where}", result.ms
    )


# ------------------------------------------------------------------ for people and programs

_STYLES = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red", Verdict.SKIPPED: "dim"}


def passed(findings: Iterable[Finding]) -> bool:
    return not any(one.verdict is Verdict.FAIL for one in findings)


def as_json(findings: Sequence[Finding]) -> dict[str, object]:
    """The documented shape of `check --json`."""
    rows = [{name: getattr(one, name) for name in Finding.__struct_fields__} for one in findings]
    return {"passed": passed(findings), "findings": rows}


def show(findings: Sequence[Finding], console: Console) -> None:
    """A table, and what it comes to."""
    table = Table("", "check", "subject", "found", "ms", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.columns[-1].justify = "right"
    for one in findings:
        took = "" if one.ms is None else f"{one.ms:,}"
        table.add_row(
            Text(one.verdict.upper(), _STYLES[one.verdict]), one.check, Text(one.subject), Text(printable(one.text)), took
        )
    console.print(table)
    failed = sum(one.verdict is Verdict.FAIL for one in findings)
    warned = sum(one.verdict is Verdict.WARN for one in findings)
    console.print(f"{failed} failed, {warned} to look at, {len(findings)} in all", highlight=False)
