"""The signs of life of the real program: the app against the simulated exchange, and the command under a service manager."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from deadman_kit import Service, service, until
from e2e.conftest_e2e import Receiver, config_for, fetch, running
from prometheus_client.parser import text_string_to_metric_families

from monitor.app import Monitor
from monitor.deadman import Reason
from monitor.lease import StoreInUseError
from monitor.model.alerts import Level
from monitor.sim import SimExchange, SimHtxAccount

FAST = 0.2  # real seconds per simulated second


@pytest.fixture
async def there() -> AsyncIterator[Service]:
    async with service() as one:
        yield one


def nobody() -> Receiver:
    """Chats that nobody runs: what is to be told waits."""
    receiver = Receiver()
    receiver.url = "http://127.0.0.1:1"
    return receiver


async def metrics(monitor: Monitor) -> dict[tuple[str, str], float]:
    """By (name, the value of its only label or "")."""
    _, text = await fetch(f"{monitor.server.url}metrics")
    return {
        (sample.name, "".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if len(sample.labels) < 2
    }


async def silence(there: Service, seconds: float = 1.5) -> int:
    """Waits until no call has come for so long, which is more than the period. Returns how many came before."""
    async with asyncio.timeout(20):
        while True:
            count = len(there.calls)
            await asyncio.sleep(seconds)
            if len(there.calls) == count:
                return count


async def test_the_heartbeat_of_the_app_stops_while_it_is_blind(
    there: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.heartbeat.RECHECK_S", 0.05)
    secret = tmp_path / "url"
    secret.write_text(there.url)
    secret.chmod(0o600)
    heartbeat = {"url": {"file": str(secret)}, "allow_insecure": True, "period_s": 1}
    async with SimExchange("calm", 7, tick_seconds=FAST) as exchange:
        config = config_for(exchange, nobody(), heartbeat=heartbeat, alerts={"channels": []})
        async with running(config, exchange) as monitor:
            await until(lambda: there.calls, "the first beat")
            assert all(stream.up for stream in monitor.readout.streams()), "not before it sees"
            await until(lambda: monitor.readout.heartbeat.last_success_ms, "counted")
            found = await metrics(monitor)
            assert {labels for name, labels in found if name == "margin_heartbeat_withheld"} == set(Reason)
            assert found["margin_heartbeats_total", "sent"] >= 1
            assert found["margin_heartbeat_last_success_timestamp_seconds", ""] > 1e9
            assert abs(found["margin_clock_offset_seconds", "binance_usdm"]) < 60
            assert 0 <= found["margin_loop_lag_seconds", ""] < 60

            exchange.fault("silence_stream")
            await until(lambda: Reason.STREAM_DOWN in monitor.dead_man.unwell(), "blind", 40)
            count = await silence(there)
            assert (await metrics(monitor))["margin_heartbeat_withheld", "stream_down"] == 1
            assert not monitor.dead_man.hangs().keys() & {Reason.STREAM_DOWN, Reason.DATA_TOO_OLD}, (
                "no restart for a dead exchange"
            )

            exchange.fault("clear")
            await until(lambda: len(there.calls) > count, "it sees again", 60)


async def test_htx_is_well_too_where_little_is_heard() -> None:
    """Its notices of contracts come once in days, and without a position trades are all that there is to hear."""
    data = {"name": "main", "venue": "htx_coin_futures", "api_key": {"env": "HTX_KEY"}, "api_secret": {"env": "HTX_SECRET"}}
    async with SimExchange("calm", 7, htx_accounts=[SimHtxAccount("main", coins={"BTC": 2})]) as exchange:
        config = config_for(exchange, nobody(), accounts=[data], alerts={"channels": []})
        async with running(config, exchange) as monitor:
            await until(lambda: all(stream.up for stream in monitor.readout.streams()), "all streams are up")
            exchange.clock(advance_ms=80_000)  # beyond the grace of the start and the limit of the age
            jumped_ms = exchange.now_ms()
            await until(lambda: monitor.engine.now_ms >= jumped_ms and not monitor.dead_man.unwell(), "all is well")


async def test_a_clock_that_is_wrong_is_told(receiver: Receiver) -> None:
    class Slow:
        """Four seconds behind the exchange."""

        def __init__(self, exchange: SimExchange) -> None:
            self._exchange = exchange

        def now_ms(self) -> int:
            return self._exchange.now_ms() - 4_000

    async with SimExchange("calm", 7) as exchange, running(config_for(exchange, receiver), Slow(exchange)) as monitor:  # type: ignore[arg-type]
        await until(lambda: any(m["rule"] == "clock" for m in receiver.webhook), "told")
        message = next(m for m in receiver.webhook if m["rule"] == "clock")
        assert (message["level"], message["venue"], message["account"]) == ("warning", "binance_usdm", "")
        assert "behind the venue's, limit 1 s" in message["summary"]
        assert 1.0 < message["value"] <= 4.001, "what is sure of it"
        assert (await metrics(monitor))["margin_clock_offset_seconds", "binance_usdm"] == pytest.approx(4.0, abs=3.0)
        levels = {incident.key.rule: incident.level for incident in monitor.desk.incidents()}
        assert levels["clock"] is Level.WARNING


async def test_a_second_instance_watches_nothing(receiver: Receiver, tmp_path: Path) -> None:
    async with SimExchange("calm", 7, tick_seconds=FAST) as exchange:
        config = config_for(exchange, receiver, tmp_path / "store.sqlite3")
        async with running(config, exchange):
            with pytest.raises(StoreInUseError, match="already works on the store"):
                await Monitor(config, clock=exchange).run()  # type: ignore[arg-type]
        async with running(config, exchange):
            pass  # after the end of the first


# ------------------------------------------------------------------ the command


class Manager:
    """A service manager's end of the notify socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: list[str] = []
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(path))
        self._sock.setblocking(False)

    def listen(self) -> list[str]:
        with contextlib.suppress(BlockingIOError):
            while True:
                self.said.append(self._sock.recv(65536).decode())
        return self.said

    def heard(self, start: str, since: int = 0) -> bool:
        return any(word.startswith(start) for word in self.listen()[since:])

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    one = Manager(tmp_path / "notify")
    yield one
    one.close()


