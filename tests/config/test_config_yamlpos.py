"""YAML with positions: it never fails, reads JSON as JSON means it, and knows where everything stands."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from monitor.yamlpos import Path, Place, read_yaml, scalar_hint, shown_key

TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Co", "Cn"], exclude_characters="\ufeff\u2028\u2029\x85"),
    max_size=12,
)
DATA = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: "e" not in repr(number))
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT.filter(lambda key: len(key) <= 12), inner, max_size=4),
    max_leaves=20,
)


@given(st.binary(max_size=200) | st.text(st.sampled_from("ab:-[]{}&*!|>'\"%@`#?, \n\t<~"), max_size=60).map(str.encode))
@example(b"[" * 5000)
@example(b"- " * 5000)
@example(b"&a [*a, *a]")
@example(b"? ? ? a")
@example(b'"\\ud800"')
def test_no_bytes_make_it_raise(raw: bytes) -> None:
    document = read_yaml(raw)
    assert document.value is not None or document.problems or raw.strip()
    assert all(problem.place.line >= 1 and problem.place.column >= 1 and problem.problem for problem in document.problems)


@given(DATA)
def test_json_is_read_as_json_means_it(data: Any) -> None:
    document = read_yaml(json.dumps({"root": data}, ensure_ascii=False).encode())
    assert document.problems == []
    assert document.value == {"root": data}
    assert repr(document.value) == repr({"root": data}), "1, 1.0 and true are three values"


@given(DATA)
def test_every_key_stands_where_it_is_said_to(data: Any) -> None:
    text = json.dumps({"root": data}, ensure_ascii=False, indent=1)
    document = read_yaml(text.encode())
    lines = text.split("\n")
    for path, place in document.keys.items():
        assert lines[place.line - 1][place.column - 1 :].startswith(json.dumps(path[-1], ensure_ascii=False) + ":")
    for path, place in document.values.items():
        first = json.dumps(_at(document.value, path), ensure_ascii=False, indent=1)[0]
        assert lines[place.line - 1][place.column - 1] == first


def _at(value: Any, path: Path) -> Any:
    for part in path:
        value = value[part]
    return value


@pytest.mark.parametrize(
    ("written", "value", "why"),
    [
        ("true", True, "a boolean"),
        ("True", True, "as Python writes it"),
        ("yes", "yes", "a text: only YAML 1.1 thinks otherwise"),
        ("off", "off", "a text"),
        ("~", None, "nothing"),
        ("", None, "nothing at all"),
        ("null", None, "nothing"),
        ("0", 0, "a number"),
        ("-12", -12, "a number"),
        ("1.50", 1.5, "a number"),
        (".5", 0.5, "a number"),
        ("1e3", 1000.0, "a number, though YAML 1.1 thinks a text"),
        ("1_000", "1_000", "a text"),
        ("0o17", "0o17", "a text"),
        ("017", "017", "a text: is it 15 or 17?"),
        ("0x1F", "0x1F", "a text"),
        (".inf", ".inf", "a text"),
        ("-.INF", "-.INF", "a text"),
        (".nan", ".nan", "a text"),
        ("1e999", "1e999", "a text: no float holds it"),
        ("1234567890123456789012345", "1234567890123456789012345", "a text: an identifier"),
        ("12:30:45", "12:30:45", "a text: YAML 1.1 would count to 60"),
        ("2024-01-02", "2024-01-02", "a text, no date"),
        ("１２", "１２", "a text: full-width digits"),
        ("٣", "٣", "a text: Arabic digits"),
        ("'1'", "1", "quotes make a text"),
        ('"true"', "true", "quotes make a text"),
        ("|\n  1\n", "1\n", "a block is a text"),
        ("=", "=", "no value type of YAML 1.1"),
    ],
)
def test_what_a_scalar_is(written: str, value: Any, why: str) -> None:
    document = read_yaml(f"a: {written}".encode())
    assert document.problems == [], why
    assert repr(document.value) == repr({"a": value}), why


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("yes", "write true"),
        ("Off", "write false"),
        ("1_000", "write 1000"),
        ("1_000.5", "write 1000.5"),
        ("0o17", "write 15, in decimal"),
        ("0x1F", "write 31, in decimal"),
        ("-017", "write -17, without leading zeros"),
        ("1.5", "write it without quotes"),
        ("-.inf", "write a finite number"),
        ("1e999", "write a smaller number"),
        ("5%", "write a fraction: 5 % is 0.05"),
        ("1,5", "write digits 0 to 9 and, if need be, a decimal point"),
        ("high", ""),
        ("", ""),
    ],
)
def test_what_to_write_instead(text: str, hint: str) -> None:
    assert scalar_hint(text) == hint


@given(st.text(max_size=30))
def test_a_hint_is_found_for_any_text(text: str) -> None:
    scalar_hint(text)


def test_all_duplicates_are_found_and_the_first_is_kept() -> None:
    document = read_yaml(b"a: 1\nb: {c: 1, c: 2}\na: 3\na: 4\n")
    assert document.value == {"a": 1, "b": {"c": 1}}
    assert [(it.key, it.place, it.problem) for it in document.problems] == [
        (("b", "c"), Place(2, 11), "the key c is given twice, first in line 2"),
        (("a",), Place(3, 1), "the key a is given twice, first in line 1"),
        (("a",), Place(4, 1), "the key a is given twice, first in line 1"),
    ]


def test_a_place_of_what_is_absent_is_its_nearest_parent() -> None:
    document = read_yaml(b"a:\n  b: [1, 2]\n")
    assert document.place(("a", "b", 1)) == Place(2, 10)
    assert document.place(("a", "b", 7, "c")) == Place(2, 6)
    assert document.place(("x",)) == Place(1, 1)
    assert document.key_place(("a", "b")) == Place(2, 3)


@pytest.mark.parametrize(
    ("key", "shown"),
    [("api_key", "api_key"), ("x" * 33, "(33 characters)"), ("a:b/c", "(5 characters)"), ("", "(0 characters)")],
)
def test_a_key_that_may_be_a_secret_is_not_shown(key: str, shown: str) -> None:
    assert shown_key(key) == shown
