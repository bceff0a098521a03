"""One pool on the page: what is unknown, what to do, and coin-margined futures beside Binance."""

from __future__ import annotations

from typing import Any

from page_kit import OpenPage
from web.conftest import Serve
from web.view_in_memory import MemoryView, a_pool, a_position, an_asset

from monitor.model.alerts import Lever
from monitor.model.figures import GuaranteeFigures, PoolFigures, PoolKey

WHY = "#pool-why li"
POSITIONS = "[...document.querySelectorAll('#positions tr')].map(row => [...row.cells].map(cell => cell.textContent))"


UNKNOWN_PARTS: list[tuple[dict[str, Any], dict[str, Any], list[str], str]] = [
    ({"bid": None, "ask": None}, {}, ["PnL unknown (", "USDT counts for unknown (9,500 at unknown)"], "no rate"),
    ({"equity": None}, {}, ["PnL unknown, 3 %", "USDT counts for unknown (unknown at unknown)"], "owned or owed?"),
    ({"equity": -1.0, "ask": None}, {}, ["PnL unknown (", "USDT counts for unknown (−1 at unknown)"], "no ask"),
    ({}, {"unrealized_pnl": None}, ["PnL unknown, 3 %", "USDT counts for 9,497.15 USD"], "no profit known"),
    ({}, {"maintenance_margin": None}, ["−499.85 USD (", "USDT counts for 9,497.15 USD"], "no requirement known"),
    ({}, {"margin_asset": "FDUSD"}, ["PnL unknown (", "USDT counts for 9,497.15 USD"], "an asset that the pool has not"),
    ({"equity": 0.0, "bid": None}, {}, ["PnL unknown, 3 %"], "nothing of it counts for nothing"),
]


async def test_a_product_with_something_unknown_is_unknown(serve: Serve, open_page: OpenPage) -> None:
    """null × n is 0 in JavaScript: an unknown rate must not read as a loss of 0.00."""
    pools = [
        a_pool(f"p{i}", assets=(an_asset(**asset),), positions=(a_position(**position),))
        for i, (asset, position, _, _) in enumerate(UNKNOWN_PARTS)
    ]
    server = await serve(MemoryView(pools))
    tab = await open_page(server.url)
    for i, (_, _, lines, why) in enumerate(UNKNOWN_PARTS):
        await tab.value(f"location.hash = '#binance/p{i}/USD'")
        await tab.until(
            f"document.getElementById('pool-title').textContent.startsWith('p{i} ')"
            " && document.getElementById('positions').rows.length === 2"
        )
        found = [line.replace("\u00a0", " ").removeprefix("BTCUSDT long: ") for line in await tab.texts(WHY)]
        assert len(found) == len(lines), (why, found)
        for line, start in zip(found, lines, strict=True):
            assert line.startswith(start), why
        assert "0.00 USD" not in "".join(found), why


OTHER_RULE = "Nothing for health: another rule raised the level, see the open incidents."
NO_LEVERS: list[tuple[dict[str, Any], str]] = [
    ({"level": 0, "health": 3.0}, "Nothing: all limits are kept."),
    ({"level": 4, "health": 1.1}, "No single deposit or closing brings it back: see why."),
    ({"level": 3, "health": 3.0}, OTHER_RULE),
    ({"level": 2, "health": None, "margin_ratio": 0.0}, OTHER_RULE),
    ({"level": -1, "health": None}, "Nothing can be worked out from what is known: see below why."),
]


async def test_no_lever_is_said_for_what_it_is(serve: Serve, open_page: OpenPage) -> None:
    server = await serve(MemoryView([a_pool(f"p{i}", **fields) for i, (fields, _) in enumerate(NO_LEVERS)]))
    tab = await open_page(server.url)
    for i, (_, says) in enumerate(NO_LEVERS):
        await tab.value(f"location.hash = '#binance/p{i}/USD'")
        await tab.until(
            f"document.getElementById('pool-title').textContent.startsWith('p{i} ')"
            " && document.getElementById('pool-levers').children.length > 0"
        )
        assert await tab.texts("#pool-levers li") == [says]


