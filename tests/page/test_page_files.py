"""What the files of the page may contain."""

from __future__ import annotations

import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from monitor.model.alerts import Level
from monitor.web.pools import WORST_FIRST
from monitor.web.server import STATIC

BYTES_MAX = 120 * 1024
UNSERVED = {"vendor/README.md"}


@pytest.fixture(scope="module")
def folder(project_root: Path) -> Path:
    return project_root / "monitor" / "web" / "static"


@pytest.fixture(scope="module")
def scripts(folder: Path) -> dict[str, str]:
    """Our own."""
    return {path.name: path.read_text() for path in folder.glob("*.js")}


class Tags(HTMLParser):
    """All start tags of a document."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_is_small_and_whole(folder: Path) -> None:
    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    assert files.keys() == STATIC.keys() | UNSERVED
    assert sum(files.values()) <= BYTES_MAX, files


def test_what_is_vendored_is_what_was_published(folder: Path) -> None:
    """The hashes in vendor/README.md are those of the npm package; a file without one is a stowaway."""
    noted = dict(re.findall(r"^ {4}([0-9a-f]{64})  (\S+)$", (folder / "vendor/README.md").read_text(), re.MULTILINE))
    there = {
        hashlib.sha256(path.read_bytes()).hexdigest(): path.name
        for path in (folder / "vendor").iterdir()
        if path.name != "README.md"
    }
    assert there == noted
    assert "MIT License" in (folder / "vendor/uPlot.LICENSE").read_text()


def test_nothing_inline_and_nothing_from_elsewhere(folder: Path, scripts: dict[str, str]) -> None:
    """The policy forbids inline code; relative addresses let the page live under any prefix of a proxy."""
    for tag, attributes in Tags((folder / "index.html").read_text()).tags:
        assert tag != "style"
        assert tag != "script" or attributes.get("src")
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for address in (attributes.get("src"), attributes.get("href")):
            assert address is None or not re.match(r"/|[a-z]+:", address), address
    for name, text in {**scripts, "app.css": (folder / "app.css").read_text()}.items():
        assert not re.search(r"https?:|//[a-z]+\.", text), name


def test_text_never_becomes_markup(scripts: dict[str, str]) -> None:
    risky = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|createContextualFragment|srcdoc"
        r"|setAttribute\(.style|setAttribute\(.on"
    )
    for name, script in scripts.items():
        assert not re.search(risky, script), name


def test_scripts_and_document_agree(folder: Path, scripts: dict[str, str]) -> None:
    ids = {attributes["id"] for _, attributes in Tags((folder / "index.html").read_text()).tags if "id" in attributes}
    used = {name for script in scripts.values() for name in re.findall(r'byId\("([\w-]+)"\)', script)}
    assert used
    assert used <= ids
    imported = {name for script in scripts.values() for name in re.findall(r'from "\./(\w+\.js)"', script)}
    assert imported | {"app.js"} == scripts.keys(), "no script is left over"


def test_every_level_has_a_button_and_a_look(folder: Path) -> None:
    style = (folder / "app.css").read_text()
    tags = Tags((folder / "index.html").read_text()).tags
    buttons = [attributes["data-level"] for tag, attributes in tags if tag == "button" and "data-level" in attributes]
    assert buttons == [level.word for level in WORST_FIRST], "in the order of the list"
    for level in Level:
        assert f".level.{level.word}, " in style, level
    unknown = re.search(r"\.level\.unknown, [^{]*\{([^}]*)\}", style)
    assert unknown
    assert "repeating-linear-gradient" in unknown[1]
    assert "--ok" not in unknown[1]
