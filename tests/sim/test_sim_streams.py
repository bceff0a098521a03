"""Market streams: routes, forms, control messages, limits, and what each frame says."""

from __future__ import annotations

import contextlib
import json
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
from sim_client import Rest, reader, until
from websockets.exceptions import ConnectionClosed, InvalidStatus

from monitor.sim import SimExchange

ALL_MARKS = "!markPrice@arr@1s"


def _is_no_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize(
    ("path", "stream", "speaks", "why"),
    [
        ("/market/ws", ALL_MARKS, True, "mark prices are at home on /market"),
        ("/market/stream", ALL_MARKS, True, "in the combined form too"),
        ("/market/ws", "!assetIndex@arr", True, "so is the asset index"),
        ("/market/ws", "btcusdt@markPrice@1s", True, "one symbol"),
        ("/market/ws", "btcusd@assetIndex", True, "one asset"),
        ("/public/ws", "btcusdt@bookTicker", True, "best prices are at home on /public"),
        ("/public/ws", ALL_MARKS, False, "mark prices are not on /public"),
        ("/private/ws", ALL_MARKS, False, "nor on /private"),
        ("/market/ws", "btcusdt@bookTicker", False, "best prices are not on /market"),
        ("/ws", ALL_MARKS, False, "the un-routed address is silent"),
        ("/stream", ALL_MARKS, False, "in both forms"),
        ("/market/ws", "nosuch@markPrice@1s", False, "an unknown symbol is acknowledged too"),
        ("/market/ws", "BTCUSDT@markPrice@1s", False, "stream names are lower case"),
    ],
)
async def test_a_stream_speaks_on_its_own_route_only(sim: SimExchange, path: str, stream: str, speaks: bool, why: str) -> None:
    async with reader(sim, path) as here, reader(sim, f"/market/ws/{ALL_MARKS}") as control:
        await here.subscribe(stream)
        await sim.step(2)
        assert len(await control.frames(2)) == 2, "the exchange itself is alive"
        if speaks:
            await here.frames(2)
        else:
            assert await here.is_silent(), why


async def test_raw_and_combined_forms_carry_the_same_frame(sim: SimExchange) -> None:
    async with (
        reader(sim, "/market/ws/btcusdt@markPrice@1s") as raw,
        reader(sim, "/market/stream?streams=btcusdt@markPrice@1s/!contractInfo") as combined,
    ):
        await sim.step()
        frame = await raw.frame()
        assert await combined.frame() == {"stream": "btcusdt@markPrice@1s", "data": frame}
        assert (await raw.ask("SET_PROPERTY", ["combined", True]))["result"] is None
        await sim.step()
        assert (await raw.frame())["stream"] == "btcusdt@markPrice@1s"


async def test_control_messages(sim: SimExchange) -> None:
    async with reader(sim, "/market/ws") as here:
        assert await here.ask("SUBSCRIBE", ["!contractInfo", ALL_MARKS]) == {"result": None, "id": 1}
        assert (await here.ask("LIST_SUBSCRIPTIONS"))["result"] == ["!contractInfo", ALL_MARKS]
        assert (await here.ask("UNSUBSCRIBE", [ALL_MARKS]))["result"] is None
        assert (await here.ask("LIST_SUBSCRIPTIONS"))["result"] == ["!contractInfo"]
        assert (await here.ask("GET_PROPERTY", ["combined"]))["result"] is False
        assert (await here.ask("SHOUT"))["error"]["code"] == 2
        assert (await here.ask("SUBSCRIBE", [1]))["error"]["code"] == 2
        assert (await here.ask("SET_PROPERTY", ["colour", True]))["error"]["code"] == 0
        await here.socket.send("{")
        assert (await here.frame())["error"]["code"] == 3
        await sim.step()
        assert await here.is_silent(), "unsubscribed means silent"


async def test_more_than_ten_messages_a_second_end_the_connection(sim: SimExchange) -> None:
    async with reader(sim, "/market/ws") as here:

        async def send(count: int) -> None:
            for number in range(count):
                await here.socket.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))

        await send(10)
        assert [f["id"] for f in await here.frames(10)] == list(range(10)), "ten are answered"
        with contextlib.suppress(ConnectionClosed):
            await send(15)
        with pytest.raises(ConnectionClosed):
            await here.frames(15)
        assert here.socket.close_code == 1008


async def test_a_connection_lives_24_hours(sim: SimExchange) -> None:
    async with reader(sim, f"/market/ws/{ALL_MARKS}") as here:
        sim.clock(advance_ms=24 * 3_600_000 - 2_000)
        await sim.step()
        assert await here.frame()
        await sim.step()
        with pytest.raises(ConnectionClosed):
            await here.frames(5)
        assert here.socket.close_code == 1001


