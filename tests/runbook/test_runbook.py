"""Every alert has its entry, and the document and the page are made of the entries."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from monitor.alerts.routes import CHANNEL_RULE, STORE_RULE
from monitor.alerts.text import TEST_RULE
from monitor.rules import RuleBook
from monitor.rules.base import LadderRule
from monitor.runbook.entries import ENTRIES, Entry
from monitor.runbook.render import markdown, page

ANEW = "write it anew: python -m monitor.runbook"
ANCHORS = [name for entry in ENTRIES for name in (entry.anchor, *entry.also)]
RULES = [*RuleBook.model_fields, CHANNEL_RULE, STORE_RULE, TEST_RULE]


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_its_entry(rule: str) -> None:
    assert rule in ANCHORS, f"an alert of {rule} would link to nothing"


def test_every_entry_is_of_a_rule_or_of_an_alert_of_prometheus() -> None:
    assert len(ANCHORS) == len(set(ANCHORS))
    assert [anchor for anchor in ANCHORS if anchor not in RULES and not re.fullmatch(r"Margin[A-Z]\w+", anchor)] == []


def test_every_alert_of_prometheus_links_to_an_entry(project_root: Path) -> None:
    files = sorted((project_root / "deploy" / "prometheus" / "rules").glob("*.yml"))
    assert files
    linked = {anchor for file in files for anchor in re.findall(r"/runbook#(\w+)", file.read_text(encoding="utf-8"))}
    assert linked <= set(ANCHORS)
    named = {anchor for anchor in ANCHORS if anchor not in RULES}
    assert named <= linked, "entries that nothing links to"


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.anchor for entry in ENTRIES])
def test_an_entry_says_what_to_do(entry: Entry) -> None:
    texts = [entry.title, entry.means, entry.sure, *entry.now, *entry.look]
    assert entry.now, "somebody is awake and waits for it"
    assert all(text and text == text.strip() for text in texts)
    assert all(text.count("`") % 2 == 0 for text in texts), "a backtick is not closed"


def test_the_document_is_made_of_the_entries(project_root: Path) -> None:
    assert (project_root / "deploy" / "docs" / "runbook.md").read_text(encoding="utf-8") == markdown(), ANEW


def test_the_page_is_made_of_the_entries(project_root: Path) -> None:
    assert (project_root / "monitor" / "web" / "runbook" / "index.html").read_text(encoding="utf-8") == page(), ANEW


class Outline(HTMLParser):
    """Ids, links, and what a strict content security policy would refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.refused: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given["href"] or ""] if tag == "a" else []
        self.refused += [f"{tag} {name}" for name in given if name == "style" or name.startswith("on")]
        self.refused += [tag] if tag in ("script", "style", "iframe", "object") else []
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_has_each_anchor_and_nothing_that_runs() -> None:
    outline = Outline()
    outline.feed(page())
    assert outline.ids == ANCHORS
    assert outline.refused == []
    assert outline.open == []
    assert {link for link in outline.links if link.startswith("#")} >= {f"#{entry.anchor}" for entry in ENTRIES}
    assert [link for link in outline.links if link.startswith("#") and link[1:] not in ANCHORS] == []


def test_limits_come_from_the_rules() -> None:
    text = markdown()
    for name in RuleBook.model_fields:
        rule = getattr(RuleBook(), name)
        if isinstance(rule, LadderRule):
            assert " · ".join(f"{level.word} {limit:g}" for level, limit in rule.ladder) in text, name


def test_metrics_and_commands_that_it_names_exist(project_root: Path) -> None:
    named = set(re.findall(r"`(margin_\w+)`", markdown()))
    source = "".join(path.read_text(encoding="utf-8") for path in (project_root / "monitor" / "metrics").rglob("*.py"))
    assert {name for name in named if name not in RULES and name.removesuffix("_total") not in source} == set()
