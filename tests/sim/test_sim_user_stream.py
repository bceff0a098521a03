"""The user data stream: deltas, equal stamps, funding, settings, expiry, margin call and liquidation."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sim_client import Reader, Rest, reader
from websockets.exceptions import ConnectionClosed

from monitor.sim import SimAccount, SimExchange, SimPosition

HOUR_MS = 3_600_000


def books(sim: SimExchange, account: str) -> Any:
    return sim.ledger()["venues"]["binance_usdm"]["accounts"][account]


async def key_of(sim: SimExchange, session: aiohttp.ClientSession, account: str) -> str:
    key: str = (await Rest(sim, session, account).listen_key())["listenKey"]
    return key


async def read_fill(here: Reader) -> tuple[Any, Any, Any, Any]:
    """NEW, then the three frames of the fill."""
    new, lite, update, order = await here.frames(4)
    assert [new["e"], lite["e"], update["e"], order["e"]] == [
        "ORDER_TRADE_UPDATE",
        "TRADE_LITE",
        "ACCOUNT_UPDATE",
        "ORDER_TRADE_UPDATE",
    ]
    return new, lite, update, order


async def test_a_fill_is_three_frames_of_one_time_with_changed_rows_only(
    sim: SimExchange, session: aiohttp.ClientSession
) -> None:
    async with reader(sim, f"/private/ws/{await key_of(sim, session, 'multi')}") as here:
        sim.price("BTCUSDT", "100000")
        sim.order("BTCUSDT", "BUY", "0.1", account="multi")
        new, lite, update, order = await read_fill(here)
    assert (new["o"]["x"], new["o"]["X"]) == ("NEW", "NEW")
    assert lite["T"] == update["T"] == order["T"]
    assert (order["o"]["x"], order["o"]["X"], order["o"]["q"], order["o"]["L"]) == ("TRADE", "FILLED", "0.1", "100000")
    assert order["o"]["n"] == "5.00000000", "0.05 % of 10,000"
    assert update["a"]["m"] == "ORDER"
    assert update["a"]["B"] == [{"a": "USDT", "wb": "19995.00000000", "cw": "19995.00000000", "bc": "0"}]
    (row,) = update["a"]["P"]
    assert (row["s"], row["pa"], row["mt"], row["ps"], row["ma"]) == ("BTCUSDT", "0.4", "cross", "BOTH", "USDT")


async def test_the_event_has_the_documented_fields(sim: SimExchange, session: aiohttp.ClientSession, shared: Path) -> None:
    samples = json.loads((shared / "data/binance/ws_samples.json").read_text())
    async with reader(sim, f"/private/ws/{await key_of(sim, session, 'multi')}") as here:
        sim.order("BTCUSDT", "SELL", "0.1", account="multi")
        update = (await read_fill(here))[2]
    expected = samples["ACCOUNT_UPDATE"]
    assert set(expected) <= set(update)
    for part in ("B", "P"):
        assert set(expected["a"][part][0]) <= set(update["a"][part][0])
        assert all(isinstance(value, str) for value in update["a"][part][0].values())


@pytest.mark.parametrize(
    ("side", "quantity", "price", "left", "entry", "realised", "why"),
    [
        ("BUY", "0.5", "110000", "1", "100000", "0", "adding averages the entry: (0.5 × 90k + 0.5 × 110k)"),
        ("SELL", "0.2", "110000", "0.3", "90000", "4000", "reducing keeps the entry and realises 0.2 × 20k"),
        ("SELL", "0.5", "80000", "0", "0", "-5000", "closing realises all"),
        ("SELL", "0.8", "110000", "-0.3", "110000", "10000", "beyond flat the other side opens at the fill"),
    ],
)
async def test_what_a_fill_does_to_a_position(
    session: aiohttp.ClientSession, side: str, quantity: str, price: str, left: str, entry: str, realised: str, why: str
) -> None:
    start = SimAccount("a", wallets={"USDT": "100000"}, positions=[SimPosition("BTCUSDT", "0.5", "90000")])
    async with SimExchange(accounts=[start], frozen=True, noise=0.0) as sim:
        sim.price("BTCUSDT", price)
        sim.order("BTCUSDT", side, quantity)
        account = books(sim, "a")
        fee = Decimal(quantity) * Decimal(price) * Decimal("0.0005")
        assert Decimal(account["assets"]["USDT"]["wallet"]) == 100_000 + Decimal(realised) - fee, why
        position = next((p for p in account["positions"]), {"quantity": "0", "entry_price": "0"})
        assert (Decimal(position["quantity"]), Decimal(position["entry_price"])) == (Decimal(left), Decimal(entry)), why


async def test_in_hedge_mode_the_empty_both_row_comes_along(sim: SimExchange, session: aiohttp.ClientSession) -> None:
    async with reader(sim, f"/private/ws/{await key_of(sim, session, 'hedge')}") as here:
        sim.order("BTCUSDT", "BUY", "0.05", position_side="SHORT", account="hedge")
        update = (await read_fill(here))[2]
    assert [(p["ps"], p["pa"]) for p in update["a"]["P"]] == [("BOTH", "0"), ("SHORT", "-0.05")]


async def test_funding_on_a_cross_position_brings_no_position_row(sim: SimExchange, session: aiohttp.ClientSession) -> None:
    async with reader(sim, f"/private/ws/{await key_of(sim, session, 'single')}") as here:
        wallet = Decimal(books(sim, "single")["assets"]["USDT"]["wallet"])
        sim.price("BTCUSDT", "97000")
        sim.price("SOLUSDT", "190")
        sim.funding("BTCUSDT", rate="0.001", account="single")
        cross = await here.event("ACCOUNT_UPDATE")
        sim.funding("SOLUSDT", rate="0.001", account="single")
        isolated = await here.event("ACCOUNT_UPDATE")
    assert (cross["a"]["m"], cross["a"]["P"], cross["a"]["S"]) == ("FUNDING_FEE", [], "BTCUSDT")
    assert cross["a"]["B"] == [
        {"a": "USDT", "wb": f"{wallet - Decimal('48.5'):.8f}", "cw": "47951.50000000", "bc": "-48.50000000"}
    ]
    (row,) = isolated["a"]["P"]
    assert (row["s"], row["mt"], row["iw"]) == ("SOLUSDT", "isolated", "1981.00000000")
    assert isolated["a"]["B"][0]["cw"] == "47951.50000000", "an isolated position pays from its own margin"


async def test_funding_comes_by_the_clock(sim: SimExchange, session: aiohttp.ClientSession) -> None:
    next_ms = sim.binance.market.next_funding_ms(sim.now_ms())
    assert next_ms % (8 * HOUR_MS) == 0
    sim.clock(set_ms=next_ms - 1)
    async with reader(sim, f"/private/ws/{await key_of(sim, session, 'multi')}") as here:
        sim.clock(advance_ms=1)
        events = await here.frames(3)
    assert {e["a"]["S"] for e in events} == {"BTCUSDT", "ETHUSDC", "ETHBTC"}
    assert {e["a"]["m"] for e in events} == {"FUNDING_FEE"}


async def test_transfers_settings_and_modes(sim: SimExchange, session: aiohttp.ClientSession) -> None:
    rest = Rest(sim, session, "multi")
    async with reader(sim, f"/private/ws/{await key_of(sim, session, 'multi')}") as here:
        sim.transfer("BTC", "-0.04", account="multi")
        moved = await here.frame()
        assert (moved["a"]["m"], moved["a"]["P"]) == ("WITHDRAW", [])
        assert moved["a"]["B"] == [{"a": "BTC", "wb": "0.06000000", "cw": "0.06000000", "bc": "-0.04000000"}]
        sim.leverage("BTCUSDT", 7, account="multi")
        assert (await here.frame())["ac"] == {"s": "BTCUSDT", "l": 7}
        assert (await rest.get("/fapi/v1/symbolConfig", symbol="BTCUSDT"))[0]["leverage"] == 7
        sim.mode(multi_assets=False, account="multi")
        event = await here.frame()
        assert (event["e"], event["ai"]) == ("ACCOUNT_CONFIG_UPDATE", {"j": False})
        assert (await rest.get("/fapi/v1/accountConfig"))["multiAssetsMargin"] is False


async def test_resting_orders_bind_margin_and_fill_when_reached(sim: SimExchange, session: aiohttp.ClientSession) -> None:
    async with reader(sim, f"/private/ws/{await key_of(sim, session, 'empty')}") as here:
        sim.transfer("USDT", "10000", account="empty")
        sim.price("ETHUSDT", "3000")
        order_id = sim.order("ETHUSDT", "BUY", "2", price="2900", account="empty")
        await here.event("ORDER_TRADE_UPDATE")
        row = (await Rest(sim, session, "empty").get("/fapi/v3/account"))["positions"][0]
        assert (row["symbol"], row["positionAmt"], row["initialMargin"]) == ("ETHUSDT", "0", "290.00000000")
        sim.price("ETHUSDT", "2899")
        assert (await here.event("ACCOUNT_UPDATE"))["a"]["P"][0]["ep"] == "2900.00000"
        assert (await here.event("ORDER_TRADE_UPDATE"))["o"]["i"] == order_id


async def test_events_filter_and_combined_private_form(sim: SimExchange, session: aiohttp.ClientSession) -> None:
    key = await key_of(sim, session, "multi")
    async with (
        reader(sim, f"/private/ws?listenKey={key}&events=ACCOUNT_UPDATE") as filtered,
        reader(sim, f"/private/stream?listenKey={key}") as combined,
        reader(sim, f"/ws/{key}") as unrouted,
    ):
        sim.order("BTCUSDT", "SELL", "0.1", account="multi")
        assert (await filtered.frame())["e"] == "ACCOUNT_UPDATE"
        assert await filtered.is_silent()
        frames = await combined.frames(4)
        assert {f["stream"] for f in frames} == {key}
        assert [f["data"]["e"] for f in frames][1:] == ["TRADE_LITE", "ACCOUNT_UPDATE", "ORDER_TRADE_UPDATE"]
        assert await unrouted.is_silent(), "the address of old says nothing"


async def test_one_account_does_not_hear_another(sim: SimExchange, session: aiohttp.ClientSession) -> None:
    async with reader(sim, f"/private/ws/{await key_of(sim, session, 'single')}") as other:
        await key_of(sim, session, "multi")
        sim.order("BTCUSDT", "SELL", "0.1", account="multi")
        assert await other.is_silent()


# ---------------------------------------------------------------------- listen keys


async def test_an_expired_key_says_so_and_falls_silent(sim: SimExchange, session: aiohttp.ClientSession) -> None:
    key = await key_of(sim, session, "multi")
    async with reader(sim, f"/private/ws/{key}") as here:
        sim.clock(advance_ms=HOUR_MS)
        event = await here.frame()
        assert event == {"e": "listenKeyExpired", "E": sim.now_ms(), "listenKey": key}
        sim.transfer("USDT", "1", account="multi")
        assert await here.is_silent()


async def test_a_deleted_key_closes_its_sockets(sim: SimExchange, session: aiohttp.ClientSession) -> None:
    async with reader(sim, f"/private/ws/{await key_of(sim, session, 'multi')}") as here:
        await Rest(sim, session, "multi").listen_key("DELETE")
        with pytest.raises(ConnectionClosed):
            await here.frame()


async def test_expiry_on_order_comes_twice_and_with_a_text_time(sim: SimExchange, session: aiohttp.ClientSession) -> None:
    async with reader(sim, f"/private/ws/{await key_of(sim, session, 'multi')}") as here:
        sim.fault("expire_listen_keys", account="multi", copies=2, time_as_text=True)
        first, second = await here.frames(2)
    assert first == second
    assert first["E"] == str(sim.now_ms())


# ---------------------------------------------------------------------- faults


async def test_dropped_duplicated_and_reordered_events(sim: SimExchange, session: aiohttp.ClientSession) -> None:
    async with reader(sim, f"/private/ws/{await key_of(sim, session, 'empty')}") as here:

        async def wallets(count: int) -> list[str]:
            return [e["a"]["B"][0]["wb"][0] for e in await here.frames(count)]

        sim.fault("drop_user_events", count=1)
        for _ in range(2):
            sim.transfer("USDT", 1, account="empty")
        assert await wallets(1) == ["2"], "the first was dropped"
        sim.fault("duplicate_user_events", count=1)
        sim.transfer("USDT", 1, account="empty")
        assert await wallets(2) == ["3", "3"]
        sim.fault("reorder_user_events", count=3)
        for _ in range(3):
            sim.transfer("USDT", 1, account="empty")
        assert await wallets(3) == ["6", "5", "4"]
        sim.fault("reorder_user_events", count=3)
        sim.transfer("USDT", 1, account="empty")
        sim.fault("clear")
        assert await wallets(1) == ["7"], "held events go out at the end of the fault"


# ---------------------------------------------------------------------- liquidation


async def test_margin_call_then_liquidation_of_a_joint_pool(session: aiohttp.ClientSession) -> None:
    start = SimAccount(
        "joint",
        wallets={"USDT": "1000", "USDC": "1000"},
        positions=[SimPosition("BTCUSDT", "0.2", "100000"), SimPosition("ETHUSDC", "-0.5", "3000")],
    )
    async with SimExchange(accounts=[start], frozen=True, noise=0.0) as sim:
        sim.price("BTCUSDT", "100000")
        sim.price("ETHUSDC", "3000")
        resting = sim.order("ETHUSDC", "BUY", "0.1", price="1000")
        rest = Rest(sim, session)
        key = (await rest.listen_key())["listenKey"]
        async with reader(sim, f"/private/ws/{key}") as here, reader(sim, "/market/ws/!forceOrder@arr") as market:
            # Maintenance is 0.4 % of the notionals: 20,000 and 1,500 at the start, equity near 2,000 USD.
            sim.price("BTCUSDT", "90440")
            call = await here.frame()
            assert call["e"] == "MARGIN_CALL"
            assert {(p["s"], p["mt"]) for p in call["p"]} == {("BTCUSDT", "CROSSED"), ("ETHUSDC", "CROSSED")}
            sim.price("BTCUSDT", "90435")
            assert await here.is_silent(), "called once"
            sim.price("BTCUSDT", "90350")
            events = await here.frames(7)
            forced = [await market.frame(), await market.frame()]
        assert (events[0]["o"]["x"], events[0]["o"]["i"]) == ("CANCELED", resting), "open orders go first"
        assert [e["e"] for e in events[1:]] == ["TRADE_LITE", "ACCOUNT_UPDATE", "ORDER_TRADE_UPDATE"] * 2
        for event in (events[3], events[6]):
            assert event["o"]["x"] == "CALCULATED"
            assert event["o"]["c"].startswith("autoclose-")
        assert {(f["o"]["s"], f["o"]["S"]) for f in forced} == {("BTCUSDT", "SELL"), ("ETHUSDC", "BUY")}
        assert books(sim, "joint")["positions"] == []
        assert {row["clientOrderId"].split("-")[0] for row in await rest.get("/fapi/v1/forceOrders")} == {"autoclose"}


async def test_an_isolated_position_loses_its_own_margin_and_no_more(sim: SimExchange) -> None:
    before = books(sim, "single")
    cross_before = Decimal(before["assets"]["USDT"]["cross_wallet"])
    price = Decimal(next(p["liquidation_price"] for p in before["positions"] if p["symbol"] == "SOLUSDT"))
    sim.price("SOLUSDT", price + Decimal("0.01"))
    assert "SOLUSDT" in books(sim, "single")["pools"], "above its liquidation price it lives"
    sim.price("SOLUSDT", price - Decimal("5"))
    after = books(sim, "single")
    assert {p["symbol"] for p in after["positions"]} == {"BTCUSDT", "ETHUSDC"}
    assert Decimal(after["assets"]["USDT"]["cross_wallet"]) == cross_before, "the insurance fund took the rest"


async def test_a_debt_without_positions_is_exchanged_automatically(session: aiohttp.ClientSession) -> None:
    async with SimExchange(accounts=[SimAccount("a", wallets={"USDT": "0", "BTC": "1"})], frozen=True, noise=0.0) as sim:
        sim.rate("USDT", "1")
        sim.rate("BTC", "100000")
        key = (await Rest(sim, session).listen_key())["listenKey"]
        async with reader(sim, f"/private/ws/{key}") as here:
            sim.transfer("USDT", "-975")
            assert (await here.frame())["a"]["m"] == "WITHDRAW"
            event = await here.frame()
        assert event["a"]["m"] == "AUTO_EXCHANGE"
        assets = books(sim, "a")["assets"]
        assert Decimal(assets["USDT"]["wallet"]) == 0
        # 975 USDT at its ask rate 1.0001, paid with BTC at 97.5 % of 100,000.
        assert Decimal(assets["BTC"]["wallet"]) == 1 - (Decimal("975.0975") / 97_500).quantize(Decimal("1e-8"))
