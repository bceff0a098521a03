"""Canaries: a unique text in every secret field of the configuration, and an ear on all that leaves the daemon.

Which fields are secret is asked of the configuration's types: a field that is added tomorrow gets its canary by itself. The
secrets come by all four ways (environment, file, credential, inline). What is searched after each test: the log at debug level,
every HTTP answer, the files of the store, the bodies of all messages, the configuration as text and inside an exception.
"""

from __future__ import annotations

import asyncio
import base64
import html
import io
import itertools
import json
import random
import re
import string
import sys
import time
import traceback
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from urllib.parse import quote, urlsplit

import pytest
import structlog
from aiohttp import ClientSession, ClientTimeout, web
from pydantic import BaseModel

from monitor.app import Monitor
from monitor.config import Config, from_data
from monitor.log import configure, register_secret
from monitor.model.secret import Secret

WAYS = ("env", "file", "credential", "inline")
AUTHORIZATION = "/+&%="  # what differs once it is quoted; only for texts that go into a header
EXCLUSIVE: dict[str, tuple[frozenset[str], ...]] = {  # fields of a channel that cannot stand together: left out in turn
    "alertmanager": (frozenset({"password", "username"}), frozenset({"bearer_token"})),
}
ADDRESS = {"slack": "/services/{}", "webhook": "/hook?key={}"}  # as the receivers of the tests know it
OWN_KEY = re.compile(r'"routing_key": ?"[^"]*"')  # PagerDuty's protocol has its key in the body
EDGE = 12  # characters: so much of either end gives a secret away

Data = dict[str, Any]


# ------------------------------------------------------------------ which fields, by their types


def secret_fields(model: type[BaseModel], at: str = "") -> Iterator[str]:
    """Every field that holds a secret, as `alerts.channels[slack].webhook_url`."""
    for name, field in model.model_fields.items():
        if _is_secret(field.annotation):
            yield f"{at}{name}"
        for inner in _models(field.annotation):
            yield from secret_fields(inner, f"{at}{name}{_index(field.annotation, inner)}.")


def _parts(annotation: Any) -> Iterator[Any]:
    """What a type is made of: of `tuple[Secret, ...] | None` Secret and None."""
    inner = get_args(annotation) if get_origin(annotation) is not Literal else ()
    if inner:
        for each in inner:
            yield from _parts(each)
    else:
        yield annotation


def _index(annotation: Any, model: type[BaseModel]) -> str:
    if get_origin(annotation) is not tuple:
        return ""
    return f"[{model.model_fields['kind'].default}]" if "kind" in model.model_fields else "[]"


def _is_secret(annotation: Any) -> bool:
    return any(part is Secret for part in _parts(annotation))


def _models(annotation: Any) -> list[type[BaseModel]]:
    return [part for part in _parts(annotation) if isinstance(part, type) and issubclass(part, BaseModel)]


# ------------------------------------------------------------------ how a secret may be written


