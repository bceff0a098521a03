"""Where secrets come from, who may read them, and that no refusal shows one. Modes are judged, not access: root passes too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic_core import PydanticCustomError

from monitor.config import load
from monitor.config_errors import ConfigErrors
from monitor.secret_sources import SIZE_MAX, SecretReader

CANARY = "canary-7f3b9c"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    before = os.umask(0o077)
    yield tmp_path
    os.umask(before)


def _config(folder: Path, account: str, mode: int = 0o600) -> Path:
    path = folder / "config.yaml"
    path.write_text(f"accounts:\n  - name: main-desk\n    venue: binance_usdm\n{account}")
    path.chmod(mode)
    return path


def _refused(reader: SecretReader, value: object) -> tuple[str, str]:
    with pytest.raises(PydanticCustomError) as caught:
        reader(value)
    context = caught.value.context or {}
    return context["problem"], context["hint"]


@pytest.mark.parametrize(
    ("mode", "problem", "why"),
    [
        (0o600, "", "the owner alone"),
        (0o400, "", "the owner alone, who does not write"),
        (0o700, "", "executable, but no one else's"),
        (0o644, "is readable by others (mode 0644)", "the usual default of an editor"),
        (0o640, "is readable by others (mode 0640)", "a group is others too"),
        (0o604, "is readable by others (mode 0604)", "everyone but the group"),
        (0o620, "is open to others (mode 0620)", "who can write can exchange it"),
        (0o601, "is open to others (mode 0601)", "no use, but not private either"),
    ],
)
def test_modes_of_a_secret_file(folder: Path, mode: int, problem: str, why: str) -> None:
    file = folder / "key"
    file.write_text(CANARY + "\n")
    file.chmod(mode)
    reader = SecretReader(environ={}, folder=folder)
    if problem:
        assert _refused(reader, {"file": "key"}) == (f"file {file} {problem}", f"chmod 600 {file}"), why
    else:
        assert reader({"file": "key"}).reveal() == CANARY, why


@pytest.mark.parametrize(
    ("mode", "problem"),
    [
        (0o600, ""),
        (0o400, ""),
        (0o644, "is written in a file that is readable by others (mode 0644)"),
        (0o660, "is written in a file that is readable by others (mode 0660)"),
    ],
)
def test_inline_secrets_need_a_private_configuration(folder: Path, mode: int, problem: str) -> None:
    path = _config(folder, f"    api_key: {CANARY}\n    api_secret: {{env: S}}\n", mode)
    if not problem:
        assert load(path, {"S": "x"}).accounts[0].api_key.reveal() == CANARY
        return
    with pytest.raises(ConfigErrors) as caught:
        load(path, {"S": "x"})
    assert [str(error) for error in caught.value.errors] == [
        f"{path}:4:14: accounts[0].api_key: {problem}. Hint: chmod 600 {path}, or write {{file: /path}} here"
    ]


def test_a_readable_configuration_without_inline_secrets_is_fine(folder: Path) -> None:
    path = _config(folder, "    api_key: {env: K}\n    api_secret: {env: S}\n", 0o644)
    assert load(path, {"K": CANARY, "S": "x"}).accounts[0].api_key.reveal() == CANARY


def test_the_credential_folder_comes_before_the_environment(folder: Path) -> None:
    (folder / "main-desk_api_key").write_text("from the folder".replace(" ", "-") + "\n")
    (folder / "main-desk_api_key").chmod(0o444)  # systemd guards the folder, not the files
    environ = {
        "CREDENTIALS_DIRECTORY": str(folder),
        "MARGIN_MONITOR_MAIN_DESK_API_KEY": "from-the-environment",
        "MARGIN_MONITOR_MAIN_DESK_API_SECRET": "secret-from-the-environment",
    }
    account = load(_config(folder, ""), environ).accounts[0]
    assert account.api_key.reveal() == "from-the-folder"
    assert account.api_secret.reveal() == "secret-from-the-environment"


def test_what_is_written_comes_before_what_is_found(folder: Path) -> None:
    environ = {"MARGIN_MONITOR_MAIN_DESK_API_KEY": "found", "MARGIN_MONITOR_MAIN_DESK_API_SECRET": "s", "K": "written"}
    assert load(_config(folder, "    api_key: {env: K}\n"), environ).accounts[0].api_key.reveal() == "written"


def test_a_default_source_that_is_broken_is_told_not_skipped(folder: Path) -> None:
    (folder / "main-desk_api_key").write_text("\n")
    environ = {
        "CREDENTIALS_DIRECTORY": str(folder),
        "MARGIN_MONITOR_MAIN_DESK_API_KEY": "k",
        "MARGIN_MONITOR_MAIN_DESK_API_SECRET": "s",
    }
    with pytest.raises(ConfigErrors, match=r"config.yaml:2:5: accounts\[0\].api_key: credential main-desk_api_key is empty"):
        load(_config(folder, ""), environ)


@pytest.mark.parametrize(
    ("content", "text", "why"),
    [
        (b"abc\n", "abc", "an editor ends a file with a line break"),
        (b"abc\r\n", "abc", "one of Windows too"),
        (b"abc", "abc", "or does not"),
        (b'a"b{c}$', 'a"b{c}$', "nothing in it is special"),
    ],
)
def test_contents_of_a_file(folder: Path, content: bytes, text: str, why: str) -> None:
    (folder / "key").write_bytes(content)
    assert SecretReader(environ={}, folder=folder)({"file": str(folder / "key")}).reveal() == text, why


@pytest.mark.parametrize(
    ("content", "problem", "why"),
    [
        (b"", "is empty", "an interrupted copy"),
        (b"\n\n", "is empty", "only line breaks"),
        (b"key\nsecret\n", "has line breaks or characters that are not plain ASCII", "both pasted into one file"),
        (b" abc\n", "begins or ends with white space", "pasted with a space"),
        ("schlüssel".encode(), "has line breaks or characters that are not plain ASCII", "no key of any venue"),
        (b"\xff\xfeab", "is not text", "UTF-16"),
        (b"x" * (SIZE_MAX + 1), "has more than 65,536 bytes", "the wrong file"),
    ],
)
def test_files_that_hold_no_secret(folder: Path, content: bytes, problem: str, why: str) -> None:
    file = folder / "key"
    file.write_bytes(content)
    assert _refused(SecretReader(environ={}, folder=folder), {"file": str(file)})[0] == f"file {file} {problem}", why


def test_a_pipe_does_not_hang_the_start(folder: Path) -> None:
    os.mkfifo(folder / "pipe", 0o600)
    problem, _ = _refused(SecretReader(environ={}, folder=folder), {"file": "pipe"})
    assert problem == f"file {folder / 'pipe'} cannot be read: it is not a regular file"


def test_a_path_in_the_home_folder(folder: Path) -> None:
    (folder / "key").write_text(CANARY)
    assert SecretReader(environ={"HOME": str(folder)}, folder=Path("/"))({"file": "~/key"}).reveal() == CANARY


@pytest.mark.parametrize("name", ["../key", "a/b", ".", "..", "a b"])
def test_a_credential_does_not_leave_its_folder(folder: Path, name: str) -> None:
    reader = SecretReader(environ={"CREDENTIALS_DIRECTORY": str(folder)}, folder=folder)
    assert _refused(reader, {"credential": name})[0] == "is not the name of a credential"


def test_a_path_written_as_a_text_is_noticed(folder: Path) -> None:
    (folder / "key").write_text(CANARY)
    reader = SecretReader(environ={}, folder=folder)
    assert _refused(reader, str(folder / "key")) == ("is the path of a file", "write {file: /path}")
    assert reader("/no/such/file").reveal() == "/no/such/file", "a secret may begin with a slash"


LONG_CANARY = "canary" + "X9" * 29  # 64 characters, as Binance's keys


@pytest.mark.parametrize(
    "value",
    [
        {"file": LONG_CANARY},
        {"env": LONG_CANARY},
        {"credential": LONG_CANARY},
        {"file": "https://hooks.slack.com/services/" + LONG_CANARY},
        {LONG_CANARY: None},
        {"file": LONG_CANARY, "env": LONG_CANARY},
        {"file": {"path": LONG_CANARY}},
        {"text": LONG_CANARY},
        [LONG_CANARY],
        LONG_CANARY + "\n",
        " " + LONG_CANARY,
    ],
    ids=str,
)
def test_a_secret_in_the_wrong_place_is_not_shown(folder: Path, value: object) -> None:
    reader = SecretReader(environ={"CREDENTIALS_DIRECTORY": str(folder)}, folder=folder)
    assert "canary" not in "".join(_refused(reader, value))


@pytest.mark.parametrize(
    "text",
    [
        f"accounts:\n  - {{name: {LONG_CANARY}, venue: {LONG_CANARY}, {LONG_CANARY}: 1}}\n",
        f"accounts:\n  - {{name: a, venue: binance_usdm, api_key: {{{LONG_CANARY}, {LONG_CANARY}}}}}\n",
        f"accounts:\n  - {{name: a, venue: binance_usdm, api_key: *{LONG_CANARY}}}\n",
        f"accounts:\n  - {{name: a, venue: binance_usdm, api_key: !{LONG_CANARY} x}}\n",
        f"accounts:\n  - {{name: a, venue: binance_usdm, api_key: '{LONG_CANARY}}}\n",
        f"accounts: {LONG_CANARY}\nlog: {{level: {LONG_CANARY}}}\nmetrics: {{amounts: {LONG_CANARY}}}\n",
        f"{LONG_CANARY}\n",
        f"alerts: {{channels: [{{kind: {LONG_CANARY}}}, {{kind: telegram, bot_token: {LONG_CANARY}}}]}}\n",
        f"alerts: {{channels: [{{kind: webhook, name: a, url: 'ftp://{LONG_CANARY}'}}], page_url: '{LONG_CANARY}'}}\n",
        f"web: {{listen: '{LONG_CANARY}:80', token: [{LONG_CANARY}]}}\n",
        f"accounts:\n  - {{name: a, venue: binance_usdm, api_key: {CANARY}, api_secret: x}}\nlog: {{level: {CANARY}}}\n",
    ],
)
def test_no_error_of_a_whole_file_shows_a_secret(folder: Path, text: str) -> None:
    path = folder / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigErrors) as caught:
        load(path, {})
    assert caught.value.errors
    assert "canary" not in str(caught.value)
    assert "canary" not in repr(caught.value)
