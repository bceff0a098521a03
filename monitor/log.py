"""The log: an event name plus fields, as JSON lines or for a terminal, and never with a secret in it.

`structlog.get_logger(__name__).bind(venue=..., account=...)` is how the parts write; `configure` decides once where it goes.
Records of libraries (aiohttp, websockets, asyncio) take the same way, so that their URLs and tracebacks are cleaned too.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Any, Literal
from urllib.parse import quote

import orjson
import stamina
import structlog

from monitor.model.secret import HIDDEN, Secret

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "console"]

_PREFIX = 4  # characters by which known secrets are found; shorter ones cannot be hidden without blotting out ordinary words
_DEPTH_MAX = 6

# What looks like a secret although nobody registered it, and what is left of it.
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(/bot)\d{3,}:[\w-]+"), rf"\1{HIDDEN}"),  # Telegram has its token in the path
    (re.compile(r"\b\d{6,}:[\w-]{30,}"), HIDDEN),  # the same token alone
    (re.compile(r"(hooks\.slack(?:-gov)?\.com/\w+/)[^\s\"'<>)]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"(/ws/)\w{40,}"), rf"\1{HIDDEN}"),  # Binance has the listen key in the path
    (
        re.compile(
            r"\b((?:listen|api|access)_?key(?:_?id)?|(?:api_?)?secret|signature|(?:access_?)?token|password)(\"?'?\s*[=:]\s*\"?'?)[^\s&\"',;)}\]]+",
            re.IGNORECASE,
        ),
        rf"\1\2{HIDDEN}",
    ),
    (re.compile(r"(x-mbx-apikey\"?'?\s*[=:,]\s*\"?'?)[^\s\"',)}\]]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"(\b(?:bearer|basic)\s+)[\w+/=.~-]{8,}", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"(://)[^\s/@:]+:[^\s/@]+@"), rf"\1{HIDDEN}@"),
)
_SECRET_FIELD = re.compile(
    r"(^|_)((listen|api|access)_?key|secret|signature|token|password|passphrase|authorization)$", re.IGNORECASE
)


class Redactor:
    """Takes secrets out of whatever is to be logged: those it knows, those it recognises, and fields that are named like one."""

    def __init__(self) -> None:
        self._known: dict[str, set[str]] = {}  # first characters → secrets that begin so: the time is independent of their number

    def register(self, text: str) -> None:
        """From now on `text` is hidden, also as it stands in a URL. Texts shorter than 4 characters cannot be."""
        for form in {text, quote(text, safe="")}:
            if len(form) >= _PREFIX:
                self._known.setdefault(form[:_PREFIX], set()).add(form)

    def text(self, text: str) -> str:
        text = self._without_known(text)
        for pattern, rest in _PATTERNS:
            text = pattern.sub(rest, text)
        return text.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be written

    def value(self, value: object, depth: int = 0) -> Any:
        """`value` as plain JSON types, clean. What is neither becomes its repr."""
        match value:
            case None | bool():
                plain: Any = value
            case int():
                plain = int(value) if abs(value) < 1 << 63 else str(int(value))
            case float():
                plain = float(value)
            case str():
                plain = self.text(str(value))
            case Secret():
                plain = HIDDEN
            case bytes() | bytearray() | memoryview():
                plain = self.text(bytes(value).decode("utf-8", "backslashreplace"))
            case Mapping() if depth < _DEPTH_MAX:
                plain = {self.text(str(key)): self.field(str(key), element, depth + 1) for key, element in value.items()}
            case list() | tuple() | set() | frozenset() if depth < _DEPTH_MAX:
                plain = [self.value(element, depth + 1) for element in value]
            case _:
                plain = self.text(_repr(value))
        return plain

    def field(self, name: str, value: object, depth: int = 0) -> Any:
        if _SECRET_FIELD.search(name) and not isinstance(value, bool | None):
            return HIDDEN
        return self.value(value, depth)

    def __call__(self, logger: object, method: str, event: Any) -> dict[str, Any]:
        """A structlog processor; the last before the renderer, after exceptions have become text."""
        return {self.text(str(name)): self.field(str(name), value) for name, value in event.items()}

    def _without_known(self, text: str) -> str:
        clean, start, index = [], 0, 0
        while index <= len(text) - _PREFIX:
            found = [secret for secret in self._known.get(text[index : index + _PREFIX], ()) if text.startswith(secret, index)]
            if found:
                clean += [text[start:index], HIDDEN]
                start = index = index + max(map(len, found))
            else:
                index += 1
        return "".join([*clean, text[start:]])


_redactor = Redactor()


def register_secret(secret: Secret | str) -> None:
    """Hides this text in the log from now on, wherever it turns up."""
    _redactor.register(secret.reveal() if isinstance(secret, Secret) else secret)


def redact(text: str) -> str:
    """`text` as it may be shown: for error messages that do not go through the log."""
    return _redactor.text(text)


def configure(level: Level = "info", form: Format = "auto", stream: IO[str] | None = None) -> None:
    """Sets up the log of the process; a second call replaces the first, so that a reload may change the level.

    stream: standard error if None. form "auto": console on a terminal, else one JSON object a line.
    """
    stamina.instrumentation.set_on_retry_hooks(())  # how a call ended is told by who made it
    stream = sys.stderr if stream is None else stream
    console = form == "console" or (form == "auto" and stream.isatty())
    number = logging.getLevelNamesMapping()[level.upper()]
    first: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = _Handler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*first, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.StackInfoRenderer(),
                structlog.processors.format_exc_info,
                _redactor,
                _console(stream) if console else _json,
            ],
        )
    )
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(number)
    for chatty in ("websockets", "aiohttp", "asyncio"):  # their debug level writes whole frames: balances, listen keys
        logging.getLogger(chatty).setLevel(max(number, logging.INFO))
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)  # a scrape every few seconds is no event
    structlog.configure(
        processors=[*first, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # a reload changes the level of loggers that exist
    )
    sys.excepthook = _log_crash


class _Handler(logging.StreamHandler[Any]):
    """Where a record cannot be written, says so without its contents, which Python's own handler would print."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        with contextlib.suppress(Exception):  # the stream itself may be what is broken
            failure = sys.exc_info()[0]
            self.stream.write(f'{{"event":"log_failed","logger":"{record.name}","error":"{failure and failure.__name__}"}}\n')


def _log_crash(kind: type[BaseException], exc: BaseException, trace: TracebackType | None) -> None:
    """A crash is logged like all else: Python's own traceback would print what the exception holds."""
    if issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger("monitor").critical("crashed", exc_info=(kind, exc, trace))


def _console(stream: IO[str]) -> structlog.typing.Processor:
    return structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)


def _json(logger: object, method: str, event: Any) -> str:
    head = {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}  # what the eye looks for, first
    return orjson.dumps(head | dict(event), default=repr, option=orjson.OPT_NON_STR_KEYS).decode()


def _repr(value: object) -> str:
    try:
        return str(value) if isinstance(value, BaseException) else repr(value)
    except Exception as exc:  # noqa: BLE001  the log must not fail because of what it is given
        return f"<{type(value).__name__}: repr failed with {type(exc).__name__}>"