def forms(secret: str) -> dict[str, str]:
    """As it is, and as it may stand in an address, a header, a page or a dump. Both ends alone count as well."""
    raw = secret.encode()
    written = {
        "as it is": secret,
        "quoted": quote(secret, safe=""),
        "escaped": html.escape(secret),
        "hex": raw.hex(),
        "HEX": raw.hex().upper(),
        "reversed": secret[::-1],
        "its beginning": secret[:EDGE],
        "its end": secret[-EDGE:],
    }
    for shift in range(3):  # wherever it begins in what was encoded, without the letters that its neighbours take part in
        whole = raw[: (len(raw) + shift) // 3 * 3 - shift]
        written[f"base64, {shift} on"] = base64.b64encode(bytes(shift) + whole).decode()[(0, 2, 3)[shift] :]
    return written


class Canaries:
    """What was planted, and what was heard. folder: for the secrets that come from files."""

    def __init__(self, folder: Path) -> None:
        self.planted: dict[str, str] = {}  # field → text, of all that was ever planted
        self.latest: dict[str, str] = {}  # of the latest configuration alone
        self.events: list[Any] = []  # of the log of this process, for tests that look for one
        self.answers: list[str] = []
        self.bodies: list[str] = []
        self.files: dict[str, str] = {}
        self.log = io.StringIO()
        self.url = ""  # of who takes what no test asks for
        self.visits: list[tuple[float, str]] = []  # there: monotonic time and path
        self.folder = folder
        self._random = random.SystemRandom()
        self._configs: list[Config] = []

    # ------------------------------------------------------------------ planting

    def plant(self, data: Data, environ: dict[str, str]) -> tuple[Data, dict[str, str]]:
        """The configuration with a canary in every secret field there is, one channel of each kind, and the environment to it.

        Keys of accounts stay: the exchange knows them. Channels that are there keep their receivers, all others are ours.
        """
        data, environ = json.loads(json.dumps(data)), {**environ, "CREDENTIALS_DIRECTORY": str(self.folder / "credentials")}
        (self.folder / "credentials").mkdir(exist_ok=True)
        planter = _Planter(self, environ, self.folder)
        planter.section(Config, data, "")
        self.latest = planter.planted
        self.planted |= {
            f"{field} {len(self.planted)}" if field in self.planted else field: text for field, text in planter.planted.items()
        }
        missing = set(secret_fields(Config)) - {field.partition("#")[0] for field in planter.planted}
        assert not missing, f"no canary in {sorted(missing)}"
        return data, environ

    def config(self, data: Data, environ: dict[str, str]) -> Config:
        """As `monitor.config.from_data`, planted; the log hides its secrets, as that of the command does."""
        config = from_data(*self.plant(data, environ), folder=self.folder)
        for secret in config.secrets():
            register_secret(secret)
        self._configs.append(config)
        return config

    def canary(self, field: str) -> str:
        text = "".join(self._random.choices(string.ascii_letters + string.digits, k=32))
        return text + AUTHORIZATION if field in ("bearer_token", "password") else text

    # ------------------------------------------------------------------ hearing

    @contextmanager
    def listening(self) -> Iterator[None]:
        """The log of this process as it is written, at debug level, and its events before that."""
        before, hook = structlog.get_config(), sys.excepthook
        configure("debug", "json", self.log)

        def noted(_logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
            self.events.append({**event, "log_level": method})
            return event

        structlog.configure(processors=[noted, *structlog.get_config()["processors"]])
        try:
            yield
        finally:
            structlog.configure(**before)
            sys.excepthook = hook

    @web.middleware
    async def overhear(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """For receivers: notes what comes."""
        self.take_body((await request.read()).decode(errors="replace"))
        answer: web.StreamResponse = await handler(request)
        return answer

    def take_body(self, body: str) -> None:
        """Of a message. Address and headers are not searched, nor is the place for the key: they carry the secret itself."""
        self.bodies.append(OWN_KEY.sub("", body))

    @asynccontextmanager
    async def receiving(self) -> AsyncIterator[None]:
        """Somebody who takes everything, for the channels and the heartbeat that the test itself does not ask for."""

        async def take(request: web.Request) -> web.Response:
            self.visits.append((time.monotonic(), request.path))
            return web.json_response({"ok": True, "result": {"message_id": 1}})

        app = web.Application(middlewares=[self.overhear])
        app.router.add_route("*", "/{path:.*}", take)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield
        finally:
            await runner.cleanup()

    async def ask(self, url: str, token: str = "", timeout_s: float = 10.0) -> tuple[int, str]:
        """As `answer_of`, noted with its headers."""
        status, headers, text = await answer_of(url, token, timeout_s)
        self.answers.append(f"{headers}\n{text}")
        return status, text

    async def look(self, url: str, paths: list[str], token: str) -> None:
        """Asks for everything there is, as its owner and as somebody else."""
        for path in [*paths, "/no/such/page"]:
            for shown in (token, "", "the-token-of-somebody-else"):
                with suppress(OSError):  # it may be on its way down; what it said before counts
                    await self.ask(url.rstrip("/") + path, shown, 3.0)

    async def look_at(self, monitor: Monitor) -> None:
        """Everything that a monitor in this process shows, and what its disk holds."""
        await self.look(monitor.server.url, pages(monitor), token_of(monitor))
        self.read(monitor.config.store.file())

    def read(self, store: Path) -> None:
        """The store's files as they are now: some live on disks that go away."""
        for path in store.parent.glob(f"{store.name}*"):
            self.files[str(path)] = path.read_bytes().decode("latin-1")

    def heard(self) -> dict[str, str]:
        """All that left, by the way it took."""
        texts = {
            "log": self.log.getvalue(),
            "answers": "\n".join(self.answers),
            "messages": "\n".join(self.bodies),
            "configuration": "\n".join(_told_of(config) for config in self._configs),
        }
        return texts | self.files

    def found(self, **more: str) -> list[str]:
        """What should not have been heard: where, which secret, in which form, after which text. more: other secrets, by name."""
        return [
            f"{where}: {field}, {form}: …{text[max(0, at - 120) : at]}"
            for where, text in self.heard().items()
            for field, secret in {**self.planted, **more}.items()
            for form, written in forms(secret).items()
            if (at := text.find(written)) >= 0
        ]


@pytest.fixture
async def canaries(tmp_path: Path) -> AsyncIterator[Canaries]:
    """In every secret field of every daemon; at the end of the test none may have been heard, and something must have been."""
    folder = tmp_path / "canaries"
    folder.mkdir()
    one = Canaries(folder)
    async with one.receiving():
        with one.listening():
            yield one
    assert not one.planted or one.answers, "a daemon that was never heard proves nothing"
    assert not (found := one.found()), "\n".join(found)


async def answer_of(url: str, token: str, timeout_s: float = 10.0) -> tuple[int, str, str]:
    """Status, headers and text of a page. Raises OSError where nobody answers."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        async with (
            ClientSession(timeout=ClientTimeout(total=timeout_s)) as session,
            session.get(url, headers=headers) as response,
        ):
            if response.content_type == "text/event-stream":  # it never ends: its first piece has the state
                text = (await asyncio.wait_for(response.content.readany(), timeout_s)).decode()
            else:
                text = await response.text()
            return response.status, str(dict(response.headers)), text
    except (OSError, TimeoutError):
        raise OSError("no answer") from None


def pages(monitor: Monitor) -> list[str]:
    """Every address without a variable that can be asked for."""
    runner = monitor.server._runner
    assert runner is not None
    resources = {route.resource for route in runner.app.router.routes() if route.method == "GET"}
    return sorted(resource.canonical for resource in resources if resource is not None and "{" not in resource.canonical)


def token_of(monitor: Monitor) -> str:
    token = monitor.config.web.token
    return "" if token is None else token.reveal()


def _told_of(config: Config) -> str:
    """What somebody who prints it, dumps it or fails with it in his hands would show."""
    try:
        raise ValueError(config, config.model_dump(), [*config.secrets()])
    except ValueError:
        crash = traceback.format_exc()
    return "\n".join([repr(config), str(config), config.model_dump_json(), crash])


class _Planter:
    """Walks the types and the data side by side."""

    def __init__(self, canaries: Canaries, environ: dict[str, str], folder: Path) -> None:
        self.planted: dict[str, str] = {}
        self._canaries = canaries
        self._environ = environ
        self._folder = folder
        self._ways = itertools.cycle(WAYS)

    def section(self, model: type[BaseModel], data: Data, at: str) -> None:
        for name, field in model.model_fields.items():
            inner = [each for each in _models(field.annotation) if any(secret_fields(each))]
            if _is_secret(field.annotation):
                self._put(data, name, f"{at}{name}")
                if "allow_insecure" in model.model_fields:
                    data["allow_insecure"] = True
            elif inner and "kind" in inner[0].model_fields:
                self._channels(inner, data.setdefault(name, []), f"{at}{name}")
            elif inner and get_origin(field.annotation) is tuple:
                for row in data[name]:
                    self._keep(inner[0], row, f"{at}{name}[]")
            elif inner:
                self.section(inner[0], data.setdefault(name, {}), f"{at}{name}.")

    def _keep(self, model: type[BaseModel], row: Data, at: str) -> None:
        """An account: its keys are the exchange's, as unique as ours."""
        for name, field in model.model_fields.items():
            if _is_secret(field.annotation):
                text = self._text(row[name])
                row[name] = self._by_some_way(text)
                self._note(f"{at}.{name}", text)

    def _channels(self, models: list[type[BaseModel]], rows: list[Data], at: str) -> None:
        """What is there, and one of each kind that is not; several of a kind whose fields exclude each other."""
        for model in models:
            kind: str = model.model_fields["kind"].default
            turns = EXCLUSIVE.get(kind, (frozenset(),))
            there = [row for row in rows if row["kind"] == kind]
            spare: list[Data] = [{"kind": kind, "name": f"spare-{kind}-{turn}"} for turn in range(len(turns))]
            if not there:
                rows += spare
            for row, without in zip(there or spare, itertools.cycle(turns), strict=False):
                self._channel(model, row, without, f"{at}[{kind}]")

    def _channel(self, model: type[BaseModel], row: Data, without: frozenset[str], at: str) -> None:
        row["allow_insecure"] = True
        for name, field in model.model_fields.items():
            if name in without:
                continue
            if _is_secret(field.annotation):
                self._put(row, name, f"{at}.{name}", row["kind"])
            elif name.endswith("url"):
                row.setdefault(name, self._canaries.url)
            elif field.is_required() or name == "username":
                row.setdefault(name, "1")

    def _put(self, data: Data, name: str, field: str, kind: str = "") -> None:
        canary = text = self._canaries.canary(name)
        if name.endswith("url"):
            there = urlsplit(self._text(data[name])) if name in data else urlsplit(self._canaries.url)
            text = f"{there.scheme}://{there.netloc}" + ADDRESS.get(kind, f"/{name}/{{}}").format(canary)
        elif name == "bot_token":
            text = f"1234567890:{canary}abc"
        data[name] = self._by_some_way(text)
        self._note(field, canary)

    def _note(self, field: str, canary: str) -> None:
        self.planted[field if field not in self.planted else f"{field}#{len(self.planted)}"] = canary

    def _text(self, given: Any) -> str:
        return self._environ[given["env"]] if isinstance(given, dict) else str(given)

    def _by_some_way(self, text: str) -> Any:
        way, name = next(self._ways), f"CANARY_{len(self._canaries.planted)}_{len(self.planted)}"
        if way == "inline":
            return text
        if way == "env":
            self._environ[name] = text
            return {"env": name}
        path = self._folder / ("credentials" if way == "credential" else "") / name
        path.write_text(text)
        path.chmod(0o600)
        return {way: name if way == "credential" else str(path)}
