"""Bad configurations: all faults at once, each with file, line, column, key, cause and hint, and never a secret."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.config import from_data, load
from monitor.config_errors import ConfigError, ConfigErrors
from monitor.yamlpos import SIZE_MAX

ENVIRON = {
    "KEY": "key-canary-1",
    "SECRET": "sec-canary-1",
    "TOKEN": "123456:" + "t" * 35,
    "HOOK": "http://10.0.0.1/hook-canary",
}
ACCOUNT = "accounts:\n  - {name: main, venue: binance_usdm, api_key: {env: KEY}, api_secret: {env: SECRET}}\n"


def _rows() -> list[tuple[str, str, list[str]]]:
    text = (Path(__file__).parent / "bad_configs.txt").read_text(encoding="utf-8")
    rows = []
    for block in re.split(r"^=== ", text, flags=re.MULTILINE)[1:]:
        why, rest = block.split("\n", 1)
        config, messages = re.split(r"^---\n(?=config\.yaml:)", rest, flags=re.MULTILINE)
        rows.append((why, config, messages.strip().split("\n")))
    return rows


def _errors(path: Path, environ: dict[str, str]) -> tuple[ConfigError, ...]:
    with pytest.raises(ConfigErrors) as caught:
        load(path, environ)
    return caught.value.errors


def _write(folder: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path = folder / "config.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(("why", "config", "messages"), [pytest.param(*row, id=row[0]) for row in _rows()])
def test_each_bad_configuration_says_what_where_and_how_to_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str, config: str, messages: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _write(tmp_path, config)
    errors = _errors(Path("config.yaml"), ENVIRON)
    assert [str(error) for error in errors] == messages, why
    assert all(error.line > 0 and error.column > 0 for error in errors)
    assert "canary" not in str(errors)
    assert "hunter2" not in str(errors)


def test_the_table_is_large_enough_to_mean_something() -> None:
    reasons = [why for why, _, _ in _rows()]
    assert len(reasons) == len(set(reasons)) >= 100


@pytest.mark.parametrize(
    ("content", "messages", "why"),
    [
        (b"", ["config.yaml:1:1: the file is empty"], "no bytes at all"),
        (
            b"\xef\xbb\xbf" + ACCOUNT.encode() + b"lg: {}\n",
            ["config.yaml:3:1: lg: unknown key. Hint: did you mean log?"],
            "a byte-order mark is no fault, and shifts nothing",
        ),
        (
            ACCOUNT.replace("\n", "\r\n").encode() + b"lg: {}\r\n",
            ["config.yaml:3:1: lg: unknown key. Hint: did you mean log?"],
            "lines that end as on Windows count once",
        ),
        (
            ACCOUNT.encode() + b"log: {level: info\x07}\n",
            ["config.yaml:3:18: the character U+0007 is not allowed. Hint: delete it; it may be invisible in the editor"],
            "a control character",
        ),
        (
            b"log: \xff\xfe\n",
            ["config.yaml:1:6: the file is not UTF-8 text. Hint: save it as UTF-8"],
            "not UTF-8",
        ),
        (
            b"#" * (SIZE_MAX + 1),
            [
                "config.yaml:1:1: the file has 1,048,577 bytes, more than 1,048,576. "
                "Hint: a configuration is much smaller: is this the right file?"
            ],
            "too large",
        ),
    ],
)
def test_bytes_that_are_no_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, messages: list[str], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    _write(tmp_path, content)
    assert [str(error) for error in _errors(Path("config.yaml"), ENVIRON)] == messages, why


def test_a_small_file_that_unfolds_into_a_billion_values_is_refused(tmp_path: Path) -> None:
    names = "abcdefghij"
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]" for before, name in pairwise(names)]
    errors = _errors(_write(tmp_path, "\n".join(lines)), {})
    assert [error.problem for error in errors] == ["aliases unfold to more than 250,000 values"]


def test_a_file_that_is_not_there_says_where_one_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "absent.yaml"
    hint = "`margin-monitor init` writes one; config/example.yaml shows every key"
    assert [str(error) for error in _errors(path, {})] == [f"{path}: cannot be read: No such file or directory. Hint: {hint}"]


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    assert [str(error) for error in _errors(tmp_path, {})] == [f"{tmp_path}: cannot be read: Is a directory"]


def test_errors_come_in_the_order_of_the_file_and_as_one_text(tmp_path: Path) -> None:
    path = _write(tmp_path, ACCOUNT + "web: {listen: x}\nlog: {level: x}\nmetrics: {amount: 1}\n")
    with pytest.raises(ConfigErrors) as caught:
        load(path, ENVIRON)
    assert [(error.line, error.key) for error in caught.value.errors] == [
        (3, "web.listen"),
        (4, "log.level"),
        (5, "metrics.amount"),
    ]
    assert str(caught.value).split("\n") == [str(error) for error in caught.value.errors]


def test_data_written_in_python_has_no_lines() -> None:
    with pytest.raises(ConfigErrors, match=r"^accounts: is empty\. Hint: ") as caught:
        from_data({"accounts": []}, {})
    assert caught.value.errors[0].line == 0


@given(
    st.dictionaries(
        st.sampled_from(["accounts", "alerts", "rules", "venues", "web", "store", "metrics", "log", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["name", "venue", "api_key", "rules", "health", "channels", "kind", "listen", "y"]), inner
                )
            ),
            max_leaves=12,
        ),
    )
)
def test_no_data_makes_it_fail_otherwise(data: dict[str, object]) -> None:
    errors: tuple[ConfigError, ...] | None = None
    try:
        from_data(data, {})
    except ConfigErrors as exc:
        errors = exc.errors
    assert errors is None or [error for error in errors if error.problem]
