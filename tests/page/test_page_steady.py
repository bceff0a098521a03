"""What a real browser does with a page that changes all the time: presses, focus, refusals, and what a screen reader hears."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from page_kit import OpenPage
from web.conftest import Serve
from web.test_web_desk import DeskView
from web.view_in_memory import NOW_MS, MemoryView, a_pool, an_incident

from monitor.alerts.desk import AlertDesk
from monitor.model.alerts import Acknowledgement, IncidentKey, Level
from monitor.model.figures import PoolKey

ROWS = "document.querySelectorAll('#pools tr.pool').length"
A = PoolKey("binance", "a", "USD")


@pytest.fixture
def view() -> MemoryView:
    view = MemoryView([a_pool("a"), a_pool("b"), a_pool("c", health=1.15, level=4)])
    view.incident_rows = [an_incident(account, id=f"id-{account}") for account in "abc"]
    return view


async def press_over(tab: Any, selector: str, change: Any, changed: str) -> None:
    """Presses the button, lets the figures change, and releases it."""
    box = await tab.page.locator(selector).bounding_box()
    await tab.page.mouse.move(box["x"] + 5, box["y"] + 5)
    await tab.page.mouse.down()
    change()
    await tab.until(changed)
    await tab.page.mouse.up()


async def test_a_level_is_pressed_while_counts_change(serve: Serve, open_page: OpenPage, view: MemoryView) -> None:
    server = await serve(view)
    tab = await open_page(server.url)
    await tab.until(f"{ROWS} === 3")
    critical = "button.level.critical"
    await press_over(
        tab,
        critical,
        lambda: view.change(A, level=4, health=1.16),
        "document.querySelector('button.level.critical').textContent === '2 critical'",
    )
    await tab.until("document.getElementById('filter').value === 'critical'")
    assert await tab.value("document.activeElement.textContent") == "2 critical", "the focus stays"
    view.change(A, level=0, health=3.0)
    view.change(PoolKey("binance", "c", "USD"), level=0, health=3.0)
    await tab.until("document.querySelector('button.level.ok').textContent === '3 ok'")
    assert await tab.value("document.activeElement.textContent") == "0 critical", "a level that empties takes no focus away"
    await tab.page.keyboard.press("Enter")
    await tab.until(f"{ROWS} === 3")
    shown = "[...document.querySelectorAll('button.level')].filter(one => one.checkVisibility()).map(one => one.textContent)"
    await tab.page.locator("#filter").focus()
    view.change(A, level=2, health=1.9)
    await tab.until("document.querySelector('button.level.warning').checkVisibility()")
    assert await tab.value(shown) == ["1 warning", "2 ok"], "levels without a pool are not shown, the others worst first"


async def test_a_button_in_a_row_is_pressed_while_the_row_changes(serve: Serve, open_page: OpenPage, view: MemoryView) -> None:
    """The running time of an acknowledgement stands in the cell of its button."""
    given = Acknowledgement(author="ann", note="", at_ms=NOW_MS, until_ms=NOW_MS + 3_600_000, level=Level.CRITICAL)
    view.incident_rows[1] = msgspec.structs.replace(view.incident_rows[1], acknowledged=given)
    server = await serve(view)
    tab = await open_page(server.url)
    cell = "document.querySelectorAll('#incidents tbody tr')[1].cells[7]"
    await tab.until(f"{cell}?.textContent.includes('60 min more')")
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.method))

    def change() -> None:
        view.clock_ms += 600_000

    await press_over(tab, "#incidents [aria-label^='Take back']", change, f"{cell}.textContent.includes('50 min more')")
    await tab.until("document.querySelector('#incidents .bad') !== null")
    assert "DELETE" in asked, "the press was not lost"


async def test_what_goes_above_leaves_the_rows_below_alone(serve: Serve, open_page: OpenPage, view: MemoryView) -> None:
    server = await serve(view)
    tab = await open_page(server.url)
    await tab.until("document.querySelectorAll('#incidents tbody tr').length === 3")
    await tab.value(
        "window.moved = 0; new MutationObserver(all => all.forEach(one => { window.moved += one.addedNodes.length; }))"
        ".observe(document.querySelector('#incidents tbody'), { childList: true })"
    )
    await tab.page.get_by_role("button", name="Acknowledge: c USD health").focus()
    del view.incident_rows[0]
    await tab.until("document.querySelectorAll('#incidents tbody tr').length === 2")
    assert await tab.value("window.moved") == 0, "rows that stay are not taken out and put back"
    assert await tab.value("document.activeElement.getAttribute('aria-label')") == "Acknowledge: c USD health"


async def test_a_refusal_stands_beside_its_row(serve: Serve, open_page: OpenPage, view: MemoryView) -> None:
    given = Acknowledgement(author="ann", note="", at_ms=NOW_MS, until_ms=NOW_MS + 3_600_000, level=Level.CRITICAL)
    view.incident_rows[1] = msgspec.structs.replace(view.incident_rows[1], acknowledged=given)
    server = await serve(view)
    tab = await open_page(server.url)
    await tab.page.get_by_role("button", name="Take back: the acknowledgement of b USD health").click()
    problem = tab.page.locator("#incidents tr", has_text="b · USD").get_by_role("alert")
    await problem.wait_for()
    assert "this server only shows" in await problem.inner_text()
    assert await tab.page.locator("#incidents").get_by_role("alert").count() == 1, "at no other row"


async def test_a_silence_that_cannot_be_ended_says_why(serve: Serve, open_page: OpenPage, desk: AlertDesk) -> None:
    await desk.silence(IncidentKey("", "", "", "stale", ""), author="bob", note="maintenance", minutes=30)
    server = await serve(DeskView(desk), desk=desk)
    tab = await open_page(server.url)
    button = tab.page.get_by_role("button", name="End: the silence of rule stale")
    await button.wait_for()

    async def cut(route: Any) -> None:
        await (route.abort() if route.request.method == "DELETE" else route.continue_())

    await tab.page.route("**/api/v1/silences/**", cut)
    await button.click()
    problem = tab.page.locator("#silences").get_by_role("alert")
    await problem.wait_for()
    assert "The monitor could not be asked" in await problem.inner_text()
    await tab.page.unroute("**/api/v1/silences/**")
    await button.click()
    await tab.until("document.getElementById('silences-part').hidden")
    assert desk.silences() == []


async def test_the_banner_is_said_once(serve: Serve, open_page: OpenPage, view: MemoryView) -> None:
    """The running time stands outside of what is announced."""
    server = await serve(view)
    tab = await open_page(server.url)
    await tab.until(f"{ROWS} === 3")
    await tab.value(
        "window.said = []; const alert = document.querySelector('#banner [role=alert]');"
        " new MutationObserver(() => window.said.push(alert.textContent))"
        ".observe(alert, { childList: true, characterData: true, subtree: true })"
    )
    await server.stop()
    banner = "document.getElementById('banner').textContent"
    for seconds in (5, 6):
        await tab.until(f"{banner}.includes('For {seconds}.0 s.')", 20)
    assert await tab.value("window.said") == ["Nothing comes from the monitor. The figures below are old."]
    live = "document.getElementById('banner').getAttribute('role') ?? document.getElementById('banner-more').getAttribute('role')"
    assert await tab.value(live) is None


async def test_the_rule_of_an_incident_leads_to_the_runbook(serve: Serve, open_page: OpenPage, view: MemoryView) -> None:
    server = await serve(view)
    tab = await open_page(server.url)
    await tab.page.locator("#incidents").get_by_role("link", name="health").first.click()
    await tab.page.wait_for_url("**/runbook#health")
    assert await tab.value("document.querySelector(':target').id") == "health"
    await tab.until("document.querySelector(':target').getBoundingClientRect().top < innerHeight / 2")
    assert tab.complaints == []
    await tab.page.get_by_role("link", name="Status page").click()
    await tab.until(f"{ROWS} === 3")
