"""The interactive figures of the built book: each control changes the drawing; without scripts a picture is left."""

from __future__ import annotations

from pathlib import Path

import page_checks
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, expect

FIGURES = {
    "sites": "01_a_vit_and_its_sites",
    "updates": "02_the_methods",
    "counts": "02_the_methods",
    "pairs": "05_different_mistakes",
    "alphas": "08_robustness",
    "choices": "10_which_method_for_me",
}
pytestmark = pytest.mark.slow


def page_of(name: str, address: str) -> str:
    return f"{address}notebooks/{FIGURES[name]}.html"


def choose(control: Locator, place: int) -> None:
    """Choose the option at that place as a reader does: from the menu, or with the keys of the slider."""
    if control.evaluate("element => element.tagName") == "SELECT":
        control.select_option(index=place)
        return
    control.press("Home")
    for _ in range(place):
        control.press("ArrowRight")


def places(control: Locator) -> tuple[int, int]:
    """Where the control stands, and how many options it has."""
    return tuple(
        control.evaluate(
            "e => e.tagName === 'SELECT' ? [e.selectedIndex, e.options.length] : [Number(e.value), Number(e.max) + 1]"
        )
    )


def test_the_pages_have_these_figures_and_no_others(site: Path) -> None:
    found = {
        (part.split('"', 1)[0], path.stem)
        for path in site.glob("notebooks/*.html")
        for part in path.read_text(encoding="utf-8").split('id="figure-')[1:]
    }
    assert found == set(FIGURES.items())


@pytest.mark.parametrize("width", ["wide", "narrow"])
@pytest.mark.parametrize("name", FIGURES)
def test_each_control_changes_the_figure_and_what_it_says(
    name: str, width: str, context: BrowserContext, address: str
) -> None:
    page = context.new_page()
    wide, narrow = page_checks.WIDE, page_checks.NARROW
    page.set_viewport_size(dict(zip(("width", "height"), wide if width == "wide" else narrow, strict=True)))
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(page_of(name, address))
    figure = page.locator(f"#figure-{name}")
    expect(figure).to_have_attribute("data-ready", "yes", timeout=30_000)
    expect(figure.locator("img")).to_be_hidden()
    chart, answer = figure.locator(".petl-chart svg"), figure.locator(".petl-answer")
    drawn, sentence = chart.inner_html(), answer.inner_text()
    assert "undefined" not in sentence and len(sentence) > 20
    controls = figure.locator(".petl-controls select, .petl-controls input")
    assert controls.count() >= 1
    for index in range(controls.count()):
        control = controls.nth(index)
        start, number = places(control)
        seen, words = {drawn}, {sentence}
        for place in (0, number // 2, number - 1, start):
            choose(control, place)
            page.wait_for_timeout(60)  # the drawing follows in the next frame
            seen.add(chart.inner_html())
            words.add(answer.inner_text())
        assert len(seen) > 1 and len(words) > 1, f"{control.get_attribute('name')} changes nothing"
        expect(answer).to_have_text(sentence)  # back at the start
    assert sorted(chart.inner_html().split("<")) == sorted(drawn.split("<"))  # marks may stand in another order
    box, view = figure.bounding_box(), page.viewport_size
    assert box and view and box["x"] >= 0 and box["x"] + box["width"] <= view["width"]
    assert said == []


@pytest.mark.parametrize("name", FIGURES)
def test_without_scripts_there_is_a_picture_and_a_table(name: str, browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(page_of(name, address))
        figure = page.locator(f"#figure-{name}")
        picture = figure.locator("img")
        expect(picture).to_be_visible()
        assert (picture.bounding_box() or {})["width"] > 300 and picture.get_attribute("alt")
        expect(figure.locator(".petl-controls")).to_be_hidden()
        figure.locator("summary").click()
        expect(figure.locator("table")).to_be_visible()
    finally:
        context.close()
