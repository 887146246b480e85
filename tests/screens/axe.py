"""Whether everybody can use a page, as axe sees it."""

from playwright.sync_api import Page

from infra.local import web

AXE = web.MODULES / "axe-core" / "axe.min.js"
RULES = "{runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa']}"


def faults_of(page: Page) -> list[str]:
    """Return what axe finds wrong on the page as it is now."""
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate(f"axe.run(document, {RULES})")
    return [
        f"{violation['id']}: {node['target']} {node['failureSummary']}"
        for violation in found["violations"]
        for node in violation["nodes"][:3]
    ]
