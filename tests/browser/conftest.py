"""The built site behind a server on this machine, and a headless Chromium that reaches nothing else."""

from __future__ import annotations

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import page_checks
import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from book import build as book
from book import paper as book_print

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
ARGUMENTS += ["--disable-component-update", "--disable-sync", "--disable-quic"]


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 100  # of the usual 5, connections that come at once are left waiting

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a browser hangs up when a page is closed


def serve(folder: Path) -> Iterator[str]:
    """Serve a folder on a free port of this machine; the address, with a slash at its end."""
    server = _Server(("127.0.0.1", 0), functools.partial(_Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built book: the one that the variable PETL_BOOK names, or one built now."""
    if folder := os.environ.get("PETL_BOOK"):
        assert (Path(folder) / "index.html").is_file(), f"PETL_BOOK is {folder}, where no book is: run make book"
        return Path(folder).resolve()
    return book.build(tmp_path_factory.mktemp("site") / "book").parent


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    yield from serve(site)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program; without one the test is skipped, or fails where PETL_REQUIRE_BROWSER is 1."""
    program = book_print.find_browser()
    if program is None:
        why = f"no browser: install Chromium, or name a program like it in the variable {book_print.BROWSER}"
        (pytest.fail if os.environ.get("PETL_REQUIRE_BROWSER") == "1" else pytest.skip)(why)
    return program


@pytest.fixture(scope="module")  # not longer: while it runs no other test could run an event loop of its own
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    width, height = page_checks.WIDE
    opened = browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce")
    opened.set_default_timeout(5 * 60_000)  # a machine that does much else is slow, which is no fault of a page
    yield opened
    opened.close()
