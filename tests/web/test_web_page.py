"""The page: what its files may contain, and what a real browser makes of it."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import aiohttp
import pytest
from web.browser import a_browser
from web.conftest import Serve
from web.view_in_memory import HOSTILE, NOW_MS, MemoryView, a_pool, a_position, an_asset, an_incident, an_unknown_pool

from monitor.model.alerts import ChannelStatus, Level
from monitor.model.streams import StreamStatus
from monitor.web.server import STATIC


@pytest.fixture(scope="module")
def folder(project_root: Path) -> Path:
    return project_root / "monitor" / "web" / "static"


class Tags(HTMLParser):
    """All start tags of a document."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_is_small_and_whole(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == STATIC.keys()
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 60_000


def test_nothing_inline_and_nothing_from_elsewhere(folder: Path) -> None:
    """The policy forbids inline code; relative addresses let the page live under any prefix of a proxy."""
    for tag, attributes in Tags((folder / "index.html").read_text()).tags:
        assert tag != "style"
        assert tag != "script" or attributes.get("src")
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for address in (attributes.get("src"), attributes.get("href")):
            assert address is None or not re.match(r"/|[a-z]+:", address), address
    for name in ("app.js", "app.css"):
        assert not re.search(r"https?:|//[a-z]+\.", (folder / name).read_text()), name


def test_text_never_becomes_markup(folder: Path) -> None:
    script = (folder / "app.js").read_text()
    risky = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|createContextualFragment|srcdoc"
    )
    assert not re.search(risky, script)


def test_script_and_document_agree(folder: Path) -> None:
    ids = {attributes["id"] for _, attributes in Tags((folder / "index.html").read_text()).tags if "id" in attributes}
    used = set(re.findall(r'byId\("([\w-]+)"\)', (folder / "app.js").read_text()))
    assert used
    assert used <= ids


def test_every_level_has_a_rank_and_a_look(folder: Path) -> None:
    script, style = (folder / "app.js").read_text(), (folder / "app.css").read_text()
    ranks = re.search(r"const RANK = \{(.*?)\}", script)
    assert ranks
    assert set(re.findall(r"(\w+):", ranks[1])) == {level.word for level in Level}
    for level in Level:
        assert f".level.{level.word} {{" in style, level
    unknown = re.search(r"\.level\.unknown \{([^}]*)\}", style)
    assert unknown
    assert "repeating-linear-gradient" in unknown[1]
    assert "--ok" not in unknown[1]


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def pools_of_all_kinds() -> MemoryView:
    view = MemoryView(
        [
            a_pool("calm"),
            a_pool(HOSTILE, health=2.2, margin_ratio=1 / 2.2, level=1),
            an_unknown_pool("blind", age_ms=None),
            a_pool(
                "near",
                health=1.004,
                margin_ratio=1 / 1.004,
                level=5,
                positions=(a_position(), a_position(HOSTILE, -2.0, liquidation_price=None, leverage=None)),
                assets=(an_asset(), an_asset("BNB", wallet=-0.5, equity=-0.5, bid=570.0, ask=630.0)),
            ),
            a_pool("gone", equity=-10.0, health=-0.1, margin_ratio=float("inf"), level=6),
            a_pool("flat", requirement=0.0, health=None, margin_ratio=0.0),
        ]
    )
    view.incident_rows = [an_incident("near", Level.EMERGENCY, summary=HOSTILE)]
    view.stream_rows = [StreamStatus(venue="binance", account="", stream="mark_price", up=False, down_reason=HOSTILE)]
    view.channel_rows = [ChannelStatus(name="phone", kind="telegram", broken=HOSTILE, oldest_ms=NOW_MS, pending=1)]
    return view


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: the page is not tried in a browser")
async def test_the_page_in_a_browser(serve: Serve, client: aiohttp.ClientSession, tmp_path: Path) -> None:
    view = pools_of_all_kinds()
    server = await serve(view, event_interval_s=0.1)
    assert BROWSER
    async with a_browser(BROWSER, tmp_path, client) as tab:
        await tab.width(1280)
        await tab.open(server.url)
        await tab.until("document.querySelectorAll('#pools tr.pool').length === 6")

        cells = await tab.value("[...document.querySelectorAll('tr.pool')].map(r => [...r.cells].map(c => c.textContent))")
        assert [row[0] for row in cells] == ["liquidation", "emergency", "unknown", "info", "ok", "ok"], "worst first"
        by_name = {row[1].split(" · ")[0].removesuffix("binance"): row for row in cells}
        assert by_name["near"][2:5] == ["1.004", "99.60 %", "12,000.00USD"], "not rounded to 1.00"
        assert by_name["gone"][2:4] == ["−0.100", "∞"], "no equity left is not 'unknown'"
        assert by_name["flat"][2:4] == ["nothing at risk", "0.00 %"]
        assert by_name["blind"][2:8] == ["unknown"] * 6
        assert HOSTILE in by_name, "a hostile alias is shown as it is"
        assert await tab.value("document.title") == "(1 liquidation) margin-monitor"
        assert not await tab.value("document.body.classList.contains('lost')")

        await tab.value("document.querySelectorAll('button.name')[1].focus()")
        await tab.press("Enter", "\r")
        await tab.until("document.querySelectorAll('tr.detail table')[0].tBodies[0]?.rows.length === 2")
        workings = await tab.value("[...document.querySelectorAll('tr.detail td')].map(c => c.textContent)")
        for shown in ("54,000", "−10.0 %", "0.40 %", "none", HOSTILE, "−315.00USD"):
            assert shown in workings, shown
        assert await tab.value("document.activeElement.getAttribute('aria-expanded')") == "true"
        await tab.press("Enter", "\r")
        await tab.until("!document.querySelector('tr.detail')")

        await tab.width(360)
        assert await tab.value("document.documentElement.scrollWidth") <= 360, "nothing runs out of a phone's screen"
        assert await tab.value("document.querySelectorAll('img, iframe, main script').length") == 0

        view.change(next(key for key in view.figures if key.account == "calm"), level=4, health=1.19)
        await tab.until("document.getElementById('summary').textContent.includes('1 critical')")
        assert tab.complaints == []

        await server.stop()
        banner = "document.getElementById('banner')"
        await tab.until(f"!{banner}.hidden")
        assert "Nothing has come from the monitor" in await tab.value(f"{banner}.textContent")
        assert await tab.value("document.body.classList.contains('lost')")
