"""A real Chromium, driven by Playwright, that keeps what it complains about."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # as root in a container there is none; the pages are our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# When the first pool was on the screen, in ms since the page was asked for.
FIRST_DATA = """
new MutationObserver((_, watching) => {
  if (!document.querySelector("#pools tr.pool")) return;
  window.firstDataMs = performance.now();
  watching.disconnect();
}).observe(document, { childList: true, subtree: true });
"""


class Tab:
    """One page. `complaints`: what the console said above a note, violations of the policy and uncaught errors included."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", lambda message: self._heard(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning", "assert"):
            self.complaints.append(text)

    async def value(self, expression: str) -> Any:
        return await self.page.evaluate(expression)

    async def until(self, expression: str, seconds: float = 15.0) -> None:
        """Waits until an expression is true in the page."""
        await self.page.wait_for_function(f"() => {expression}", timeout=1000 * seconds, polling=25)

    async def texts(self, selector: str) -> list[str]:
        return await self.page.locator(selector).all_inner_texts()


OpenPage = Callable[..., Awaitable[Tab]]


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where it is. Under CI its absence is a failure."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found:
        return found
    reason = "no Chromium: install the package chromium"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
async def open_page(chromium: str) -> AsyncIterator[OpenPage]:
    """`await open_page(url, width=1280, scheme="light", …)`; further arguments are those of Playwright's new_context."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))

        async def open_one(url: str, *, width: int = 1280, height: int = 1000, scheme: Any = "light", **context: Any) -> Tab:
            viewport: Any = {"width": width, "height": height}
            page = await (await browser.new_context(viewport=viewport, color_scheme=scheme, **context)).new_page()
            await page.add_init_script(FIRST_DATA)
            tab = Tab(page)
            await page.goto(url)
            return tab

        yield open_one
        await browser.close()
