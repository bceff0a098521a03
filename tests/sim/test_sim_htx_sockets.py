"""Market and index sockets of HTX: frames, heartbeats, topics, aliases, and frames that break the rules."""

from __future__ import annotations

import base64
import json
import zlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sim_client import until
from sim_htx_client import htx_reader, unpack
from websockets.exceptions import ConnectionClosed, InvalidStatus

from monitor.sim import SimExchange
from monitor.sim.htx.faults import BOMB_BYTES
from monitor.sim.htx.text import gzip_frame

TRADES = "market.BTC_CQ.trade.detail"


def test_frames_look_like_the_recorded_ones(shared: Path) -> None:
    for frame in json.loads((shared / "data/htx/ws_frames_recorded.json").read_text())["frames"]:
        recorded, text = base64.b64decode(frame["base64"]), frame["text"].encode()
        ours = gzip_frame(text)
        assert unpack(ours) == text
        assert ours[:10] == recorded[:10], "header: no name, no time"
        assert ours[-12:] == recorded[-12:], "flushed to a byte, checksum, size"


async def test_first_data_may_come_before_its_acknowledgement(htx_sim: SimExchange) -> None:
    async with htx_reader(htx_sim, "/ws") as reader:
        await reader.send({"sub": TRADES, "id": "1"})
        await reader.send({"sub": "market.BTC_CQ.detail", "id": "2"})
        messages = await reader.messages(3)
        assert [m.get("subbed", m.get("ch")) for m in messages] == [TRADES, "market.BTC_CQ.detail", "market.BTC_CQ.detail"]
        assert ["ch" in m for m in messages] == [False, True, False], "every second time the data is first"
        assert [m["id"] for m in messages if "subbed" in m] == ["1", "2"]


@pytest.mark.parametrize(
    ("path", "topic", "subscribed", "why"),
    [
        ("/ws", "market.BTC_CQ.trade.detail", True, "by alias"),
        ("/ws", "market.btc_cq.trade.detail", True, "in any case"),
        ("/ws", "market.{BTC_CQ}.trade.detail", True, "by code"),
        ("/ws", "market.ADA_NQ.trade.detail", False, "ADA has no bi-quarterly contract"),
        ("/ws", "market.BTC200101.trade.detail", False, "delivered long ago"),
        ("/ws", "market.BTC_CQ.mark_price.1min", False, "at home on the other socket"),
        ("/ws", "market.BTC_CQ.mark_price", False, "there is no plain mark price"),
        ("/ws", "trade", False, "no topic at all"),
        ("/ws_index", "market.BTC_CQ.mark_price.1min", True, "mark prices come as klines"),
        ("/ws_index", "market.BTC-USD.index.1min", True, "so does the index"),
        ("/ws_index", "market.BTC.index.1min", False, "an index is named by its pair"),
        ("/ws_index", "market.BTC_CQ.mark_price.7min", False, "no such period"),
        ("/ws_index", "market.BTC_CQ.trade.detail", False, "at home on the other socket"),
    ],
)
async def test_topics(htx_sim: SimExchange, path: str, topic: str, subscribed: bool, why: str) -> None:
    topic = topic.replace("{BTC_CQ}", htx_sim.htx.market.find("BTC_CQ")[1].code)
    async with htx_reader(htx_sim, path) as reader:
        answer = await reader.sub(topic)
        assert (answer["status"] == "ok") == subscribed, why
        if not subscribed:
            assert answer["err-code"] == "bad-request"
            return
        assert answer["subbed"] == topic
        htx_sim.htx_control.price("BTC", "99000")
        assert (await reader.message())["ch"] == topic, "as the client wrote it"
        await reader.send({"unsub": topic, "id": "u"})
        assert (await reader.message())["unsubbed"] == topic
        htx_sim.htx_control.price("BTC", "98000")
        assert await reader.is_silent()


async def test_numbers_on_ws_and_texts_on_ws_index(htx_sim: SimExchange) -> None:
    async with htx_reader(htx_sim, "/ws") as trades, htx_reader(htx_sim, "/ws_index") as marks:
        await trades.sub(TRADES)
        await marks.sub("market.BTC_CQ.mark_price.1min")
        htx_sim.htx_control.price("BTC_CQ", "91234.5", "91234.4")
        trade, mark = await trades.message(), await marks.message()
        (row,) = trade["tick"]["data"]
        assert row["price"] == Decimal("91234.5")
        assert row["quantity"] == pytest.approx(100 * row["amount"] / row["price"])
        assert trade["ts"] == row["ts"] == htx_sim.now_ms()
        assert mark["tick"]["close"] == "91234.4"
        assert mark["tick"]["low"] == "91234.4"
        assert Decimal(mark["tick"]["open"]) > Decimal(mark["tick"]["close"])
        assert mark["tick"]["id"] == htx_sim.now_ms() // 60_000 * 60


