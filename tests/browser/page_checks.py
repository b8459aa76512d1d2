"""Checks of a page in the browser. Each returns sentences about what is wrong, with the element, width and theme."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import BrowserContext, Page

IN_PAGE = Path(__file__).with_name("in_page.js").read_text(encoding="utf-8")
WIDE, NARROW = (1440, 900), (360, 800)
STILL = "*, ::before, ::after { transition: none !important; animation: none !important }"
CONTRAST = ["color-contrast", "link-in-text-block"]  # dear, and a matter of style alone: on samples, in both themes


def cut_network(context: BrowserContext, address: str) -> list[str]:
    """Stop every request that does not go to ``address``; the list returned grows by each one's URL."""
    stopped: list[str] = []

    def stop(route: Any) -> None:
        stopped.append(f"asked for {route.request.url}")
        route.abort()

    context.route(re.compile(f"^(?!{re.escape(address)}|data:|blob:)"), stop)
    return stopped


def watch(page: Page) -> list[str]:
    """The list returned grows by each error of a script and each failed request, from now on."""
    seen: list[str] = []
    page.on("console", lambda message: seen.append(f"console: {message.text}") if message.type == "error" else None)
    page.on("pageerror", lambda error: seen.append(f"error in a script: {error}"))
    page.on("requestfailed", lambda request: seen.append(f"{request.url}: {request.failure}"))
    page.on("response", lambda answer: seen.append(f"{answer.url}: {answer.status}") if answer.status >= 400 else None)
    return seen


def call(page: Page, function: str, *arguments: Any) -> Any:
    values = ", ".join(json.dumps(argument) for argument in arguments)
    return page.evaluate(f"({IN_PAGE}).{function}({values})")


def settle(page: Page) -> None:
    page.wait_for_load_state("networkidle")
    call(page, "settle")


def set_theme(page: Page, theme: str) -> None:
    page.evaluate("theme => Object.assign(document.documentElement.dataset, { theme, mode: theme })", theme)
    call(page, "settle")


def set_size(page: Page, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.wait_for_timeout(400)  # the theme waits 300 ms before it makes boxes that now scroll reachable by key
    call(page, "settle")


def check(context: BrowserContext, url: str) -> list[str]:
    """Open a page and check it: all rules wide and narrow, contrast light and dark, and that markup was read."""
    page = context.new_page()
    faults = watch(page)
    page.goto(url)
    settle(page)
    page.add_style_tag(content=STILL)  # or colours and boxes would be looked at on their way
    page.evaluate(AXE_SCRIPT)
    for theme in ("light", "dark"):
        set_theme(page, theme)
        faults += [f"{WIDE[0]} px, {theme}: {fault}" for fault in contrast(page)]
    faults += [f"{WIDE[0]} px: {fault}" for fault in rules(page)]
    faults += call(page, "markup")
    set_size(page, NARROW)
    faults += [f"{NARROW[0]} px: {fault}" for fault in rules(page)]
    page.close()
    return faults


def contrast(page: Page) -> list[str]:
    return call(page, "axe", "samples", {"runOnly": CONTRAST})


def rules(page: Page) -> list[str]:
    """Everything but contrast: axe-core's other rules, and what sticks out of the window."""
    others = {"rules": {rule: {"enabled": False} for rule in CONTRAST}}
    return call(page, "axe", "page", others) + call(page, "overflow")
