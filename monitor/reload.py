"""The daemon: one run after the other. TERM ends it, HUP reads the configuration again and begins a new run with it."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from enum import Enum, auto
from threading import Thread

import structlog

from monitor.app import Ended, KeyRefusedError, Monitor
from monitor.clock import Clock
from monitor.config import Config
from monitor.descriptors import raise_limit
from monitor.lease import StoreInUseError
from monitor.systemd import ServiceManager

REFUSALS = (OSError, KeyRefusedError, StoreInUseError)  # of a configuration; anything else that ends a run is a bug

log = structlog.get_logger()

LoadAgain = Callable[[], Config]


class Stage(Enum):
    """What the daemon is at. From each it may come to STOPPING, and from there to no other."""

    RUNNING = auto()  # a run begins or goes on
    LOADING = auto()  # it goes on while the new configuration is read
    CHANGING = auto()  # it ends, and the next one will have the new configuration
    STOPPING = auto()  # it ends, and there will be no other


class Daemon:
    """Runs with `config`, then with each that `load_again` gives when it is asked to; raises what ends a run for good.

    A new configuration has to prove itself: until its run has begun and its keys are checked, the last good one comes back into
    force if it is refused. load_again raises ConfigErrors; it is called in a thread.
    """

    def __init__(self, config: Config, load_again: LoadAgain, manager: ServiceManager) -> None:
        self.stage = Stage.RUNNING
        self._good = config
        self._next: Config | None = None  # read, and not yet in force
        self._load_again = load_again
        self._manager = manager
        self._clock = Clock()
        self._loading = asyncio.Lock()  # two at once could end in the wrong order
        self.monitor = self._monitor(config)

    async def run(self) -> None:
        config = self._good
        while self.stage is not Stage.STOPPING:
            problem = ""
            try:
                if await self.monitor.run() is Ended.STOPPED:
                    return
            except Exception as exc:  # noqa: BLE001  raised again unless another configuration may mend it
                problem = self._refusal(config, exc)
            if self.monitor.proven:
                self._good = config
            config, self._next = self._next or (self._good if problem else config), None
            self.monitor = self._monitor(config, problem)
            self._to(Stage.LOADING if self._loading.locked() else Stage.RUNNING)

    def _monitor(self, config: Config, problem: str = "") -> Monitor:
        return Monitor(config, clock=self._clock, reload=self.reload, on_started=self._started, reload_problem=problem)

    def _refusal(self, config: Config, exc: Exception) -> str:
        """Why the last good configuration must come back. Raises what no other configuration can mend."""
        expected = isinstance(exc, REFUSALS)
        if config is self._good or self.monitor.proven or (self.stage is Stage.STOPPING and not expected):
            raise exc
        problem = str(exc) or type(exc).__name__
        log.error("reload_refused", problem=problem, hint="the last good one is in force again", exc_info=not expected)
        return problem

    def stop(self) -> None:
        """Whatever it is at: no other run begins."""
        self._to(Stage.STOPPING)
        self._manager.stopping()
        self.monitor.end(Ended.STOPPED)

    async def reload(self) -> list[str]:
        """Reads the configuration, and lets the run end if it is good. Returns what is wrong with it: then nothing changes."""
        async with self._loading:
            if self.stage is Stage.STOPPING:
                return ["the daemon is stopping"]
            self._to(Stage.LOADING)
            self._manager.reloading()
            try:
                self._next = await _in_a_thread(self._load_again)  # a large file takes seconds
            except Exception as exc:  # noqa: BLE001  whatever is wrong with the new file, the old one stays in force
                log.error("reload_refused", problem=str(exc))
                self.monitor.reload_refused()
                self._to(Stage.RUNNING)
                self._started()
                return str(exc).splitlines()
            log.info("reloading")
            self._to(Stage.CHANGING)
            self.monitor.end(Ended.RELOAD)
            return []

    def _to(self, stage: Stage) -> None:
        if self.stage is not Stage.STOPPING:
            self.stage = stage

    def _started(self) -> None:
        if self.stage is not Stage.STOPPING:
            self._manager.ready()


async def _in_a_thread(load: LoadAgain) -> Config:
    """The end of the process does not wait for the thread: a file on a disk that hangs may never be read."""
    loaded: Future[Config] = Future()
    loaded.set_running_or_notify_cancel()

    def work() -> None:
        try:
            loaded.set_result(load())
        except Exception as exc:  # noqa: BLE001  it goes to who asked
            loaded.set_exception(exc)

    Thread(target=work, name="load-config", daemon=True).start()
    return await asyncio.wrap_future(loaded)


async def run_until_signalled(config: Config, load_again: LoadAgain, environ: Mapping[str, str] = os.environ) -> None:
    """Runs the daemon. TERM and INT end it, HUP loads the configuration again; a bad one changes nothing.

    environ: where the service manager says how to be told.
    """
    raise_limit()
    loop = asyncio.get_running_loop()
    manager = ServiceManager(environ)
    daemon = Daemon(config, load_again, manager)
    reloads: set[asyncio.Task[list[str]]] = set()

    def hang_up() -> None:
        task = loop.create_task(daemon.reload(), name="reload")
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.stop)
    loop.add_signal_handler(signal.SIGHUP, hang_up)
    attending = loop.create_task(manager.attend(lambda: daemon.monitor), name="service-manager") if manager.present else None
    try:
        await daemon.run()
    finally:
        tasks = [*reloads] if attending is None else [*reloads, attending]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
