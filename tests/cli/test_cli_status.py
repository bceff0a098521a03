"""`status` and the screen of `top`: the words, the colours, the room they take, and the exit codes."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cli_kit import run, secret
from rich.console import Console
from web.view_in_memory import NOW_MS, MemoryView

from monitor.model.alerts import Incident, IncidentKey, Level
from monitor.model.figures import PoolFigures, PoolKey, PositionFigures
from monitor.model.secret import Secret
from monitor.model.streams import StreamStatus
from monitor.remote import Daemon
from monitor.screen import alarming, screen
from monitor.terminal import STYLES
from monitor.web.server import Server, ServerSettings

TOKEN = "canary-token-of-the-page"
ESCAPE = "\x1b[2J[red]"


def figures(account: str, health: float | None, level: Level, **more: Any) -> PoolFigures:
    equity = None if health is None else 1000.0 * health
    fields: dict[str, Any] = {
        "key": PoolKey("binance_usdm", account, "USD"),
        "unit": "USD",
        "equity": equity,
        "requirement": 1000.0,
        "initial_margin": None,
        "margin_ratio": None if health is None else 1 / health,
        "health": health,
        "available": 0.0,
        "withdrawable": 0.0,
        "level": int(level),
        "age_ms": 1500,
    }
    return PoolFigures(**{**fields, **more})


def position(symbol: str, price: float, liquidation_price: float | None) -> PositionFigures:
    empty = dict.fromkeys(PositionFigures.__struct_fields__)
    known = {"symbol": symbol, "side": "BOTH", "margin_asset": "USDT", "quantity": 1.0, "entry_price": price, "price": price}
    return PositionFigures(**{**empty, **known, "liquidation_price": liquidation_price})  # type: ignore[arg-type]


def incident(level: Level, summary: str = "found") -> Incident:
    key = IncidentKey("binance_usdm", "main", "USD", "health")
    return Incident(
        id="20261122T053424-7KQMZ",
        key=key,
        level=level,
        worst=level,
        opened_ms=NOW_MS - 240_000,
        changed_ms=NOW_MS,
        summary=summary,
    )


class NoMetrics:
    def blocks(self, *, openmetrics: bool = False) -> Iterator[bytes]:
        return iter(())


@pytest.fixture
async def view() -> MemoryView:
    two = (position("BTCUSDT", 100.0, 80.0), position("ETHUSDT", 10.0, 9.5))
    view = MemoryView([figures("main", 1.6, Level.WARNING, positions=two), figures("other", 5.0, Level.OK)])
    view.stream_rows = [StreamStatus(venue="binance_usdm", account="", stream="mark_price", up=True, first_data=True)]
    return view


@pytest.fixture
async def server(view: MemoryView) -> AsyncIterator[Server]:
    server = Server(view, NoMetrics(), ServerSettings(port=0, token=Secret(TOKEN), version="0.1.0"))
    await server.start()
    yield server
    await server.stop()


async def status(server: Server, folder: Path, *args: str) -> tuple[int, str, str]:
    token = secret(folder / "token", TOKEN)
    code, out, err = await run("status", *args, "--url", server.url, "--token-file", str(token))
    assert TOKEN not in out + err
    return code, out, err


async def test_a_table_worst_first_with_both_senses_and_the_nearest_position(
    server: Server, view: MemoryView, tmp_path: Path
) -> None:
    code, out, _ = await status(server, tmp_path)
    assert code == 0
    head, headings, first, second, *rest = out.splitlines()
    assert head.startswith("margin-monitor 0.1.0  2 pools  streams 1/1  incidents 0")
    assert headings.split() == ["level", "pool", "health", "↓", "ratio", "↑", "equity", "liq.", "at", "distance", "age"]
    assert first.split() == [
        *("WARNING", "main", "USD", "binance_usdm", "1.600", "62.5%", "1,600.00", "USD", "1,000.00", "ETHUSDT", "-5.0%", "1.5s")
    ]
    assert second.split()[:2] == ["OK", "other"]
    assert rest == ["nothing is open"]


@pytest.mark.parametrize(
    ("level", "health", "incidents", "missing", "code", "why"),
    [
        (Level.OK, 5.0, [], [], 0, "all is well"),
        (Level.HIGH, 1.4, [Level.HIGH], [], 0, "high is not critical"),
        (Level.CRITICAL, 1.15, [], [], 3, "a pool is critical"),
        (Level.LIQUIDATION, 0.9, [], [], 3, "and worse than that"),
        (Level.UNKNOWN, None, [], [], 3, "unknown is not fine"),
        (Level.OK, 5.0, [Level.CRITICAL], [], 3, "an incident of no pool, such as a dead feed"),
        (Level.OK, 5.0, [Level.UNKNOWN], [], 3, "an incident whose data are missing"),
        (Level.OK, 5.0, [], ["binance_usdm main: no picture of the account yet"], 3, "it has just been started"),
    ],
)
async def test_the_exit_code_says_whether_all_is_fine(
    server: Server,
    view: MemoryView,
    tmp_path: Path,
    level: Level,
    health: float | None,
    incidents: list[Level],
    missing: list[str],
    code: int,
    why: str,
) -> None:
    view.put(figures("main", health, level))
    view.incident_rows = [incident(one) for one in incidents]
    view.missing_words = missing
    got, out, _ = await status(server, tmp_path)
    assert got == code, why
    assert all(f"not ready: {what}" in out for what in missing)
    got, out, _ = await status(server, tmp_path, "--json")
    assert (got, len(json.loads(out)["pools"])) == (code, 2), "the same with JSON"


async def test_nobody_answers_or_somebody_else(server: Server, tmp_path: Path) -> None:
    code, _, err = await run("status", "--url", "http://127.0.0.1:9")
    assert (code, "no daemon answers" in err, "hint: " in err) == (1, True, True)
    code, _, err = await run("status", "--url", server.url)
    assert (code, "--token-file" in err) == (1, True)
    code, _, err = await run("status", "--url", "ftp://x")
    assert code == 2
    code, _, err = await run("top", "--url", server.url)
    assert (code, "needs a terminal" in err) == (2, True)


# ------------------------------------------------------------------ the screen


async def answer(pools: list[PoolFigures], **more: Any) -> dict[str, Any]:
    """As the API gives it. more: what the view has besides."""
    view = MemoryView(pools)
    for name, rows in more.items():
        setattr(view, name, rows)
    server = Server(view, NoMetrics(), ServerSettings(port=0, version="0.1.0"))
    await server.start()
    try:
        return await asyncio.to_thread(Daemon(server.url).worst, 100)
    finally:
        await server.stop()


def drawn(said: dict[str, Any], width: int = 80, height: int = 24, **more: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    console.print(screen(said, width=width, height=height, **more))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text.rstrip("\n").split("\n")


MANY = [
    figures(f"account-{i:05}", 1.0 + i / 1000, Level.CRITICAL if i < 200 else Level.WARNING if i < 1000 else Level.OK)
    for i in range(10_000)
]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("height", [12, 24, 50])
@pytest.mark.parametrize("open_now", [0, 1, 300])
async def test_it_never_takes_more_than_the_screen(width: int, height: int, open_now: int) -> None:
    said = await answer(
        MANY,
        incident_rows=[incident(Level.CRITICAL, "x" * 300)] * open_now,
        missing_words=["something " * 20] * 30,
        stream_rows=[StreamStatus(venue="v", account="", stream="s", first_data=True, down_reason="y" * 100)] * 30,
    )
    lines = drawn(said, width, height, banner="no daemon answers")
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert any("account-00000" in line for line in lines), "the worst is there, whatever else there is"
    assert not open_now or any("20261122T053424-7KQMZ" in line for line in lines), "and what is open"
    assert lines[0].strip().startswith("no daemon answers")


async def test_of_ten_thousand_pools_the_worst_are_printed(server: Server, view: MemoryView, tmp_path: Path) -> None:
    view.figures = {one.key: one for one in MANY}
    code, out, _ = await status(server, tmp_path)
    lines = out.splitlines()
    assert (code, lines[2].split()[1]) == (3, "account-00000")
    assert "and 9,800 more, none of them worse" in lines
    code, out, _ = await status(server, tmp_path, "--json")
    assert (code, len(json.loads(out)["pools"])) == (3, 10_000), "a program gets all of them"


async def test_80_columns_show_all_figures() -> None:
    row = next(line for line in drawn(await answer([figures("main", 0.983, Level.LIQUIDATION)])) if "LIQUIDATION" in line)
    assert row.split() == ["LIQUIDATION", "main", "USD", "0.983", "101.7%", "983.00", "USD", "1,000.00", "–", "1.5s"]


async def test_unknown_comes_beside_critical_and_is_never_green() -> None:
    pools = [
        figures("ok", 9.0, Level.OK),
        figures("gone", None, Level.UNKNOWN),
        figures("worse", 1.05, Level.EMERGENCY),
        figures("bad", 1.15, Level.CRITICAL),
        figures("empty", None, Level.OK, equity=5.0),
    ]
    said = await answer(pools)
    assert [pool["account"] for pool in said["pools"]] == ["worse", "bad", "gone", "ok", "empty"]
    assert "green" not in STYLES[Level.UNKNOWN]
    assert alarming(said)


async def test_old_figures_say_how_old() -> None:
    lines = drawn(await answer([figures("main", 5.0, Level.OK)]), banner="gone", silent_s=61.0)
    assert any(line.rstrip().endswith("62s") for line in lines)


async def test_hostile_names_move_no_cursor() -> None:
    incidents = [incident(Level.CRITICAL, ESCAPE)]
    said = await answer([figures(ESCAPE, 1.1, Level.CRITICAL)], incident_rows=incidents, missing_words=[ESCAPE])
    text = "\n".join(drawn(said, 120))
    assert "\x1b" not in text
    assert text.count("[red]") == 3, "markup is text: of the pool, of what is missing, of the incident"


async def test_a_name_of_any_length_keeps_the_figures() -> None:
    long = msgspec.structs.replace(figures("a" * 32, 1.234, Level.WARNING), key=PoolKey("binance_usdm", "a" * 32, "BTCUSDT:LONG"))
    assert any("1.234" in line and "81.0%" in line for line in drawn(await answer([long])))
