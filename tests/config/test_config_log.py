"""The log: one line for each event, as JSON or for a terminal, without secrets, whatever it is given."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from monitor import log as log_module
from monitor.log import Redactor, configure, redact, register_secret
from monitor.model.secret import Secret

CANARY = "canary-c4f2/e9+x="
QUOTED = "canary-c4f2%2Fe9%2Bx%3D"


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The log belongs to the process: whatever a test does to it is taken back."""
    monkeypatch.setattr(log_module, "_redactor", Redactor())
    hook, root = sys.excepthook, logging.getLogger()
    handlers, level = list(root.handlers), root.level
    libraries = {name: logging.getLogger(name).level for name in ("websockets", "aiohttp", "asyncio", "aiohttp.access")}
    yield
    sys.excepthook = hook
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in libraries.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _configured(level: Any, form: Any) -> io.StringIO:
    """What the log writes to, alone: pytest's own handlers would show the records as they are."""
    logging.getLogger().handlers.clear()
    stream = io.StringIO()
    configure(level, form, stream)
    return stream


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_an_event_with_its_fields() -> None:
    stream = _configured("info", "auto")
    structlog.get_logger("monitor.x").bind(venue="binance_usdm", account="main").warning("stream_stale", age_ms=4200)
    (line,) = _lines(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("timestamp")), "UTC, and says so"
    assert line == {
        "level": "warning",
        "event": "stream_stale",
        "venue": "binance_usdm",
        "account": "main",
        "age_ms": 4200,
        "logger": "monitor.x",
    }
    assert stream.getvalue().startswith('{"timestamp":"'), "what the eye looks for comes first"


@pytest.mark.parametrize(
    ("form", "stream", "json_lines"),
    [
        ("auto", io.StringIO(), True),
        ("auto", _Terminal(), False),
        ("json", _Terminal(), True),
        ("console", io.StringIO(), False),
    ],
)
def test_the_form_follows_the_stream_unless_it_is_said(form: Any, stream: io.StringIO, json_lines: bool) -> None:
    configure("info", form, stream)
    structlog.get_logger().info("started")
    assert stream.getvalue().startswith("{") is json_lines
    assert "started" in stream.getvalue()


