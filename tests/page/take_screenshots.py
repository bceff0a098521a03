"""Pictures of the page for the README: the demo, as a newcomer starts it, in a real Chromium.

Argument: the folder to write to.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from page_kit import FLAGS
from playwright.sync_api import Browser, Page, sync_playwright

WATCHED_S = 75  # so long the crash is watched at most
POOL = "#htx_coin_futures/htx/BTC"


def main(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    nowhere = subprocess.DEVNULL
    demo = subprocess.Popen([sys.executable, "-m", "monitor", "demo", "--listen", address], stdout=nowhere, stderr=nowhere)
    try:
        with sync_playwright() as playwright:
            chromium = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
            _take(browser, f"http://{address}/", folder)
            browser.close()
    finally:
        demo.terminate()
        demo.wait()


def _take(browser: Browser, url: str, folder: Path) -> None:
    page = _open(browser, url, width=1280, height=1010, scheme="light")
    page.wait_for_selector("#pools .level.emergency", timeout=1000 * WATCHED_S)
    _acknowledge(page)
    page.wait_for_timeout(1500)
    page.screenshot(path=folder / "page.png")
    pool = _open(browser, url + POOL, width=1280, height=1010, scheme="dark")
    pool.wait_for_selector("#pool-chart canvas >> nth=1")
    pool.wait_for_timeout(2500)
    pool.screenshot(path=folder / "page-pool.png")
    phone = _open(browser, url, width=360, height=760, scheme="light", device_scale_factor=2)
    phone.wait_for_timeout(1500)
    phone.screenshot(path=folder / "page-phone.png")


def _open(browser: Browser, url: str, *, width: int, height: int, scheme: Any, device_scale_factor: float = 1) -> Page:
    page = browser.new_page(
        viewport={"width": width, "height": height}, color_scheme=scheme, device_scale_factor=device_scale_factor
    )
    for _ in range(100):
        try:
            page.goto(url)
            break
        except Exception:  # noqa: BLE001  the demo is still starting
            page.wait_for_timeout(200)
    page.wait_for_selector("#pools tr.pool")
    return page


def _acknowledge(page: Page) -> None:
    page.get_by_role("button", name="Acknowledge: binance USD health").click()
    page.get_by_label("Your name").fill("ann")
    page.get_by_label("Note").fill("watching BTC")
    page.get_by_role("dialog").get_by_role("button", name="Acknowledge").click()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
