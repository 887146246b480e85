"""A browser window as somebody of the day shift has it, and the scanner beside it.

At night the screens go dark by themselves, tests and pictures must not.
"""

import time

from playwright.sync_api import Browser, BrowserContext, Page

BY_DAY = "localStorage.getItem('wardstream.look') ?? localStorage.setItem('wardstream.look', '{\"shade\": \"day\"}')"


def window(browser: Browser, *, width: int, height: int, locale: str, has_touch: bool = False) -> BrowserContext:
    """Return a new window of this size, bright until somebody switches it to night."""
    context = browser.new_context(viewport={"width": width, "height": height}, locale=locale, has_touch=has_touch)
    context.add_init_script(BY_DAY)
    return context


SCANNER_GAP_SECONDS = 0.005


def scan(page: Page, text: str) -> None:
    """Scan a code: a burst of keys that ends with Enter, each stamped as the scanner sent it, however late it is handled."""
    session = page.context.new_cdp_session(page)
    began = time.time()
    for number, key in enumerate([*text, "Enter"]):
        typed = {"key": key, "text": "\r" if key == "Enter" else key, "timestamp": began + number * SCANNER_GAP_SECONDS}
        session.send("Input.dispatchKeyEvent", {"type": "keyDown", **typed})
        session.send("Input.dispatchKeyEvent", {"type": "keyUp", "key": key, "timestamp": typed["timestamp"]})
    session.detach()
