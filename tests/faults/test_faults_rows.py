"""The catalogue is whole: each of its 54 rows has a test, by its name, and the table knows each by its title."""

from __future__ import annotations

import re
from pathlib import Path

from faults_table import ELSEWHERE, ROWS, STANDS_IN, WITHOUT, Result, Table
from faults_witness import SIGNS


def rows_in(*folders: str) -> set[int]:
    tests = Path(__file__).resolve().parent.parent
    texts = [path.read_text() for folder in folders for path in (tests / folder).glob("test_*.py")]
    return {int(number) for text in texts for number in re.findall(r"^(?:async )?def test_row_(\d\d)_", text, re.MULTILINE)}


def test_every_row_has_a_test() -> None:
    assert rows_in("faults", "faults_out", "soak") == set(ROWS) == set(range(1, 55))
    assert rows_in("soak") == set(ELSEWHERE)


def test_what_is_said_of_rows_is_said_of_rows_that_are_there() -> None:
    assert set(WITHOUT) | set(STANDS_IN) <= set(ROWS)
    assert all(set(signs) <= set(SIGNS) for signs in WITHOUT.values())


def test_a_whole_run_is_told_what_it_did_not_look_at() -> None:
    table = Table(None)
    for row in set(ROWS) - set(ELSEWHERE):
        table._results[row]["test"] = Result("test", "ok", [sign for sign in SIGNS if sign not in WITHOUT.get(row, {})], "–")
    assert table._lacking() == []
    table._results[7]["test"].saw.remove("metric")
    assert table._lacking() == ["row 7: no test looks at its metric"]
    table._results[7]["another"] = Result("another", "ok", ["metric"], "–")
    assert table._lacking() == [], "any test of the row will do"
    del table._results[12]
    assert table._lacking() == [], "a part of the catalogue is not judged"