async def test_the_exchange_pings_every_three_minutes_and_hears_the_pong(sim: SimExchange) -> None:
    async with reader(sim, "/market/ws") as here:
        (connection,) = sim.binance.hub.connections
        for minute in (3, 6):
            sim.clock(advance_ms=180_000)
            pinged = connection.pinged_ms
            assert pinged == connection.opened_ms + minute * 60_000
            await until(lambda pinged=pinged: connection.ponged_ms >= pinged)
        assert (await here.ask("LIST_SUBSCRIPTIONS"))["result"] == []


async def test_without_at_1s_a_mark_price_comes_every_three_seconds(sim: SimExchange) -> None:
    async with reader(sim, "/market/ws") as here:
        await here.subscribe("btcusdt@markPrice", "!markPrice@arr")
        await sim.step(6)
        frames = await here.frames(4)
        assert await here.is_silent()
    singles = [f["E"] for f in frames if isinstance(f, dict)]
    arrays = [f[0]["E"] for f in frames if isinstance(f, list)]
    assert len(singles) == len(arrays) == 2
    assert singles[1] - singles[0] == arrays[1] - arrays[0] == 3000


@pytest.mark.parametrize(
    ("path", "stream", "sample"),
    [
        ("/market/ws", "btcusdt@markPrice@1s", "<symbol>@markPrice@1s [2026 field set]"),
        ("/market/ws", ALL_MARKS, "!markPrice@arr@1s"),
        ("/market/ws", "!assetIndex@arr", "!assetIndex@arr"),
        ("/public/ws", "bnbusdt@bookTicker", "<symbol>@bookTicker"),
    ],
)
async def test_frames_have_the_documented_fields_and_types(
    sim: SimExchange, shared: Path, path: str, stream: str, sample: str
) -> None:
    samples = json.loads((shared / "data/binance/ws_samples.json").read_text())
    async with reader(sim, f"{path}/{stream}") as here:
        await sim.step()
        frame = await here.frame()
    assert isinstance(frame, list) == isinstance(samples[sample], list)
    example = samples[sample][0] if isinstance(samples[sample], list) else samples[sample]
    for row in frame if isinstance(frame, list) else [frame]:
        assert set(example) <= set(row)
        assert {name: type(row[name]) for name in example} == {name: type(value) for name, value in example.items()}


async def test_frames_agree_with_rest_and_the_ledger(sim: SimExchange, rest: Rest) -> None:
    async with reader(sim, f"/market/stream?streams={ALL_MARKS}/!assetIndex@arr") as here:
        await sim.step(2)
        frames = {f["stream"]: f["data"] for f in await here.frames(4)}
    ledger = sim.ledger()["venues"]["binance_usdm"]
    marks = {row["s"]: row["p"] for row in frames[ALL_MARKS]}
    assert {symbol: Decimal(price) for symbol, price in marks.items()} == {s: Decimal(p) for s, p in ledger["marks"].items()}
    assert marks == {row["symbol"]: row["markPrice"] for row in await rest.call("GET", "/fapi/v1/premiumIndex")}
    indexes = {row["symbol"]: row for row in await rest.call("GET", "/fapi/v1/assetIndex")}
    for row in frames["!assetIndex@arr"]:
        assert (row["i"], row["B"], row["A"]) == tuple(indexes[row["s"]][key] for key in ("index", "bidRate", "askRate"))


async def test_rates_are_index_and_buffer_half_up_at_eight_places(sim: SimExchange, rest: Rest, shared: Path) -> None:
    recorded = json.loads((shared / "data/binance/asset_index_2024.json").read_text())["rows"]
    for row in recorded:
        sim.rate(row["symbol"].removesuffix("USD"), row["index"])
        answer = await rest.call("GET", "/fapi/v1/assetIndex", f"symbol={row['symbol']}")
        assert {**answer, "time": 0} == {**row, "time": 0}, "as the exchange itself computed it"
    for row in await rest.call("GET", "/fapi/v1/assetIndex"):
        for rate, buffer, sign in (("bidRate", "bidBuffer", -1), ("askRate", "askBuffer", 1)):
            exact = Decimal(row["index"]) * (1 + sign * Decimal(row[buffer]))
            assert Decimal(row[rate]) == exact.quantize(Decimal("1e-8"), rounding=ROUND_HALF_UP)


