"""The book for paper: one page with all chapters, and a PDF that a Chromium found on this machine makes of it."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

BROWSER = "PETL_BROWSER"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
MACOS = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
ADDRESS = "http://book.invalid/"  # answered from the site's files; nothing is served, nothing else is reached
SECONDS = 900
# On one page with everything in it the theme's sidebars and search lead nowhere; each chapter begins a page.
STYLE = """<style>
.bd-header, .bd-header-article, .bd-sidebar-primary, .bd-sidebar-secondary, .prev-next-area {
  display: none !important;
}
span[id^="document-"] + section > :is(h1, h2, h3) { break-before: page; font-size: 2rem; }
</style>
</head>"""


def print_site(site: Path, page: Path) -> list[str]:
    """Turn a site whose only page is ``page`` into ``index.html`` and, where there is a browser, ``book.pdf``; return
    the names of what there is."""
    text = page.read_text(encoding="utf-8").replace("</head>", STYLE, 1)
    text = re.sub(r"<details(?![^>]*\bopen\b)", "<details open", text)
    (site / "index.html").write_text(text.replace(f'href="{page.name}#', 'href="#'), encoding="utf-8")
    page.unlink()
    if browser := find_browser():
        to_pdf(browser, site, site / "book.pdf")
        return ["index.html", "book.pdf"]
    return ["index.html"]


def find_browser() -> str | None:
    """A Chromium: the environment variable's, or one that is installed."""
    for name in (os.environ.get(BROWSER, ""), *NAMES, str(MACOS)):
        if name and (path := shutil.which(name)):
            return path
    return None


def to_pdf(browser: str, site: Path, target: Path) -> None:
    """Print ``index.html`` of ``site`` to ``target``; RuntimeError with the browser's words if it does not."""
    from playwright.sync_api import Error, Route, sync_playwright

    def answer(route: Route) -> Any:
        file = site / route.request.url.removeprefix(ADDRESS).partition("?")[0]
        return route.fulfill(path=file) if file.is_file() else route.abort()

    try:
        with sync_playwright() as playwright:
            # The page is our own, and sandboxes need rights that containers do not give.
            running = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
            page = running.new_page()
            page.set_default_timeout(SECONDS * 1000)
            page.route("**/*", answer)
            page.goto(f"{ADDRESS}index.html")
            page.evaluate("() => window.MathJax?.startup?.promise?.then(() => null)")  # until the formulas are set
            page.pdf(path=target, prefer_css_page_size=True, print_background=True, tagged=True, outline=True)
            running.close()
    except Error as error:
        raise RuntimeError(f"{browser} made no PDF:\n{error}") from error