async def test_every_tick_is_a_trade_but_an_index_speaks_on_change_or_each_minute(htx_sim: SimExchange) -> None:
    async with htx_reader(htx_sim, "/ws") as trades, htx_reader(htx_sim, "/ws_index") as index:
        await trades.sub(TRADES)
        await index.sub("market.BTC-USD.index.1min")
        await htx_sim.step(3)
        frames = await trades.messages(3)
        ids = [frame["tick"]["data"][0]["id"] for frame in frames]
        assert ids == sorted(set(ids))
        assert await index.is_silent(), "prices stand still here"
        htx_sim.clock(advance_ms=60_000)
        await htx_sim.step()
        assert (await index.message())["tick"]["close"] == "97250"


async def test_an_alias_goes_on_with_another_contract_and_a_code_falls_silent(htx_sim: SimExchange) -> None:
    weekly = htx_sim.htx.market.find("BTC_CW")[1].code
    async with htx_reader(htx_sim, "/ws") as by_alias, htx_reader(htx_sim, "/ws") as by_code:
        await by_alias.sub("market.BTC_CW.trade.detail")
        await by_code.sub(f"market.{weekly}.trade.detail")
        htx_sim.htx_control.price("BTC_NW", "88000")
        for reader in (by_alias, by_code):
            await reader.message()
        htx_sim.htx_control.delivery("BTC", 0)
        await htx_sim.step(2)
        assert (await by_alias.message())["tick"]["data"][0]["price"] == Decimal(88000), "what was the bi-weekly contract"
        assert await by_code.is_silent()
        assert (await by_code.sub(f"market.{weekly}.trade.detail"))["status"] == "error"


@pytest.mark.parametrize(("path", "number"), [("/ws", True), ("/ws_index", True), ("/notification", False)])
async def test_heartbeats_every_five_seconds_and_who_answers_stays(htx_sim: SimExchange, path: str, number: bool) -> None:
    htx_sim.htx.hub.pong_grace_s = 0.0
    async with htx_reader(htx_sim, path) as reader:
        (connection,) = htx_sim.htx.hub.connections
        start = htx_sim.now_ms()
        for beat in range(1, 9):
            await htx_sim.step(5)
            ping = json.loads(unpack(await reader.raw()))  # type: ignore[arg-type]
            token = ping["ping"] if number else ping["ts"]
            assert token == (start + beat * 5000 if number else str(start + beat * 5000))
            await reader.send({"pong": token} if number else {"op": "pong", "ts": token})
            await until(lambda: connection.unanswered == 0)


@pytest.mark.parametrize(
    ("path", "answer", "why"),
    [
        ("/ws", None, "nothing"),
        ("/ws", lambda ping: {"pong": str(ping["ping"])}, "a text for a number"),
        ("/ws", lambda _: {"pong": 1}, "another number"),
        ("/notification", lambda ping: {"op": "pong", "ts": int(ping["ts"])}, "a number for a text"),
        ("/center-notification", None, "nothing, on the center socket"),
    ],
)
async def test_who_does_not_answer_is_dropped_after_five_pings(htx_sim: SimExchange, path: str, answer: Any, why: str) -> None:
    htx_sim.htx.hub.pong_grace_s = 0.0
    async with htx_reader(htx_sim, path) as reader:
        for _ in range(5):
            await htx_sim.step(5)
            ping = json.loads(unpack(await reader.raw()))  # type: ignore[arg-type]
            if answer is not None:
                await reader.send(answer(ping))
                await reader.send("{")  # is answered: what was sent before has arrived
                await reader.raw()
        await htx_sim.step(5)
        with pytest.raises(ConnectionClosed) as closed:
            await reader.raw()
        assert closed.value.rcvd is None, "cut, without a close frame: 1006"


async def test_one_of_the_last_two_pings_is_enough(htx_sim: SimExchange) -> None:
    htx_sim.htx.hub.pong_grace_s = 0.0
    async with htx_reader(htx_sim, "/ws") as reader:
        (connection,) = htx_sim.htx.hub.connections
        pings = []
        for _ in range(4):
            await htx_sim.step(5)
            pings.append(json.loads(unpack(await reader.raw()))["ping"])  # type: ignore[arg-type]
        await reader.send({"pong": pings[0]})
        await reader.ask("{")
        assert connection.unanswered == 4, "too old"
        await reader.send({"pong": pings[2]})
        await until(lambda: connection.unanswered == 0)


