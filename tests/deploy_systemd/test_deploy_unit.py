"""The unit, judged by systemd's own tools and by the program that it starts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from deploy_prometheus.prometheus_kit import tool
from deploy_systemd.unit_file import COMMAND, UNIT, one, service, settings

from monitor import app
from monitor.config import load
from monitor.model.secret import Secret
from monitor.secret_sources import SecretReader

EXPOSURE_MAX = 1.5


def verified(unit: Path) -> tuple[int, str]:
    done = subprocess.run(
        [tool("systemd-analyze"), "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


def installed(folder: Path, text: str) -> Path:
    """The unit where its command exists; nothing else of it is changed."""
    unit = folder / UNIT.name
    assert COMMAND in text
    unit.write_text(text.replace(COMMAND, str(Path(sys.executable).with_name("margin-monitor"))))
    return unit


def test_systemd_finds_no_fault(tmp_path: Path) -> None:
    assert verified(installed(tmp_path, UNIT.read_text())) == (0, "")


@pytest.mark.parametrize(
    ("right", "wrong", "why"),
    [
        ("ProtectClock=", "ProtectClok=", "a key that does not exist"),
        ("WatchdogSec=30", "WatchdogSec=soon", "a value that is none"),
        ("@system-service", "@system-servise", "a set of calls that does not exist"),
    ],
)
def test_systemd_would_find_it(tmp_path: Path, right: str, wrong: str, why: str) -> None:
    text = UNIT.read_text()
    assert right in text
    _, said = verified(installed(tmp_path, text.replace(right, wrong, 1)))
    assert said, why


def exposure(unit: Path) -> tuple[int, float, str]:
    done = subprocess.run(
        [tool("systemd-analyze"), "security", "--offline=true", f"--threshold={EXPOSURE_MAX * 10:.0f}", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    return done.returncode, float(found[1]), done.stdout


def test_exposure(tmp_path: Path) -> None:
    code, level, table = exposure(UNIT)
    assert (code, level <= EXPOSURE_MAX) == (0, True), table
    bare = tmp_path / UNIT.name
    bare.write_text(f"[Service]\nExecStart={COMMAND}\n")
    code, level, table = exposure(bare)
    assert code != 0, "the threshold counts"
    assert level > 9, table


def test_the_sample_configuration_finds_what_the_unit_loads(tmp_path: Path) -> None:
    loaded = {value.partition(":")[0] for value in service("LoadCredential")}
    folder = tmp_path / "credentials"
    folder.mkdir()
    for name in loaded:
        (folder / name).write_text("https://hooks.slack.com/services/T0/B0/xyz" if name.endswith("_url") else f"it-is-{name}")
        (folder / name).chmod(0o440)  # as systemd has it
    config = UNIT.with_name("config.yaml")
    environ = {"CREDENTIALS_DIRECTORY": str(folder), "STATE_DIRECTORY": "/var/lib/margin-monitor"}
    settings = load(config, environ)
    assert len({secret.reveal() for secret in settings.secrets() if isinstance(secret, Secret)}) == len(loaded)
    assert str(settings.store.file(environ)) == f"/var/lib/{one('StateDirectory')}/margin-monitor.sqlite3"
    assert not re.findall(r"\$|(?:api_key|api_secret|webhook_url): *[^{ ]", config.read_text()), "no secret of its own"
    for name in loaded:
        assert SecretReader(environ=environ, folder=tmp_path)({"credential": name}).reveal() in {
            secret.reveal() for secret in settings.secrets()
        }, f"{name} is loaded for nothing"


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("Type", "notify", "systemd 252 does not know notify-reload yet"),
        ("DynamicUser", "yes", "no account to create"),
        ("NotifyAccess", "main", "nobody else speaks for it"),
        ("Restart", "always", "also after a clean end that nobody asked for"),
        ("LimitCORE", "0", "a dump would hold the keys"),
        ("StateDirectoryMode", "0700", "the store holds balances"),
        ("MemoryDenyWriteExecute", "yes", "what is sent to it never becomes code"),
    ],
)
def test_a_decision_of_the_unit(key: str, value: str, why: str) -> None:
    assert one(key) == value, why


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(min|s|)", text).groups()  # type: ignore[union-attr]
    return int(number) * (60 if unit == "min" else 1)


def test_times_fit_the_program() -> None:
    assert seconds(one("TimeoutStopSec")) > app.FLUSH_S + 10, "the outbox is emptied before systemd loses patience"
    assert seconds(one("TimeoutStartSec")) >= app.TURN_S_MAX, "it is not called hung before it calls itself so"
    assert seconds(one("WatchdogSec")) / 2 >= 10, "fed twice in its time, without haste"
    assert settings()["Unit", "StartLimitIntervalSec"] == ["0"], "it never gives up"
