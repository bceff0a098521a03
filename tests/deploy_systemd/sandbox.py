"""Runs a command under the system-call rules of a unit, without systemd: the same filters, by libseccomp. Standard library only.

    python sandbox.py LIBSECCOMP RULES.json COMMAND...

RULES: {"calls": names that are allowed, "families": of socket(2), "errno": what a refused call answers, 0: the process dies,
"asked": names that are refused without an end, "user": who it is, in a user namespace of its own, or null: who started it}.
Besides the list it does what systemd does for MemoryDenyWriteExecute= and RestrictAddressFamilies= (systemd.exec(5), and
src/shared/seccomp-util.c of systemd), and asks the kernel for the first of them too (PR_SET_MDWE, Linux 6.3).
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import sys
from pathlib import Path

PR_SET_NO_NEW_PRIVS = 38
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
KILL_PROCESS, ALLOW = 0x80000000, 0x7FFF0000
SHM_EXEC = 0o100000
CLONE_NEWUSER = 0x10000000
EQ, MASKED_EQ = 4, 7  # of enum scmp_compare


class Compare(ctypes.Structure):
    """struct scmp_arg_cmp: argument `arg` of the call, compared with datum_a, for MASKED_EQ (argument & datum_a) == datum_b."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def refuse_with(number: int) -> int:
    """SCMP_ACT_ERRNO, or the end of the process for 0."""
    return 0x00050000 | number if number else KILL_PROCESS


class Filter:
    """One seccomp filter; several add up, and the strictest verdict counts."""

    def __init__(self, library: ctypes.CDLL, default: int) -> None:
        self._library = library
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(default)))

    def add(self, action: int, name: str, *compare: Compare) -> None:
        """Names of other architectures, or newer than the library, are left out, as systemd does."""
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            return
        array = (Compare * len(compare))(*compare)
        self._checked(
            self._library.seccomp_rule_add_array(self._context, ctypes.c_uint32(action), number, len(compare), array), name
        )

    def load(self) -> None:
        self._checked(self._library.seccomp_load(self._context), "seccomp_load")

    @staticmethod
    def _checked(answer: int, what: str) -> None:
        if answer:
            raise OSError(-answer, f"{what}: {os.strerror(-answer)}")


def confine(library: ctypes.CDLL, calls: list[str], families: list[int], number: int, asked: list[str]) -> None:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    if prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) and ctypes.get_errno() != errno.EINVAL:
        raise OSError(ctypes.get_errno(), "PR_SET_MDWE")

    memory = Filter(library, ALLOW)
    both = mmap.PROT_WRITE | mmap.PROT_EXEC
    refused = refuse_with(number)
    memory.add(refused, "mmap", Compare(2, MASKED_EQ, both, both))
    memory.add(refused, "mprotect", Compare(2, MASKED_EQ, mmap.PROT_EXEC, mmap.PROT_EXEC))
    memory.add(refused, "pkey_mprotect", Compare(2, MASKED_EQ, mmap.PROT_EXEC, mmap.PROT_EXEC))
    memory.add(refused, "shmat", Compare(2, MASKED_EQ, SHM_EXEC, SHM_EXEC))

    # Comparisons of one rule must all hold, so that "none of these" takes a rule for each of the others.
    sockets = Filter(library, ALLOW)
    for family in sorted({*range(64)} - {*families}):
        sockets.add(refuse_with(errno.EAFNOSUPPORT), "socket", Compare(0, EQ, family, 0))

    allowed = Filter(library, refused)
    for name in calls:
        allowed.add(ALLOW, name)
    if not number:
        for name in asked:
            allowed.add(refuse_with(errno.EPERM), name)
    for one in (memory, sockets, allowed):
        one.load()


def become(user: int) -> None:
    """Somebody without rights (PrivateUsers=): to the files outside still who started it."""
    before = os.getuid()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "user namespaces are not allowed here")
    Path("/proc/self/uid_map").write_text(f"{user} {before} 1")


def main() -> None:
    rules = json.loads(Path(sys.argv[2]).read_text())
    if rules["user"] is not None:
        become(rules["user"])
    confine(ctypes.CDLL(sys.argv[1]), rules["calls"], rules["families"], rules["errno"], rules["asked"])
    os.execv(sys.argv[3], sys.argv[3:])  # noqa: S606  what it is for


if __name__ == "__main__":
    main()
