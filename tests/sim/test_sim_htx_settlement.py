"""The calendar, daily settlement, weekly delivery and the roll: what pauses, what is booked, what is told."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sim_htx_client import HtxReader, HtxRest, books, htx_reader

from monitor.sim import SimExchange, SimHtxAccount, SimHtxPosition
from monitor.sim.htx import dates
from monitor.sim.refused import RefusedError

SECOND_MS = 1000
INFO = "/api/v1/contract_account_info"
POSITIONS = "/api/v1/contract_position_info"


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("as_of", "codes", "why"),
    [
        ("2021-07-22T22:55", "BTC210723 BTC210730 BTC210924 BTC211231", "as recorded on that day (three periods of it)"),
        ("2021-03-12T07:59", "BTC210312 BTC210319 BTC210326 BTC210625", "before the roll of the third-last Friday"),
        ("2021-03-12T08:00", "BTC210319 BTC210326 BTC210625 BTC210924", "after it: BTC210924 is new, as announced"),
        ("2021-03-26T08:00", "BTC210402 BTC210409 BTC210625 BTC210924", "the quarterly one is delivered"),
        ("2023-12-31T00:00", "BTC240105 BTC240112 BTC240329 BTC240628", "over the end of a year"),
    ],
)
def test_what_is_listed_when(as_of: str, codes: str, why: str) -> None:
    listed = dates.listing(at(as_of), dates.PERIODS_WITH_NEXT_QUARTER)
    assert [dates.contract_code("BTC", delivery) for delivery in listed.values()] == codes.split(), why
    three = dates.listing(at(as_of), dates.PERIODS)
    assert list(three.items()) == list(listed.items())[:3], "coins without a fourth period have the same first three"


@pytest.mark.parametrize(
    ("delivery", "periods", "created"),
    [
        ("2021-07-23T08:00", dates.PERIODS_WITH_NEXT_QUARTER, "20210709"),
        ("2021-07-30T08:00", dates.PERIODS, "20210716"),
        ("2021-09-24T08:00", dates.PERIODS_WITH_NEXT_QUARTER, "20210312"),
        ("2021-09-24T08:00", dates.PERIODS, "20210611"),
    ],
)
def test_when_a_contract_was_first_listed(delivery: str, periods: tuple[str, ...], created: str) -> None:
    assert dates.yyyymmdd(dates.created_ms(at(delivery), periods)) == created


LONG_AND_SHORT = SimHtxAccount(
    "mixed",
    coins={"BTC": "2", "LTC": "3"},
    realised={"BTC": "0.1"},
    leverages={"BTC": 10},
    positions=(
        SimHtxPosition("BTC_CW", "buy", 500, "90000"),
        SimHtxPosition("BTC_CW", "sell", 100, "99000"),
        SimHtxPosition("BTC_CQ", "sell", 800, "97000"),
    ),
)


async def exchange_at(text: str) -> SimExchange:
    return SimExchange(seed=3, frozen=True, start_ms=at(text), noise=0.0, htx_accounts=[LONG_AND_SHORT])


def statuses(sim: SimExchange, coin: str = "BTC") -> list[int]:
    return [int(contract.status) for contract in sim.htx.market.coins[coin].contracts]


async def test_a_day_is_settled_coin_by_coin_and_equity_is_continuous() -> None:
    sim = await exchange_at("2025-06-17T07:59:58")
    before = books(sim)["BTC"]
    await sim.step(2)
    assert statuses(sim) == [5, 5, 5, 5], "08:00:00: in settlement, nothing is delivered on a Tuesday"
    trades = [contract.trades for contract in sim.htx.market.coins["BTC"].contracts]
    await sim.step(5)
    assert [statuses(sim, coin)[0] for coin in ("BTC", "LTC")] == [5, 7], "coins finish separately"
    assert [contract.trades for contract in sim.htx.market.coins["BTC"].contracts] == trades, "nobody trades meanwhile"
    await sim.step(3)
    assert statuses(sim) == [7, 7, 7, 7]
    await sim.step(2)
    assert statuses(sim) == [1, 1, 1, 1]
    after = books(sim)["BTC"]
    assert Decimal(before["profit_real"]) == Decimal("0.1")
    assert after["profit_real"] == "0"
    assert Decimal(after["equity"]) == pytest.approx(Decimal(before["equity"]), abs=Decimal("1E-15"))
    assert after["balance"] == after["margin_static"], "what was made is balance now"
    assert [row["cost_open"] for row in after["positions"]] == [row["cost_open"] for row in before["positions"]]
    for row in after["positions"]:
        settled = sim.htx.market.coins["BTC"].contract(row["contract_code"]).settlement_price(at("2025-06-17T08:00:08"))
        assert Decimal(row["cost_hold"]) == settled
        assert row["cost_hold"] != row["cost_open"]


async def test_the_records_add_up_as_the_venue_says() -> None:
    sim = await exchange_at("2025-06-20T07:59:00")
    sim.htx_control.order("BTC_CQ", "buy", "close", 300)
    sim.clock(advance_ms=120 * SECOND_MS)
    (record,) = sim.htx.account().purses["BTC"].settlements
    realised = record["offset_profitloss"] + record["fee"] + record["delivery_fee"] + record["clawback"]
    unrealised = sum(row["settlement_profit_unreal"] for row in record["positions"])
    assert record["fee"] < 0
    assert record["delivery_fee"] < 0
    assert record["settlement_profit_real"] == realised + unrealised
    assert record["margin_balance"] == record["margin_balance_init"] + record["settlement_profit_real"]
    assert [row["settlement_type"] for row in record["positions"]] == ["delivery", "delivery", "settlement"]
    assert record["settlement_time"] == at("2025-06-20T08:00:08")


async def test_the_settlement_price_is_the_harmonic_mean_and_the_delivery_price_the_plain_one() -> None:
    sim = await exchange_at("2025-06-17T06:00:00")
    control, coins = sim.htx_control, sim.htx.market.coins
    control.price("BTC_CQ", "50000")
    control.price("ETH", "1000")
    sim.clock(advance_ms=3_700 * SECOND_MS)  # that was more than an hour ago: forgotten
    for btc, eth in (("80000", "3000"), ("100000", "3600")):
        control.price("BTC_CQ", btc)  # each time a trade of equal size
        control.price("ETH", eth)
    settled = coins["BTC"].contract("BTC_CQ").settlement_price(sim.now_ms())
    assert settled == pytest.approx(2 / (1 / Decimal(80000) + 1 / Decimal(100000)), rel=Decimal("1E-15"))
    assert coins["ETH"].delivery_price(sim.now_ms()) == 3300


async def test_delivery_closes_the_weekly_contract_and_rolls_the_others() -> None:
    sim = await exchange_at("2025-06-13T07:59:59")  # the third-last Friday of June
    codes = [contract.code for contract in sim.htx.market.coins["BTC"].contracts]
    assert codes == ["BTC250613", "BTC250620", "BTC250627", "BTC250926"]
    resting = sim.htx_control.order("BTC250613", "buy", "open", 10, "50000")
    before = Decimal(books(sim)["BTC"]["equity"])
    await sim.step()
    assert statuses(sim) == [6, 5, 5, 5], "one is delivered, the others settle"
    await sim.step(8)
    assert statuses(sim) == [8, 7, 7, 7]
    await sim.step(2)
    contracts = {contract.code: contract.period for contract in sim.htx.market.coins["BTC"].contracts}
    assert contracts == {
        "BTC250620": "this_week",
        "BTC250627": "next_week",
        "BTC250926": "quarter",
        "BTC251226": "next_quarter",
    }, "on this day the quarterly contract becomes the bi-weekly one"
    coin = books(sim)["BTC"]
    assert [row["contract_code"] for row in coin["positions"]] == ["BTC250627"]
    record = sim.htx.account().purses["BTC"].settlements[0]
    # Equity moves by the fee, and by the weekly contract's distance from the mean of the index.
    delivered = sum(
        (100 * row["volume"] / row["settlement_price"]) * (1 if row["direction"] == "buy" else -1)
        for row in record["positions"]
        if row["settlement_type"] == "delivery"
    )
    assert abs(Decimal(coin["equity"]) - before - record["delivery_fee"]) < abs(delivered) / 1000
    assert resting not in sim.htx.account().purses["BTC"].orders
    with pytest.raises(RefusedError, match="1014"):
        sim.htx_control.order("BTC250613", "buy", "open", 1)


async def test_a_jump_of_two_weeks_settles_every_day_in_between() -> None:
    sim = await exchange_at("2025-06-10T12:00:00")
    sim.clock(advance_ms=14 * dates.DAY_MS)
    settled = [record["settlement_time"] for record in sim.htx.account().purses["BTC"].settlements]
    assert settled == [at(f"2025-06-{day}T08:00:08") for day in range(24, 10, -1)]
    assert [c.code for c in sim.htx.market.coins["ETH"].contracts] == ["ETH250627", "ETH250704", "ETH250926", "ETH251226"]
    assert [c.code for c in sim.htx.market.coins["ADA"].contracts] == ["ADA250627", "ADA250704", "ADA250926"]


async def test_delivery_ahead_of_time_does_not_come_back() -> None:
    sim = await exchange_at("2025-06-16T12:00:00")
    sim.htx_control.delivery("BTC", 1)
    assert statuses(sim) == [6, 5, 5, 5]
    with pytest.raises(ValueError, match="already"):
        sim.htx_control.settlement("BTC")
    await sim.step(3)
    rolled = ["BTC250627", "BTC250704", "BTC250926", "BTC251226"]
    assert [c.code for c in sim.htx.market.coins["BTC"].contracts] == rolled
    sim.clock(advance_ms=dates.DAY_MS)
    assert [c.code for c in sim.htx.market.coins["BTC"].contracts] == rolled
    assert sim.htx.market.coins["ETH"].contracts[0].code == "ETH250620", "other coins are as they were"


async def op_reader(reader: HtxReader, *topics: str) -> HtxReader:
    await reader.auth()
    for topic in topics:
        assert (await reader.op("sub", topic))["err-code"] == 0
    return reader


async def test_pushes_and_refusals_during_a_settlement(htx_sim: SimExchange, htx_rest: HtxRest) -> None:
    sim, rest = htx_sim, htx_rest
    async with htx_reader(sim, "/notification") as reader:
        await op_reader(reader, "public.btc.contract_info", "accounts.btc", "positions.btc")
        first = await reader.messages(3)
        assert [m["event"] for m in first] == ["init", "init", "init"]
        sim.htx_control.settlement("BTC", 4)
        refusals = [
            ((INFO, {"symbol": "BTC"}), 1077),
            ((INFO, {}), 1078),
            ((POSITIONS, {"symbol": "btc"}), 1079),
            ((POSITIONS, {}), 1080),
            (("/api/v1/contract_account_position_info", {"symbol": "BTC"}), 1077),
        ]
        for (path, body), code in refusals:
            assert (await rest.post(path, **body))["err_code"] == code, (path, body)
        assert (await rest.post(INFO, symbol="ETH"))["status"] == "ok", "another coin is not concerned"
        for call, code in (
            (lambda: sim.htx_control.order("BTC_CQ", "buy", "open", 1), 1056),
            (lambda: sim.htx_control.transfer("BTC", 1), 1106),
        ):
            with pytest.raises(RefusedError) as refused:
                call()
            assert refused.value.code == code
        await sim.step(6)
        told: list[Any] = await reader.messages(5)
        assert [(m["topic"].split(".")[-1], m["event"]) for m in told] == [
            ("contract_info", "update"),
            ("btc", "settlement"),
            ("btc", "settlement"),
            ("contract_info", "update"),
            ("contract_info", "update"),
        ]
        assert [{row["contract_status"] for row in told[i]["data"]} for i in (0, 3, 4)] == [{5}, {7}, {1}]
        (account,) = told[1]["data"]
        assert account["profit_real"] == 0
        assert account["margin_balance"] == Decimal(books(sim)["BTC"]["equity"])
        assert len(told[2]["data"]) == 3, "a settlement touches every leg"
        assert (await rest.post(INFO))["status"] == "ok"


async def test_a_delivered_leg_is_pushed_with_volume_zero(htx_sim: SimExchange) -> None:
    async with htx_reader(htx_sim, "/notification") as reader:
        await op_reader(reader, "positions.btc")
        await reader.message()
        htx_sim.htx_control.delivery("BTC", 0)
        push = await reader.message()
        assert [(row["contract_type"], row["volume"] > 0) for row in push["data"]] == [
            ("delivered", False),
            ("delivered", False),
            ("quarter", True),
        ]


async def test_estimates_are_told_in_the_last_hour_only(htx_sim: SimExchange, htx_rest: HtxRest) -> None:
    path = "/api/v1/contract_estimated_settlement_price"
    prices = [r["estimated_settlement_price"] for r in (await htx_rest.get(path, symbol="BTC"))["data"][0]["list"]]
    assert prices == [None] * 4
    htx_sim.clock(set_ms=at("2025-06-20T07:30:00"))
    await htx_sim.step()
    (coin,) = (await htx_rest.get(path, symbol="BTC"))["data"]
    assert [row["settlement_type"] for row in coin["list"]] == ["delivery", "settlement", "settlement", "settlement"]
    assert coin["list"][0]["estimated_settlement_price"] == htx_sim.htx.market.coins["BTC"].index
    assert coin["list"][1]["estimated_settlement_price"] == pytest.approx(htx_sim.htx.market.coins["BTC"].contracts[1].last)