async def test_a_client_that_answers_outlives_a_fast_simulation(htx_sim: SimExchange) -> None:
    async with htx_reader(htx_sim, "/ws") as reader:
        await reader.sub(TRADES)
        await htx_sim.step(60)
        await reader.messages(60)
        assert len(reader.pings) <= 5, "no more pings than may stay unanswered"
        await htx_sim.step()
        await reader.message()


async def test_bad_messages_are_refused_and_the_line_holds(htx_sim: SimExchange) -> None:
    async with htx_reader(htx_sim, "/ws") as reader:
        for text in (
            "{",
            "[]",
            "5",
            '{"sub":5}',
            '{"sub":"market..."}',
            '{"sub":"market..trade.detail"}',
            '{"req":"market.BTC_CQ.trade.detail"}',
            "{}",
        ):
            assert (await reader.ask(text))["status"] == "error", text
        assert await reader.ask({"ping": 7}) == {"pong": 7}
        assert (await reader.ask({"unsub": TRADES, "id": "1"}))["status"] == "error", "never subscribed"


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        ("half_gzip", "incomplete"),
        ("bad_checksum", "gzip"),
        ("not_gzip", "gzip"),
        ("plain_text", "text"),
        ("truncated", "json"),
        ("html", "json"),
        ("empty", "incomplete"),
        ("bomb", "huge"),
    ],
)
async def test_broken_frames_are_broken_in_the_way_they_say(htx_sim: SimExchange, form: str, problem: str) -> None:
    async with htx_reader(htx_sim, "/ws") as reader:
        assert htx_sim.htx_control.fault("garbage", form=form)["sockets"] == 1
        frame = await reader.raw()
        unzip = zlib.decompressobj(wbits=31)
        if problem == "text":
            assert isinstance(frame, str)
        elif problem == "gzip":
            with pytest.raises(zlib.error):
                unzip.decompress(frame)  # type: ignore[arg-type]
        elif problem == "incomplete":
            unzip.decompress(frame)  # type: ignore[arg-type]
            assert not unzip.eof
        elif problem == "huge":
            assert len(frame) < 1 << 20
            assert len(unzip.decompress(frame)) > BOMB_BYTES  # type: ignore[arg-type]
        else:
            text = unpack(frame)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match=r"Expecting|Unterminated|delimiter"):
                json.loads(text)
        assert (await reader.sub(TRADES))["status"] == "ok", "the line itself is well"


async def test_socket_faults(htx_sim: SimExchange) -> None:
    fault = htx_sim.htx_control.fault
    async with htx_reader(htx_sim, "/ws") as reader:
        await reader.sub(TRADES)
        await reader.sub("market.ETH_CQ.trade.detail")
        fault("silence_topic", topic="market.btc_cq")
        await htx_sim.step()
        assert "ETH_CQ" in (await reader.message())["ch"]
        assert await reader.is_silent()
        fault("speak_topic")
        fault("freeze_event_time")
        frozen = htx_sim.now_ms()
        await htx_sim.step(2)
        assert {message["ts"] for message in await reader.messages(4)} == {frozen}
        fault("kill_sockets", path="/ws_index")
        fault("clear")
        await htx_sim.step()
        assert (await reader.messages(2))[0]["ts"] == htx_sim.now_ms()
        fault("kill_sockets", path="/ws")
        with pytest.raises(ConnectionClosed):
            await reader.message()
    fault("refuse_sockets")
    with pytest.raises(InvalidStatus):
        async with htx_reader(htx_sim, "/ws"):
            pass
    async with htx_reader(htx_sim, "/ws") as reader:
        assert (await reader.sub(TRADES))["status"] == "ok"


async def test_no_heartbeat_and_deaf_ears(htx_sim: SimExchange) -> None:
    htx_sim.htx.hub.pong_grace_s = 0.0
    async with htx_reader(htx_sim, "/ws") as reader:
        htx_sim.htx_control.fault("silence_heartbeats")
        await htx_sim.step(12)
        assert await reader.is_silent()
        assert reader.pings == []
        htx_sim.htx_control.fault("clear")
        htx_sim.htx_control.fault("deaf_to_pongs")
        for number in range(1, 6):
            await htx_sim.step(5)
            await reader.ask("{")
            assert len(reader.pings) == number, "answered, each of them"
        await htx_sim.step(5)
        with pytest.raises(ConnectionClosed):
            await reader.message()
