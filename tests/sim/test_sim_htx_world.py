"""The HTX account in the common world: scenarios, liquidation, orders, determinism, and a server without HTX."""

from __future__ import annotations

from decimal import Decimal

import pytest
from sim_htx_client import books, htx_reader

from monitor.sim import SimExchange, SimHtxAccount, SimHtxPosition
from monitor.sim.htx.margin import figures
from monitor.sim.refused import RefusedError

START_MS = 1_750_006_800_000
D = Decimal


@pytest.mark.parametrize("seed", [1, 7, 99])
async def test_crash_brings_it_into_trouble_a_little_later_than_the_binance_account(seed: int) -> None:
    sim = SimExchange("crash", seed, frozen=True, start_ms=START_MS)
    paths: dict[str, list[float]] = {"BTC": [], "ETH": [], "binance": []}
    for _ in range(130):
        venues = sim.ledger()["venues"]
        coins = venues["htx_coin_futures"]["accounts"]["main"]["coins"]
        for coin in ("BTC", "ETH"):
            paths[coin].append(coins[coin]["health"])
        paths["binance"].append(venues["binance_usdm"]["accounts"]["main"]["pools"]["USD"]["health"])
        await sim.step()

    def first(name: str, limit: float) -> int:
        return next(tick for tick, health in enumerate(paths[name]) if health <= limit)

    btc = [first("BTC", limit) for limit in (2.0, 1.5, 1.2)]
    assert 25 <= btc[0] < btc[1] < btc[2] <= 45
    assert all(ours >= first("binance", limit) for ours, limit in zip(btc, (2.0, 1.5, 1.2), strict=True))
    assert first("ETH", 1.5) <= 45
    assert 4 < paths["BTC"][0] < 6
    assert 1.0 < min(paths["BTC"]) < 1.15, "short of liquidation"
    assert min(paths["ETH"]) > 1.2, "the two coins do not share their fate"
    assert paths["BTC"][-1] > 2.5


async def test_the_same_seed_gives_the_same_books_and_binance_does_not_notice() -> None:
    async def run(seed: int, served: bool = True) -> dict[str, object]:
        sim = SimExchange("crash", seed, frozen=True, start_ms=START_MS, htx_accounts=None if served else ())
        await sim.step(15)
        if served:
            sim.htx_control.order("BTC_CQ", "sell", "open", 70)
        await sim.step(15)
        return dict(sim.ledger()["venues"])

    first, again, other, without = await run(5), await run(5), await run(6), await run(5, served=False)
    assert first == again
    assert first["htx_coin_futures"] != other["htx_coin_futures"]
    assert set(without) == {"binance_usdm"}
    assert without["binance_usdm"] == first["binance_usdm"]


async def test_without_accounts_there_is_no_venue() -> None:
    async with SimExchange(htx_accounts=(), frozen=True) as sim:
        assert set(sim.first_line()["venues"]) == {"binance_usdm"}
        with pytest.raises(RuntimeError, match="htx_accounts"):
            _ = sim.htx
        await sim.step()


async def test_the_first_line_names_both_venues_and_keys_come_from_the_seed() -> None:
    async with SimExchange(frozen=True) as sim:
        venues = sim.first_line()["venues"]
        assert set(venues) == {"binance_usdm", "htx_coin_futures"}
        htx = venues["htx_coin_futures"]
        assert set(htx) == {"rest", "streams", "api_key", "api_secret"}
        assert htx["rest"] != venues["binance_usdm"]["rest"], "a port of its own: both have a path /ws"
    again, other = SimExchange(frozen=True).htx.account(), SimExchange(seed=8, frozen=True).htx.account()
    assert (again.api_key, again.api_secret) == (htx["api_key"], htx["api_secret"])
    assert other.api_key != htx["api_key"]
    assert htx["api_secret"] not in repr(again)


@pytest.mark.parametrize(
    ("account", "error"),
    [
        (SimHtxAccount("a", coins={"XYZ": 1}), RefusedError),
        (SimHtxAccount("a", leverages={"BTC": 7}), ValueError),
        (SimHtxAccount("a", positions=[SimHtxPosition("BTC_XX", "buy", 1)]), RefusedError),
        (SimHtxAccount("a", positions=[SimHtxPosition("BTC_CQ", "long", 1)]), ValueError),
        (SimHtxAccount("a", positions=[SimHtxPosition("BTC_CQ", "buy", 0)]), ValueError),
    ],
)
def test_an_impossible_account(account: SimHtxAccount, error: type[Exception]) -> None:
    with pytest.raises(error):
        SimExchange(frozen=True, htx_accounts=[account])


RISKY = SimHtxAccount(
    "mixed",
    coins={"BTC": "0.06", "ETH": "10"},
    leverages={"BTC": 20, "ETH": 20},
    positions=(SimHtxPosition("BTC_CQ", "buy", 1000, "97000"), SimHtxPosition("ETH_CQ", "buy", 10)),
)


def risky() -> SimExchange:
    return SimExchange(htx_accounts=[RISKY], frozen=True, start_ms=START_MS, noise=0.0)


