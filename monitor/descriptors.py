"""How many files and sockets this process may have open at once."""

from __future__ import annotations

import contextlib
import resource

import structlog

WANTED_MAX = 1 << 16  # where the system names no limit of its own

log = structlog.get_logger(__name__)


def raise_limit() -> int:
    """Asks for all that the system allows: the usual limit of 1,024 is no more than a default. Returns what there is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_MAX if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # some systems have a lower bound that they do not name
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            log.info("descriptors_raised", before=soft, now=wanted)
    return descriptors_max()


def descriptors_max() -> int:
    """The limit in force."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else WANTED_MAX