@pytest.mark.parametrize(("level", "written"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level(level: Any, written: int) -> None:
    stream = _configured(level, "json")
    log = structlog.get_logger()
    for severity in ("debug", "info", "warning", "error"):
        getattr(log, severity)("something")
    assert len(_lines(stream)) == written


def test_a_reload_changes_the_level_of_loggers_that_exist() -> None:
    stream = _configured("error", "json")
    log = structlog.get_logger("a").bind(venue="x")
    library = logging.getLogger("some.library")
    log.info("before")
    library.info("before")
    configure("info", "json", stream)
    structlog.get_logger("a").info("after")
    library.info("after")
    assert [line["event"] for line in _lines(stream)] == ["after", "after"], "once each: the old handler is gone"


def test_libraries_take_the_same_way_and_do_not_chatter() -> None:
    stream = _configured("debug", "json")
    logging.getLogger("websockets.client").debug("< TEXT balance 123")
    logging.getLogger("aiohttp.access").info("GET /metrics")
    logging.getLogger("asyncio").warning("task %s", "slow", extra={"seconds": 3})
    assert [(line["logger"], line["event"], line["seconds"]) for line in _lines(stream)] == [("asyncio", "task slow", 3)]


def _raise(exc: Exception) -> None:
    raise exc


SHOWN: list[tuple[str, Callable[[Any], None]]] = [
    ("in the event", lambda log: log.info(f"got {CANARY} twice {CANARY}")),
    ("in a field", lambda log: log.info("x", url=f"https://x/?k={CANARY}")),
    ("quoted in a URL", lambda log: log.info("x", url=f"https://x/?k={QUOTED}")),
    ("in the name of a field", lambda log: log.info("x", **{CANARY: 1})),
    ("deep inside", lambda log: log.info("x", data={"a": [{"b": (CANARY,)}]})),
    ("deeper than is looked into", lambda log: log.info("x", data=[[[[[[[[[CANARY]]]]]]]]])),
    ("as a key", lambda log: log.info("x", data={CANARY: 1})),
    ("in bytes", lambda log: log.info("x", frame=CANARY.encode())),
    ("in an exception given as a field", lambda log: log.info("x", error=ValueError(CANARY))),
    ("in the repr of an object", lambda log: log.info("x", path=Path("/") / CANARY)),
    ("bound", lambda log: log.bind(key=CANARY).info("x")),
    ("in a library's arguments", lambda log: logging.getLogger("lib").error("no %s", CANARY)),
    ("in a library's extra", lambda log: logging.getLogger("lib").error("no", extra={"data": CANARY})),
    ("in a library's record that cannot be formatted", lambda log: logging.getLogger("lib").error("no %d", CANARY)),
]


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(("where", "write"), SHOWN, ids=[where for where, _ in SHOWN])
def test_a_registered_secret_is_hidden(form: Any, where: str, write: Callable[[Any], None]) -> None:
    stream = _configured("debug", form)
    register_secret(CANARY)
    write(structlog.get_logger("x"))
    written = stream.getvalue()
    assert written, where
    assert "canary" not in written, where
    assert "c4f2" not in written, where


@pytest.mark.parametrize("form", ["json", "console"])
def test_exceptions_are_cleaned_with_their_causes(form: Any) -> None:
    stream = _configured("debug", form)
    register_secret(Secret(CANARY))
    log = structlog.get_logger("x")
    token = "123456:" + "c" * 35
    for write in (log.exception, logging.getLogger("lib").exception):
        try:
            try:
                _raise(ValueError(f"inner {CANARY}"))
            except ValueError as exc:
                raise RuntimeError(f"POST https://api.telegram.org/bot{token}/sendMessage") from exc
        except RuntimeError:
            write("failed")
    written = stream.getvalue()
    assert written.count("RuntimeError: POST https://api.telegram.org/bot***/sendMessage") == 2
    assert written.count("ValueError: inner ***") == 2
    assert token not in written
    assert CANARY not in written


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("GET /fapi/v3/account?timestamp=1&signature=0aF9&x=1", "GET /fapi/v3/account?timestamp=1&signature=***&x=1"),
        ("https://api.telegram.org/bot12345678:AAE-x_y/sendMessage", "https://api.telegram.org/bot***/sendMessage"),
        ("http://127.0.0.1:8080/bot1234:short/getMe", "http://127.0.0.1:8080/bot***/getMe"),
        (f"token 12345678:{'A' * 35} leaked", "token *** leaked"),
        ("https://hooks.slack.com/services/T0/B0/abc failed", "https://hooks.slack.com/services/*** failed"),
        ("Cannot connect to host hooks.slack.com:443", "Cannot connect to host hooks.slack.com:443"),
        (f"wss://fstream.binance.com/private/ws/{'k' * 64}", "wss://fstream.binance.com/private/ws/***"),
        ('{"listenKey":"abcDEF"}', '{"listenKey":"***"}'),
        ("listenKey=abcDEF", "listenKey=***"),
        ("{'X-MBX-APIKEY': 'abcDEF'}", "{'X-MBX-APIKEY': '***'}"),
        ("X-MBX-APIKEY: abcDEF", "X-MBX-APIKEY: ***"),
        (
            "AccessKeyId=ab-cd&SignatureMethod=HmacSHA256&Signature=x%3D",
            "AccessKeyId=***&SignatureMethod=HmacSHA256&Signature=***",
        ),
        ("Authorization: Bearer abcdefgh12345678", "Authorization: Bearer ***"),
        ("https://user:pass@host/x", "https://***@host/x"),
        ("api_key='abc', api_secret=\"def\"", "api_key='***', api_secret=\"***\""),
        ("health 1.18 is at or below 1.20 at 12:30:45", "health 1.18 is at or below 1.20 at 12:30:45"),
        ("https://fapi.binance.com/fapi/v1/time", "https://fapi.binance.com/fapi/v1/time"),
        ("the signature was refused", "the signature was refused"),
        ("", ""),
    ],
)
def test_what_looks_like_a_secret_is_hidden_and_nothing_else(text: str, clean: str) -> None:
    assert redact(text) == clean


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        ("api_key", True),
        ("apikey", True),
        ("token", True),
        ("bot_token", True),
        ("listenKey", True),
        ("signature", True),
        ("Authorization", True),
        ("password", True),
        ("key", False),
        ("account", False),
        ("tokens_left", False),
        ("secret_file", False),
    ],
)
def test_fields_that_are_named_like_a_secret(name: str, hidden: bool) -> None:
    stream = _configured("info", "json")
    structlog.get_logger().info("x", **{name: "v"})
    assert _lines(stream)[0][name] == ("***" if hidden else "v")