async def test_liquidation_needs_both_the_last_trade_and_the_mark_price() -> None:
    sim = risky()
    book = books(sim)["BTC"]
    price = D(book["liquidation_price"])
    above, below = str(price + 5), str(price - 5)
    for last, mark, alive in ((above, above, True), (below, above, True), (above, below, True), (below, below, False)):
        sim.htx_control.price("BTC_CQ", last, mark)
        assert bool(books(sim)["BTC"]["positions"]) == alive, (last, mark)
    after = books(sim)["BTC"]
    assert after["health"] is None
    assert after["guarantee_asset_ratio"] is None
    assert 0 <= D(after["equity"]) < D(book["equity"])
    assert after["equity"] == after["balance"] if after["profit_real"] == "0" else D(after["profit_real"]) < 0
    assert books(sim)["ETH"]["positions"], "another coin is another account"


async def test_orders_go_first_and_may_be_enough() -> None:
    sim = risky()
    control = sim.htx_control
    control.transfer("BTC", "0.02")
    order = control.order("BTC_CQ", "buy", "open", 4000, "50000")
    purse = sim.htx.account().purses["BTC"]
    assert D(books(sim)["BTC"]["frozen_margin"]) == D("0.4")
    price = 97_000
    while order in purse.orders:
        price -= 10
        control.price("BTC_CQ", price)
    after = books(sim)["BTC"]
    assert price > 80_000
    assert after["frozen_margin"] == "0"
    assert after["positions"], "the margin of the order was what was missing"


async def test_what_the_purse_cannot_pay_the_fund_does_and_the_public_is_told() -> None:
    async with risky() as sim, htx_reader(sim, "/notification") as reader:
        await reader.op("sub", "public.btc.liquidation_orders")
        await reader.auth()
        for topic in ("accounts.btc", "positions.btc", "orders.btc"):
            await reader.op("sub", topic)
        await reader.messages(2)
        sim.htx_control.price("BTC_CQ", "80000")
        assert books(sim)["BTC"]["equity"] == "0"
        account, position, order, public = await reader.messages(4)
        assert account["event"] == position["event"] == "order.liquidation"
        assert account["data"][0]["margin_balance"] == 0
        assert [row["volume"] for row in position["data"]] == [0]
        assert (order["liquidation_type"], order["direction"], order["offset"]) == ("1", "sell", "close")
        assert (public["topic"], public["data"][0]["volume"]) == ("public.BTC.liquidation_orders", 1000)


async def test_orders_rest_fill_and_close() -> None:
    sim = risky()
    control, account = sim.htx_control, sim.htx.account()
    purse = account.purses["LTC"]
    control.transfer("LTC", 50)
    resting = control.order("LTC_CQ", "sell", "open", 20, "110")
    control.price("LTC_CQ", "109.999")
    assert resting in purse.orders
    control.price("LTC_CQ", "110")
    assert not purse.orders
    (leg,) = purse.legs.values()
    assert (leg.direction, leg.volume, leg.cost_open) == ("sell", 20, D(110))
    assert purse.fees == -D("0.000363636363636363"), "20 × 10 USD / 110 × 0.02 %, cut"
    control.price("LTC_CQ", "100")
    control.order("LTC_CQ", "sell", "open", 20)
    assert leg.cost_open == D("104.761904761904761904"), "harmonic: 40 / (20/110 + 20/100), cut"
    with pytest.raises(RefusedError, match="1048"):
        control.order("LTC_CQ", "buy", "close", 41)
    with pytest.raises(RefusedError, match="1048"):
        control.order("LTC_CQ", "sell", "close", 1)
    closing = control.order("LTC_CQ", "buy", "close", 30, "90")
    with pytest.raises(RefusedError, match="1048"):
        control.order("LTC_CQ", "buy", "close", 11)
    with pytest.raises(RefusedError, match="1045"):
        control.leverage("LTC", 10)
    control.cancel(closing)
    before = purse.offset_profit
    control.order("LTC_CQ", "buy", "close", 40)
    assert purse.offset_profit - before == pytest.approx(400 * (1 / D(100) - 1 / leg.cost_hold), abs=D("1E-15"))
    assert not purse.legs
    with pytest.raises(RefusedError, match="1061"):
        control.cancel(closing)


async def test_equity_moves_by_fees_alone_when_nothing_else_does() -> None:
    sim = SimExchange(frozen=True, start_ms=START_MS, noise=0.0)
    purse, coin = sim.htx.account().purses["BTC"], sim.htx.market.coins["BTC"]
    before = figures(purse, coin).equity
    sim.htx_control.order("BTC_NQ", "buy", "open", 321)
    sim.htx_control.order("BTC_CW", "sell", "close", 777)
    assert figures(purse, coin).equity - purse.fees == pytest.approx(before, abs=D("1E-14"))


async def test_left_alone_it_runs_by_itself_through_a_settlement() -> None:
    """Fifty simulated seconds per real one, from ten seconds before 08:00 UTC on a Friday."""
    start_ms = 1_749_801_590_000
    async with (
        SimExchange(tick_seconds=0.02, start_ms=start_ms) as sim,
        htx_reader(sim, "/ws") as market,
        htx_reader(sim, "/notification") as private,
    ):
        await market.sub("market.BTC_CW.trade.detail")
        await private.auth()
        await private.op("sub", "accounts.btc")
        events = []
        while "settlement" not in events:
            events.append((await private.message())["event"])
        assert events[0] == "init"
        while (frame := await market.message())["ts"] < start_ms + 20_000:
            pass
        assert frame["ts"] >= start_ms + 20_000, "it trades again"
        assert len(market.pings) >= 2
        assert books(sim, "main")["BTC"]["profit_real"] == "0"
