"""A browser window as somebody of the day shift has it: at night the screens go dark by themselves, tests and pictures must not."""

from playwright.sync_api import Browser, BrowserContext

BY_DAY = "localStorage.getItem('wardstream.look') ?? localStorage.setItem('wardstream.look', '{\"shade\": \"day\"}')"


def window(browser: Browser, *, width: int, height: int, locale: str, has_touch: bool = False) -> BrowserContext:
    """Return a new window of this size, bright until somebody switches it to night."""
    context = browser.new_context(viewport={"width": width, "height": height}, locale=locale, has_touch=has_touch)
    context.add_init_script(BY_DAY)
    return context
