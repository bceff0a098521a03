"""Where secrets come from: the systemd credential folder, a file, the environment; inline only in a file with mode 0600.

A refusal names the source and the fix, never the text.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic_core import PydanticCustomError

from monitor.model.secret import HIDDEN, Secret

KINDS = ("file", "env", "credential")
SIZE_MAX = 64 << 10  # bytes
SHORTEST_HIDDEN = 4  # characters; hiding shorter ones would blot out ordinary words

_FORMS = "write {file: /path}, {env: NAME} or {credential: name}"


class SecretReader:
    """Reads secrets for one load of one configuration. Pass it to pydantic as `context={READER: reader}`.

    environ: the environment; folder: what relative paths start from; inline_refused: why a text in the file itself is refused, as
    (problem, hint), or None where it is allowed.
    """

    def __init__(self, *, environ: Mapping[str, str], folder: Path, inline_refused: tuple[str, str] | None = None) -> None:
        self.environ = environ
        self.folder = folder
        self.inline_refused = inline_refused
        self._read: set[str] = set()

    def __call__(self, value: object) -> Secret:
        """The secret that `value` is or names. Raises PydanticCustomError of type "secret" with `problem` and `hint`."""
        match value:
            case str():
                text, what = self._inline(value), "the text"
            case {"file": str(path), **rest} if not rest and path:
                text, what = self._file(path), f"file {_shown(path)}"
            case {"env": str(name), **rest} if not rest and name:
                text, what = self._environment(name), f"environment variable {_shown(name)}"
            case {"credential": str(name), **rest} if not rest and name:
                text, what = self._credential(name), f"credential {_shown(name)}"
            case dict():
                raise refusal("is not a source of a secret", _FORMS)  # its keys are not shown: one may be the secret
            case bool() | int() | float():
                raise refusal("must be a text", "put it into quotes")
            case _:
                raise refusal("must be a text or the source of one", _FORMS)
        return Secret(self._checked(text, what))

    def default_source(self, alias: str, name: str) -> dict[str, str] | None:
        """Where the secret `name` of an account is kept if the configuration does not say; None if it is in neither place."""
        credential, variable = default_names(alias, name)
        folder = self.environ.get("CREDENTIALS_DIRECTORY")
        if folder and (Path(folder) / credential).is_file():
            return {"credential": credential}
        return {"env": variable} if variable in self.environ else None

    def hide(self, text: str) -> str:
        """`text` without any secret that was read, in case a message quotes one."""
        for secret in sorted(self._read, key=len, reverse=True):
            if len(secret) >= SHORTEST_HIDDEN:
                text = text.replace(secret, HIDDEN)
        return text

    def _inline(self, text: str) -> str:
        self._read.add(text)
        if re.fullmatch(r"\$\w+|\$\{\w+\}", text):
            raise refusal("variables are not filled in here", "write {env: NAME}")
        if text.startswith(("/", "~/", "./")) and self._path(text).is_file():
            raise refusal("is the path of a file", "write {file: /path}")
        if self.inline_refused:
            raise refusal(*self.inline_refused)
        return text

    def _environment(self, name: str) -> str:
        if name not in self.environ:
            raise refusal(f"environment variable {_shown(name)} is not set", "set it, or write {file: /path}")
        return self.environ[name]

    def _credential(self, name: str) -> str:
        folder = self.environ.get("CREDENTIALS_DIRECTORY")
        if not folder:
            problem = "there is no credential folder: $CREDENTIALS_DIRECTORY is not set"
            raise refusal(problem, "run as a systemd service with LoadCredential=, or write {file: /path}")
        if not re.fullmatch(r"[\w.-]{1,255}", name) or name in {".", ".."} or _shown(name) != name:
            raise refusal("is not the name of a credential", "letters, digits, dots, - and _")
        return self._file(str(Path(folder) / name))

    def _file(self, name: str) -> str:
        path = self._path(name)
        shown = path if _shown(name) == name else _shown(name)
        try:
            raw, mode = read_small_file(path, SIZE_MAX)
        except (OSError, ValueError) as exc:
            raise refusal(f"file {shown} cannot be read: {reason(exc)}", "check the path and its owner") from None
        trusted = self.environ.get("CREDENTIALS_DIRECTORY")
        problem = exposed(mode)
        if problem and not (trusted and path.parent == Path(trusted)):  # systemd guards that folder itself
            raise refusal(f"file {shown} {problem}", f"chmod 600 {shown}")
        if len(raw) > SIZE_MAX:
            raise refusal(f"file {shown} has more than {SIZE_MAX:,} bytes", "put the secret there alone, on one line")
        try:
            return raw.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise refusal(f"file {shown} is not text", "put the secret there alone, as plain text") from None

    def _path(self, name: str) -> Path:
        home = self.environ.get("HOME", "")
        return Path(home, name[2:]) if home and name.startswith("~/") else self.folder / name

    def _checked(self, text: str, what: str) -> str:
        self._read.add(text)
        if not text:
            raise refusal(f"{what} is empty", "put the secret there, on one line")
        if text != text.strip():
            raise refusal(f"{what} begins or ends with white space", "remove it")
        if not (text.isascii() and text.isprintable()):
            raise refusal(
                f"{what} has line breaks or characters that are not plain ASCII", "put the secret there alone, on one line"
            )
        return text


def default_names(alias: str, name: str) -> tuple[str, str]:
    """(credential, environment variable) of an account's secret that the configuration leaves out."""
    return f"{alias}_{name}", f"MARGIN_MONITOR_{alias.replace('-', '_')}_{name}".upper()


def exposed(mode: int) -> str:
    """What is wrong with a file's mode if others than its owner can use it, else ""."""
    if mode & 0o044:
        return f"is readable by others (mode {stat.S_IMODE(mode):04o})"
    if mode & 0o033:
        return f"is open to others (mode {stat.S_IMODE(mode):04o})"
    return ""


def read_small_file(path: Path, size_max: int) -> tuple[bytes, int]:
    """(at most size_max + 1 bytes, mode) of a regular file, both of the same opened file. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not hang the start
    with open(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(0, "it is not a regular file")
        return file.read(size_max + 1), mode


def reason(exc: Exception) -> str:
    """The words of an error about a file, without its path."""
    return (exc.strerror if isinstance(exc, OSError) else "") or "not a path"


def refusal(problem: str, hint: str) -> PydanticCustomError:
    context: dict[str, Any] = {"problem": problem, "hint": hint}
    return PydanticCustomError("secret", "{problem}", context)


def _shown(name: str) -> str:
    """The name of a source as it may be shown. What does not look like a name may be the secret itself, in the wrong place."""
    plain = re.fullmatch(r"[\w ./~-]{1,1000}", name) is not None  # no colon: neither an address nor a bot token
    return name if plain and (len(name) <= 24 or re.search(r"[/_.]", name)) else f"({len(name)} characters)"