def a_coin_pool() -> PoolFigures:
    """0.5 BTC against 12 long and 4 short contracts of 100 USD."""
    guarantee = GuaranteeFigures(
        unrealized_pnl=-0.01,
        used_margin=0.4,
        margin_frozen=0.0,
        locked_same=0.02,
        locked_cross=0.0,
        net_position=8.0,
        adjustment_factor=0.05,
        price_factor_to_liquidation=0.9625,
        guarantee_asset_ratio_at_mark=0.031,
        venue={},
    )
    leg: dict[str, Any] = {
        "margin_asset": "BTC",
        "maintenance_margin": None,
        "maintenance_rate": None,
        "bracket": None,
        "entry_price": 61_500.0,
        "leverage": 20.0,
    }
    return a_pool(
        "htx",
        "BTC",
        "htx_coin_futures",
        unit="BTC",
        equity=0.5,
        requirement=0.42,
        initial_margin=0.42,
        margin_ratio=0.84,
        health=1.19,
        guarantee_asset_ratio=0.0324,
        available=0.08,
        withdrawable=0.07,
        level=4,
        guarantee=guarantee,
        assets=(an_asset("BTC", wallet=0.51, equity=0.5, index=1.0, bid=1.0, ask=1.0, maintenance_margin=None),),
        positions=(
            a_position("BTC251226", 12.0, side="LONG", unrealized_pnl=-0.02, notional=0.02, initial_margin=0.3, **leg),
            a_position("BTC251010", -4.0, side="SHORT", unrealized_pnl=0.01, notional=-0.0067, initial_margin=0.1, **leg),
        ),
    )


async def test_coin_margined_futures_beside_binance(serve: Serve, open_page: OpenPage) -> None:
    """HTX has contracts, a guarantee-asset ratio and a margin before locking, but no brackets."""
    htx = a_coin_pool()
    view = MemoryView([htx, a_pool("main", positions=(a_position(),), assets=(an_asset(),))])
    view.lever_rows[htx.key] = [Lever("send", 0.0312, "BTC", 1.56), Lever("close", 3.0, "BTC251226", 1.56)]
    view.lever_rows[PoolKey("binance", "main", "USD")] = [Lever("close", 0.25, "BTCUSDT", 1.56)]
    server = await serve(view)
    tab = await open_page(server.url + "#htx_coin_futures/htx/BTC")
    await tab.until("document.getElementById('positions').rows.length === 3")
    figures = " ".join(await tab.texts("#pool-figures div")).replace("\u00a0", " ")
    assert "Guarantee-asset ratio\n3.24 %\n↓ lower is worse, 0 % liquidates" in figures
    assert await tab.texts("#pool-levers li") == [
        "Send 0.0312 BTC: health is 1.56 again",
        "or close 3 contracts of BTC251226",
    ]
    header, *legs = await tab.value(POSITIONS)
    assert header == [
        *("Contract", "Side", "Contracts", "Last price", "Liquidates at", "Distance", "PnL", "Notional"),
        *("Margin before locking", "Held at", "Age of price"),
    ]
    long, short = ([cell.replace("\u00a0", " ") for cell in leg] for leg in legs)
    assert long == [
        *("BTC25122620×", "long", "12", "60,000", "54,000", "−10.0 %", "−0.02BTC", "0.02BTC", "0.3BTC", "61,500", "0.8 s")
    ]
    assert short[:3] == ["BTC25101020×", "short", "−4"]
    why = [line.replace("\u00a0", " ") for line in await tab.texts(WHY)]
    assert why == [
        "BTC251226 long: −0.02 BTC, 75 % of the margin",
        "BTC251010 short: +0.01 BTC, 25 % of the margin",
        "BTC counts for 0.5 BTC, 100 % of the equity",
    ]
    facts = " ".join(await tab.texts("#pool-facts div")).replace("\u00a0", " ")
    for fact in (
        "at mark prices\n3.10 %",
        "Adjustment factor\n5.00 %",
        "Locked in one contract\n0.02",
        "All prices × this liquidate\n0.9625",
    ):
        assert fact in facts, fact

    await tab.page.get_by_role("link", name="main · USD").click()
    await tab.until("document.getElementById('pool-title').textContent.startsWith('main')")
    await tab.until("document.getElementById('positions').rows.length === 2")
    header, leg = await tab.value(POSITIONS)
    assert header[-6:] == ["Notional", "Maintenance", "Rate", "Bracket", "Entry", "Age of price"]
    assert leg[0] == "BTCUSDT10×"
    assert await tab.texts("#pool-levers li") == ["Close 0.25 of BTCUSDT: health is 1.56 again"]
    assert "Guarantee-asset ratio" not in " ".join(await tab.texts("#pool-figures div"))
    cells = await tab.value(
        "[...document.querySelectorAll('#pools tr.pool')].map(row => [row.cells[1].textContent, row.cells[5].textContent])"
    )
    assert cells == [["htx · BTChtx_coin_futures", "0.5BTC"], ["main · USDbinance", "12,000.00USD"]], "each in its own unit"
    assert tab.complaints == []