class _Hostile:
    def __repr__(self) -> str:
        raise ValueError(CANARY)


class _Word(StrEnum):
    A = "a"


class _Number(IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, None),
        (True, True),
        (1 << 62, 1 << 62),
        (1 << 70, str(1 << 70)),
        (float("nan"), None),
        (float("inf"), None),
        (np.float64(1.5), 1.5),
        (np.int64(3), "np.int64(3)"),
        (_Word.A, "a"),
        (_Number.ONE, 1),
        ("\ud800", "?"),
        (b"\xff\x00", "\\xff\x00"),
        ({1: {2}}, {"1": [2]}),
        (_Hostile(), "<_Hostile: repr failed with ValueError>"),
        (Secret("x"), "***"),
    ],
)
def test_whatever_it_is_given_it_writes(value: object, written: object) -> None:
    stream = _configured("info", "json")
    structlog.get_logger().info("x", value=value)
    assert _lines(stream)[0]["value"] == written


def test_a_value_that_contains_itself_is_written() -> None:
    stream = _configured("info", "json")
    endless: list[object] = []
    endless.append(endless)
    structlog.get_logger().info("x", value=endless)
    assert "[...]" in stream.getvalue()


@given(secrets=st.lists(st.text("abc/é", min_size=4, max_size=9), min_size=1, max_size=5), around=st.text("abc/é ", max_size=20))
def test_no_registered_text_is_left(secrets: list[str], around: str) -> None:
    redactor = Redactor()
    for secret in secrets:
        redactor.register(secret)
    clean = redactor.text(around.join(["", *secrets, ""]))
    assert not [secret for secret in secrets if secret in clean]


@given(st.text(max_size=60))
def test_text_without_secrets_is_left_alone(text: str) -> None:
    plain = re.sub(r"[=:/]", "", text)  # what patterns look for
    redactor = Redactor()
    redactor.register("a secret that is not in it")
    assert redactor.text(plain) == plain


def test_one_of_very_many_secrets_is_hidden() -> None:
    redactor = Redactor()
    for number in range(20_000):
        redactor.register(f"{number:x}".rjust(5, "k") * 12)
    assert redactor.text("key " + f"{12345:x}".rjust(5, "k") * 12 + " refused") == "key *** refused"


def test_a_crash_is_logged_without_what_it_holds(tmp_path: Path) -> None:
    script = tmp_path / "crash.py"
    script.write_text(
        "from monitor.log import configure, register_secret\n"
        "configure('info', 'json')\n"
        f"register_secret({CANARY!r})\n"
        "key = ''.join(['canary-', 'c4f2/e9+x='])\n"
        "raise RuntimeError('with ' + key)\n"
    )
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode == 1
    assert run.stdout == ""
    line = json.loads(run.stderr)
    assert (line["level"], line["event"]) == ("critical", "crashed")
    assert line["exception"].endswith("RuntimeError: with ***")


def test_a_broken_stream_breaks_nothing() -> None:
    stream = _configured("info", "json")
    stream.close()
    structlog.get_logger().error("nobody hears")
