"""Rows 13–15 and 32–34: what REST refuses, and what lies below it: clock, names, certificates."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from faults_scene import Scene

ACCOUNT = "/fapi/v3/account"
FOR_EVER = 1_000_000


async def no_request_until(scene: Scene, seconds: float) -> float:
    """Returns how long the exchange heard nothing by REST, from the last refused call."""
    quiet_from = scene.rest.requests[-1][0]
    count = len(scene.rest.requests)
    await scene.until(lambda: len(scene.rest.requests) > count, "REST goes on", seconds + 20)
    return scene.rest.requests[count][0] - quiet_from


@pytest.mark.parametrize("named", [True, False])
async def test_row_13_http_429_is_obeyed_to_the_second(stage: Any, named: bool) -> None:
    """With Retry-After, and without one the configured pause."""
    async with stage() as scene:
        refusal = {"status": 429, "code": -1003, "msg": "Too many requests"} | ({"retry_after_s": 150} if named else {})
        scene.exchange.fault("reject_rest", count=1, path=ACCOUNT, **refusal)
        await scene.until(lambda: scene.logged("venue_ordered_pause", reason="rate_limit"), "refused", 40)
        pause_s = 150 if named else 30
        paused_s = await no_request_until(scene, pause_s)
        assert pause_s <= paused_s <= pause_s + 4, "not before, and not much later: the picture of the account is asked first"
        scene.fault_ends()
        assert scene.told("stale", subject="reconciliation"), "what the pause costs is told"
        await scene.recovered()
        assert await scene.rest_results("-1003") == 1
        assert not scene.logged("stream_down"), "streams go on"


async def banned(scene: Scene, seconds: int) -> int:
    """Returns the end of the ban."""
    until_ms = scene.exchange.now_ms() + 1000 * seconds
    msg = f"Way too many requests; IP(127.0.0.1) banned until {until_ms}. Please use the websocket for live updates."
    scene.exchange.fault("reject_rest", count=1, path=ACCOUNT, status=418, code=-1003, msg=msg)
    await scene.until(lambda: scene.logged("venue_ordered_pause", reason="banned"), "banned", 40)
    return until_ms


async def test_row_14_http_418_no_request_until_the_end_of_the_ban(stage: Any) -> None:
    async with stage() as scene:
        until_ms = await banned(scene, 720)
        assert scene.logged("venue_ordered_pause")[0]["until_ms"] == pytest.approx(until_ms, abs=100)
        frames = scene.monitor.readout.counters()["binance_usdm"].frames
        seen = frames["mark_price"]
        took_s = await no_request_until(scene, 720)
        assert scene.exchange.now_ms() >= until_ms, "no request at all before"
        scene.fault_ends()
        assert frames["mark_price"] - seen >= took_s - 2, "streams go on"
        assert scene.told("stale", subject="reconciliation"), "told"
        assert await scene.rest_results("-1003") == 1
        await scene.recovered()


async def test_row_14_the_alert_names_the_end_of_the_ban(stage: Any) -> None:
    async with stage() as scene:
        await banned(scene, 300)
        await scene.until(lambda: [m for m in scene.receiver.webhook if "ban" in m["summary"]], "an alert of the ban", 5)


async def test_row_15_clock_skew_is_compared_again_and_the_call_repeated(stage: Any) -> None:
    async with stage(settings={"clock_sync_s": 600}) as scene:
        answers = await scene.rest_results("ok")
        scene.wall.wrong_by_ms = -8_000  # our clock was set back, beyond the venue's window
        scene.fault_ends()
        await scene.until(lambda: scene.monitor.readout.counters()["binance_usdm"].rest.get("-1021"), "refused for its time", 90)
        await scene.until(lambda: scene.logged("clock_skew"), "compared again")
        assert abs(scene.logged("clock_skew")[-1]["offset_ms"] - 8_000) < 1500
        refused = scene.monitor.readout.counters()["binance_usdm"].rest["-1021"]
        await scene.recovered(within_s=60)
        assert await scene.rest_results("ok") > answers
        await scene.seconds(40)
        assert await scene.rest_results("-1021") <= refused + 3, "only the calls that were under way met it"
        assert not scene.logged("account_not_watched")


async def test_row_15_the_offset_is_followed_without_an_error(stage: Any) -> None:
    """Compared every 10 min: a drift inside the window never becomes a refusal."""
    async with stage(settings={"clock_sync_s": 5}) as scene:
        scene.wall.wrong_by_ms = -3_000
        await scene.until(lambda: scene.logged("clock_skew"), "noticed by the comparison", 30)
        scene.wall.wrong_by_ms = -6_000
        await scene.until(lambda: abs(scene.logged("clock_skew")[-1]["offset_ms"] - 6_000) < 1500, "followed", 30)
        assert await scene.rest_results("-1021") <= 1
        await scene.until(lambda: scene.told("clock", level="high"), "told above 1 s, and again above 5 s", 30)
        assert (await scene.metric("margin_clock_offset_seconds") or 0) == pytest.approx(6, abs=1.5)
        scene.wall.wrong_by_ms = 0
        scene.fault_ends()
        await scene.recovered(lambda: scene.told("clock", reason="resolved"))


async def test_row_32_maintenance_is_one_alert_not_one_a_tick(stage: Any) -> None:
    """503 with an HTML page on every call, sockets closed and refused, for 100 s."""
    async with stage(rules={"stale": {"reconcile_due_s": 20.0}}) as scene:
        scene.exchange.fault("reject_rest", count=FOR_EVER, status=503, html=True)
        scene.exchange.fault("refuse_sockets", count=FOR_EVER)
        scene.exchange.fault("kill_sockets", code=1001)
        await scene.until(lambda: scene.told("stale", subject="mark price", level="critical"), "UNKNOWN after 60 s", 80)
        await scene.seconds(20)
        incidents = {m["incident"]["id"] for m in scene.receiver.webhook}
        by_key = {(m["rule"], m["pool"], m["subject"]) for m in scene.receiver.webhook}
        assert len(incidents) == len(by_key), "one incident each"
        assert len(scene.receiver.webhook) <= 4 * len(by_key), "first and worse: never one a tick"
        assert all(m["reason"] in ("first", "worse", "unknown") for m in scene.receiver.webhook)
        assert scene.told("health") == [] or {m["level"] for m in scene.told("health")} == {"unknown"}, "not taken for a loss"
        assert await scene.rest_results("unavailable") >= 3
        assert await scene.reconnects("http_5xx", "mark_price") >= 2
        assert scene.logged("stream_down", reason="http_5xx")
        asked = len(scene.rest.requests)
        await scene.seconds(20)
        assert len(scene.rest.requests) - asked <= 120, "with pauses that grow"
        scene.exchange.fault("clear")
        scene.fault_ends()
        await scene.recovered(within_s=90)

        def over() -> set[str]:
            return {m["incident"]["id"] for m in scene.receiver.webhook if m["reason"] == "resolved"}

        await scene.until(lambda: over() == incidents, "the end of each is told", 30)


# ------------------------------------------------------------------ names


class Names:
    """The resolver of the machine, broken for one name on order; the venues are dialled by it."""

    HOST = "localhost"

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.broken = False
        self.asked = 0
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if host not in (self.HOST, self.HOST.encode()):
            return self._real(host, port, *args, **options)
        self.asked += 1
        if self.broken:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return self._real("127.0.0.1", port, *args, **options)


BY_NAME = {"rest_url": f"http://{Names.HOST}:{{port}}", "streams_url": f"ws://{Names.HOST}:{{port}}"}


async def test_row_33_dns_failure(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch)
    async with stage(**BY_NAME, settings={"addresses_kept_s": 0}) as scene:  # nothing is remembered any more
        names.broken = True
        scene.exchange.fault(
            "reject_rest", count=FOR_EVER, path="/fapi/v1/premiumIndex"
        )  # what HTTP remembers of names is no help
        await scene.seconds(10)
        assert scene.stream("mark_price").up, "open connections need no names"
        scene.streams.cut()
        await scene.until(lambda: scene.logged("stream_down", reason="dns"), "the name is the trouble", 30)
        asked, began = names.asked, scene.now_s()
        await scene.until(lambda: scene.told("stale", subject="mark price"), "told", 60)
        await scene.seconds(20)
        assert names.asked - asked <= 5 * (scene.now_s() - began), "never a tight loop"
        assert await scene.reconnects("dns", "mark_price") >= 1
        scene.exchange.fault("clear")
        names.broken = False
        scene.fault_ends()
        await scene.recovered(within_s=90)
        assert scene.told("stale", subject="mark price", reason="resolved")


async def test_row_33_dns_failure_at_the_start(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """REST and streams fail alike; the daemon stays up, tells, and goes on when names come back."""
    names = Names(monkeypatch)
    names.broken = True
    async with stage(**BY_NAME, ready=False) as scene:
        await scene.until(lambda: scene.told("stale", subject="account"), "told after the grace", 40)
        assert await scene.rest_results("network") >= 1
        assert await scene.reconnects("dns", "mark_price") >= 1
        assert await scene.reconnects("listen_key_network", "user") >= 1
        asked, began = names.asked, scene.now_s()
        await scene.seconds(20)
        assert names.asked - asked <= 5 * (scene.now_s() - began), "never a tight loop"
        names.broken = False
        scene.fault_ends()
        await scene.recovered(within_s=90)


async def test_row_33_last_addresses_are_kept(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch)
    async with stage(**BY_NAME) as scene:
        names.broken = True
        scene.streams.cut()
        await scene.until(lambda: scene.logged("stream_down"), "cut", 10)
        await scene.until(lambda: scene.healthy, "back by the last address", 15)


# ------------------------------------------------------------------ certificates


def certificate(folder: Path, name: str, *, days: int) -> tuple[Path, ssl.SSLContext]:
    """A self-signed certificate of 127.0.0.1 that ends in `days` (negative: has ended), as a file to trust and for a server."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "simulated exchange")])
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=30))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / f"{name}.pem", folder / f"{name}.key"
    public.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return public, context


