"""The warping loop: time jumps when all is at rest, and never before what is under way has arrived."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
from aiohttp import ClientSession, ClientTimeout, web
from warping import WarpedClock, WarpingLoop


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def test_a_day_costs_nothing() -> None:
    began_s, real_s = now_s(), time.monotonic()
    for _ in range(24):
        await asyncio.sleep(3600)
    assert now_s() - began_s == pytest.approx(86_400, abs=1e-6)
    assert time.monotonic() - real_s < 60


async def test_timers_fire_in_their_order_at_their_time() -> None:
    began_s, fired = now_s(), []

    async def sleeper(seconds: float) -> None:
        await asyncio.sleep(seconds)
        fired.append((seconds, round(now_s() - began_s, 6)))

    await asyncio.gather(*(sleeper(seconds) for seconds in (3.0, 0.001, 500.0, 60.0)))
    assert fired == [(0.001, 0.001), (3.0, 3.0), (60.0, 60.0), (500.0, 500.0)]


async def test_time_stands_still_while_code_runs() -> None:
    began_s = now_s()
    time.sleep(0.05)  # noqa: ASYNC251  a busy machine
    for _ in range(1000):
        await asyncio.sleep(0)
    assert now_s() == began_s


async def test_a_timeout_never_beats_a_thread() -> None:
    began_s = now_s()
    async with asyncio.timeout(0.001):
        await asyncio.to_thread(time.sleep, 0.2)
    assert now_s() == began_s


async def test_work_of_a_thread_that_gives_work_to_a_thread() -> None:
    async with asyncio.timeout(0.001):
        for _ in range(50):
            await asyncio.to_thread(time.sleep, 0.001)


async def test_outside_work_is_waited_for_while_it_is_declared() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, WarpingLoop)
    done = asyncio.Event()
    thread = threading.Thread(target=lambda: (time.sleep(0.1), loop.call_soon_threadsafe(done.set)))
    began_s = now_s()
    with loop.standing_still():
        thread.start()
        async with asyncio.timeout(0.001):
            await done.wait()
    assert now_s() == began_s
    thread.join()
    await asyncio.sleep(10)
    assert now_s() == pytest.approx(began_s + 10)


async def test_a_process_is_waited_for_while_it_is_declared() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, WarpingLoop)
    with loop.standing_still():
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print('here')", stdout=subprocess.PIPE)
        async with asyncio.timeout(0.001):
            out, _ = await process.communicate()
    assert out == b"here\n"


def test_a_thread_that_hangs_stops_time_only_for_so_long() -> None:
    freed = threading.Event()

    async def impatient() -> float:
        began_s = now_s()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await asyncio.to_thread(freed.wait)
        await asyncio.sleep(3)  # it is waited for once
        freed.set()
        return now_s() - began_s

    with asyncio.Runner(loop_factory=lambda: WarpingLoop(patience_s=0.2)) as runner:
        assert runner.run(impatient()) == pytest.approx(5)


@pytest.mark.parametrize("size", [1, 100_000, 5_000_000])
async def test_what_is_on_the_wire_arrives_before_any_timer(size: int) -> None:
    """Through windows that fill and empty, back and forth: the answer is there while the shortest of timers still waits."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        began_s = now_s()
        for _ in range(20 if size < 1_000_000 else 3):
            async with asyncio.timeout(1e-6):
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
                writer.write(b"x" * size)
                writer.write_eof()
                assert len(await reader.read(-1)) == size
                writer.close()
                await writer.wait_closed()
    assert now_s() == began_s


async def test_a_silent_peer_is_given_up_at_its_time() -> None:
    """The time-outs of HTTP clients run in the time of the loop."""
    held = asyncio.Event()

    async def never(_: web.Request) -> web.Response:
        await held.wait()
        return web.Response()

    app = web.Application()
    app.router.add_get("/", never)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    began_s, real_s = now_s(), time.monotonic()
    async with ClientSession(timeout=ClientTimeout(total=300)) as session:
        with pytest.raises(TimeoutError):
            await session.get(f"http://127.0.0.1:{runner.addresses[0][1]}/")
    assert now_s() - began_s == pytest.approx(300, abs=1)
    assert time.monotonic() - real_s < 60
    held.set()
    await runner.cleanup()


async def test_beside_a_busy_process_nothing_is_late() -> None:
    """Each of many requests has a millisecond, while another process takes the processors."""

    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    until_killed = "import time; end_s = time.monotonic() + 30\nwhile time.monotonic() < end_s: pass"
    busy = [subprocess.Popen([sys.executable, "-c", until_killed]) for _ in range(2)]  # noqa: ASYNC220
    try:
        async with ClientSession() as session:
            for _ in range(100):
                async with asyncio.timeout(0.001), session.get(f"http://127.0.0.1:{runner.addresses[0][1]}/") as answer:
                    assert await answer.text() == "hello"
                await asyncio.sleep(1)
    finally:
        for process in busy:
            process.kill()
            process.wait()
        await runner.cleanup()


async def test_the_wall_clock_goes_with_the_loop() -> None:
    clock = WarpedClock(1_700_000_000_000)
    await asyncio.sleep(86_400)
    assert clock.now_ms() == pytest.approx(1_700_086_400_000, abs=1)


async def test_a_wait_without_a_timer_waits() -> None:
    """Nothing to jump to: what comes from elsewhere is waited for."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    waited: list[Callable[[], None]] = [done.set]
    thread = threading.Thread(target=lambda: (time.sleep(0.05), loop.call_soon_threadsafe(waited[0])))
    thread.start()
    await done.wait()
    thread.join()