async def test_new_brackets_are_told_and_take_effect(sim: SimExchange, rest: Rest) -> None:
    async with reader(sim, "/market/ws/!contractInfo") as here:
        sim.brackets("BTCUSDT", [(10_000, "0.01", 50), (100_000, "0.05", 10), (1_000_000, "0.1", 5)])
        frame = await here.frame()
    assert (frame["e"], frame["s"], frame["cs"]) == ("contractInfo", "BTCUSDT", "TRADING")
    assert frame["bks"] == [
        {"bs": 1, "bnf": 0, "bnc": 10_000, "mmr": 0.01, "cf": 0, "mi": 11, "ma": 50},
        {"bs": 2, "bnf": 10_000, "bnc": 100_000, "mmr": 0.05, "cf": 400, "mi": 6, "ma": 10},
        {"bs": 3, "bnf": 100_000, "bnc": 1_000_000, "mmr": 0.1, "cf": 5_400, "mi": 1, "ma": 5},
    ]
    answer = await rest.get("/fapi/v1/leverageBracket", symbol="BTCUSDT")
    assert [b["cum"] for b in answer["brackets"]] == [0, 400, 5400]


async def test_brackets_meet_at_their_seams(sim: SimExchange) -> None:
    for contract in sim.binance.market.contracts.values():
        for lower, upper in zip(contract.brackets, contract.brackets[1:], strict=False):
            assert lower.cap == upper.floor
            assert lower.cap * lower.rate - lower.cum == upper.floor * upper.rate - upper.cum, contract.symbol
            assert lower.leverage_max > upper.leverage_max


# ---------------------------------------------------------------------- faults


async def test_a_silenced_stream_keeps_its_socket(sim: SimExchange) -> None:
    async with reader(sim, f"/market/stream?streams={ALL_MARKS}/!assetIndex@arr") as here:
        sim.fault("silence_stream", stream="!markPrice@arr")
        await sim.step(3)
        assert {f["stream"] for f in await here.frames(3)} == {"!assetIndex@arr"}
        assert await here.is_silent()
        sim.fault("speak_stream", stream="!markPrice@arr")
        await sim.step()
        assert {f["stream"] for f in await here.frames(2)} == {"!assetIndex@arr", ALL_MARKS}


async def test_one_silent_symbol_among_busy_ones(sim: SimExchange) -> None:
    async with reader(sim, f"/market/ws/{ALL_MARKS}") as here:
        await sim.step()
        before = {row["s"] for row in await here.frame()}
        sim.fault("silence_symbol", symbol="ETHUSDT")
        await sim.step()
        assert before - {row["s"] for row in await here.frame()} == {"ETHUSDT"}


async def test_a_frozen_event_time(sim: SimExchange) -> None:
    async with reader(sim, "/market/ws/btcusdt@markPrice@1s") as here:
        sim.fault("freeze_event_time")
        await sim.step(3)
        assert len({f["E"] for f in await here.frames(3)}) == 1
        sim.fault("clear")
        await sim.step()
        assert (await here.frame())["E"] == sim.now_ms()


@pytest.mark.parametrize(("code", "seen"), [(None, 1006), (1001, 1001), (1008, 1008), (1012, 1012)])
async def test_killed_sockets(sim: SimExchange, code: int | None, seen: int) -> None:
    async with reader(sim, "/market/ws") as market, reader(sim, "/public/ws") as public:
        assert sim.fault("kill_sockets", family="market", code=code)["killed"] == 1
        with pytest.raises(ConnectionClosed):
            await market.frame()
        received = market.socket.close_code
        assert received == seen
        assert (await public.ask("LIST_SUBSCRIPTIONS"))["result"] == []
    await until(lambda: not sim.binance.hub.connections)


async def test_refused_sockets(sim: SimExchange) -> None:
    sim.fault("refuse_sockets")
    with pytest.raises(InvalidStatus):
        async with reader(sim, "/market/ws"):
            pass
    async with reader(sim, "/market/ws") as here:
        assert (await here.ask("LIST_SUBSCRIPTIONS"))["result"] == []


@pytest.mark.parametrize(
    ("form", "check"),
    [
        ("truncated", _is_no_json),
        ("not_json", _is_no_json),
        ("bare_nan", lambda text: '"p":NaN' in text),
        ("nan", lambda text: json.loads(text)["p"] == "NaN"),
        ("negative", lambda text: json.loads(text)["p"].startswith("-")),
        ("unknown_event", lambda text: json.loads(text)["e"] == "somethingNew"),
        ("full_width", lambda text: json.loads(text)["p"] == "１００"),
        ("huge", lambda text: len(text) > 6 << 20),
    ],
)
async def test_garbage(sim: SimExchange, form: str, check: Any) -> None:
    async with reader(sim, f"/market/ws/{ALL_MARKS}") as here:
        assert sim.fault("garbage", form=form)["streams"] == 1
        text = await here.socket.recv()
        assert check(text)
        await sim.step()
        assert isinstance(await here.frame(), list), "the stream goes on"
