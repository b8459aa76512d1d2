"""Every page of the built book: links and pictures in its files; errors, requests, layout and access in a browser."""

from __future__ import annotations

import re
from pathlib import Path

import page_checks
import pytest
import site_files
from playwright.sync_api import BrowserContext, expect

pytestmark = pytest.mark.slow
PAGES = site_files.expected_pages()


def report(faults: list[str]) -> None:
    """Fail with one line for each fault, none cut short."""
    if faults:
        pytest.fail("\n".join(faults), pytrace=False)


def test_every_page_is_checked(site: Path) -> None:
    assert site_files.pages(site) == PAGES, "PETL_BOOK is an old book, or there is a page no source promises"


@pytest.mark.parametrize("name", PAGES)
def test_files(name: str, site: Path) -> None:
    faults = site_files.faults(site, name)
    report(faults)


@pytest.mark.parametrize("name", [name for name in PAGES if name != "index.html"])
def test_in_a_browser(name: str, context: BrowserContext, address: str) -> None:
    stopped = page_checks.cut_network(context, address)
    faults = page_checks.check(context, address + name)
    report(stopped + faults)


def test_the_front_page_is_the_introduction(context: BrowserContext, address: str) -> None:
    page = context.new_page()
    page.goto(address)
    page.wait_for_url(re.compile(r"/intro\.html$"))


def test_search_finds_the_chapter_on_methods(context: BrowserContext, address: str) -> None:
    stopped = page_checks.cut_network(context, address)
    page = context.new_page()
    seen = page_checks.watch(page)
    page.goto(address + "search.html")
    page.locator("main input[name=q]").fill("lora")
    page.keyboard.press("Enter")
    expect(page.locator("#search-results a[href*='02_the_methods']").first).to_be_visible()
    report(stopped + seen)


def test_the_theme_button_leads_to_dark_and_is_remembered(context: BrowserContext, address: str) -> None:
    page = context.new_page()
    page.goto(address + "intro.html")
    background = "getComputedStyle(document.body).backgroundColor"
    page.evaluate("localStorage.setItem('mode', 'light')")
    page.reload()
    light = page.evaluate(background)
    button = page.get_by_role("button", name=re.compile("light.dark|color mode|theme", re.IGNORECASE)).first
    for _ in range(3):
        button.click()
        if page.locator("html[data-mode=dark]").count():
            break
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    dark = page.evaluate(background)
    page.reload()
    assert page.evaluate(background) == dark != light
