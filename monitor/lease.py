"""One instance per store: two would send every alert twice, and each would overwrite what the other knows."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

log = structlog.get_logger()


class StoreInUseError(Exception):
    """Another instance works on the store; the text says which."""


class Lease:
    """A lock on the file `<store>.lock`, held from `with` to its end or to the death of the process, however it dies.

    The file itself stays: whoever deleted it could let a third instance in. store: the file of the store; ":memory:" is nobody
    else's.
    """

    def __init__(self, store: Path) -> None:
        self.path = None if str(store) == ":memory:" else Path(f"{os.path.realpath(store)}.lock")  # a link is the same store
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        """Raises StoreInUseError. A folder that cannot hold the lock does not keep us from watching: it is logged."""
        if self.path is not None:
            try:
                self._take(self.path)
            except OSError as exc:
                log.warning("lease_not_taken", file=str(self.path), problem=exc.strerror or str(exc))
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _take(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # as the store makes it
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
            os.close(descriptor)
            process = f"process {holder}" if holder.isdigit() else "another process"
            raise StoreInUseError(f"{process} already works on the store {str(path).removesuffix('.lock')}") from None
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor  # from here on it is ours, whether or not the disk has room for our number
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
