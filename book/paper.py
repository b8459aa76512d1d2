"""The book for paper: one page with all chapters, and a PDF that a Chromium found on this machine makes of it."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from book.site import first_page

BROWSER = "PETL_BROWSER"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
MACOS = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
SECONDS = 900
# On one page with everything in it the theme's sidebars and search lead nowhere; each chapter begins a page.
STYLE = """<style>
.bd-header, .bd-header-article, .bd-sidebar-primary, .bd-sidebar-secondary, .prev-next-area {
  display: none !important;
}
span[id^="document-"] + section > :is(h1, h2, h3) { break-before: page; font-size: 2rem; }
</style>
</head>"""


def print_site(site: Path) -> list[str]:
    """Turn a site of one page into ``index.html`` and, where there is a browser, ``book.pdf``; return their names."""
    page = first_page(site)
    assert page is not None, "Jupyter Book's index.html leads to the page"
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
    with served(site) as address, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            browser,
            "--headless",
            "--no-sandbox",  # the page is our own, and sandboxes need rights that containers do not give
            "--disable-gpu",
            f"--user-data-dir={profile}",  # not the reader's own, which may be in use
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--no-pdf-header-footer",
            "--generate-pdf-document-outline",
            "--virtual-time-budget=120000",  # until the formulas are set
            f"--print-to-pdf={target}",
            f"{address}/index.html",
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"{browser} made no PDF within {SECONDS} s") from error
    if done.returncode or not target.is_file():
        raise RuntimeError(f"{browser} made no PDF:\n{done.stderr}")


@contextmanager
def served(site: Path) -> Iterator[str]:
    """Serve a folder on the loopback interface for a while; the address."""
    handler = functools.partial(_Quiet, directory=str(site))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Say nothing."""