def write_config(path: Path, exchange: SimExchange, more: str = "") -> None:
    venue = exchange.first_line()["venues"]["binance_usdm"]
    path.write_text(
        "accounts: [{name: main, venue: binance_usdm, api_key: {env: KEY}, api_secret: {env: SECRET}}]\n"
        f"venues: {{binance_usdm: {json.dumps({'rest': venue['rest'], 'spot': venue['rest'], 'streams': venue['streams']})}}}\n"
        f'web: {{listen: "127.0.0.1:0"}}\nstore: {{path: "{path.parent}/store.sqlite3"}}\n{more}'
    )


@contextlib.asynccontextmanager
async def command(path: Path, exchange: SimExchange, **environ: str) -> AsyncIterator[Process]:
    venue = exchange.first_line()["venues"]["binance_usdm"]
    environ = {**os.environ, "KEY": venue["api_key"], "SECRET": venue["api_secret"], **environ}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "monitor", "run", str(path), env=environ, stdout=PIPE, stderr=PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def is_stopped(process: Process) -> bool:
    return "State:\tT" in Path(f"/proc/{process.pid}/status").read_text()


async def test_what_systemd_hears_of_the_command(manager: Manager, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    async with SimExchange("calm", 7) as exchange:
        write_config(path, exchange)
        # WATCHDOG_PID is left out, as the pid is not known before the start
        async with command(path, exchange, NOTIFY_SOCKET=str(manager.path), WATCHDOG_USEC="400000") as process:
            await until(lambda: manager.heard("READY=1"), "ready", 40)
            await until(lambda: manager.heard("STATUS=1 pool, worst: "), "a figure in the status", 40)
            await until(lambda: manager.heard("WATCHDOG=1", since=len(manager.said)), "fed")

            process.send_signal(signal.SIGSTOP)
            await until(lambda: is_stopped(process), "stopped")
            quiet = len(manager.listen())
            await asyncio.sleep(0.6)  # three times its pace
            assert manager.listen()[quiet:] == [], "a stopped process feeds nobody: systemd would restart it"
            process.send_signal(signal.SIGCONT)
            await until(lambda: manager.heard("WATCHDOG=1", since=quiet), "it recovers")

            for more, what in (("rules: {helth: {}}\n", "a bad configuration"), ("rules: {}\n", "a good one")):
                write_config(path, exchange, more)
                before = len(manager.listen())
                process.send_signal(signal.SIGHUP)
                await until(lambda: manager.heard("RELOADING=1\nMONOTONIC_USEC=", since=before), what)  # noqa: B023
                await until(lambda: manager.heard("READY=1", since=before), f"{what}: through with it")  # noqa: B023
            await until(lambda: manager.heard("WATCHDOG=1", since=len(manager.said)), "fed after the reload")

            process.send_signal(signal.SIGTERM)
            await until(lambda: manager.heard("STOPPING=1"), "stopping")
            _, errors = await asyncio.wait_for(process.communicate(), 30)
            assert process.returncode == 0, errors
            assert b"Traceback" not in errors


async def test_the_second_command_exits_with_1_and_a_hint(tmp_path: Path, manager: Manager) -> None:
    path = tmp_path / "config.yaml"
    async with SimExchange("calm", 7) as exchange:
        write_config(path, exchange)
        async with command(path, exchange, NOTIFY_SOCKET=str(manager.path)) as first:
            await until(lambda: manager.heard("READY=1"), "the first runs", 40)
            async with command(path, exchange) as second:
                _, errors = await asyncio.wait_for(second.communicate(), 30)
                assert second.returncode == 1
                lines = errors.decode().splitlines()
                assert f"process {first.pid} already works on the store {tmp_path}/store.sqlite3" in lines[-2]
                assert lines[-1] == "hint: stop that one, or give this one a store of its own: store.path"
                assert "Traceback" not in errors.decode()