@pytest.mark.parametrize("wrong", ["expired", "unknown issuer", "no TLS at all"])
async def test_row_34_tls_failure_never_falls_back_to_insecure(
    stage: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: str
) -> None:
    good_file, good = certificate(tmp_path, "good", days=30)
    expired_file, expired = certificate(tmp_path, "expired", days=-1)
    _, unknown = certificate(tmp_path, "unknown", days=30)
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(good_file.read_bytes() + expired_file.read_bytes())  # expired is its only fault
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))

    def serve(scene: Scene) -> None:
        scene.rest.tls = scene.streams.tls = {"expired": expired, "unknown issuer": unknown, "no TLS at all": None}[wrong]

    async with stage(
        before=serve, ready=False, rest_url="https://127.0.0.1:{port}", streams_url="wss://127.0.0.1:{port}"
    ) as scene:
        await scene.until(lambda: scene.stream("mark_price").reconnects, "refused", 30)
        assert await scene.rest_results("tls") + await scene.rest_results("network") >= 1
        assert scene.rest.requests == [], "not one request went out"
        assert scene.streams.requests == []
        if wrong != "no TLS at all":
            assert await scene.reconnects("tls", "mark_price") >= 1
            assert scene.logged("stream_down", reason="tls")
        await scene.until(lambda: scene.told("stale", subject="account"), "told through other channels", 60)
        assert scene.told("stale")[0]["level"] != "ok"
        for proxy in (scene.rest, scene.streams):
            await proxy.close()
            proxy.tls = good
            await proxy.listen()
        scene.fault_ends()
        await scene.recovered(within_s=90)
