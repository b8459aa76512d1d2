"""A chapter in JupyterLab as a reader has it: opened in a browser, all cells run from the menu, a widget used."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import page_checks
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from petl_guide import notebooks

pytestmark = pytest.mark.slow
CHAPTER = "01_a_vit_and_its_sites"  # it needs no records, draws and has widgets
TOKEN = "reader"
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # or only the cells in sight would be in the page
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
SECONDS = 600
ERROR = '[data-mime-type="application/vnd.jupyter.error"]'
FINISHED = f"""() => {{
  const prompts = [...document.querySelectorAll(".jp-CodeCell .jp-InputPrompt")];
  const done = prompts.every((prompt) => /^\\[\\d+\\]:$/.test(prompt.textContent.trim()));
  return document.querySelector('{ERROR}') || (done && prompts.length > 5);
}}"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab that shows the chapter, not executed, and knows nothing of this user's settings."""
    home = tmp_path_factory.mktemp("lab")
    source = notebooks.FOLDER / f"{CHAPTER}.py"
    (home / "notebooks").mkdir()
    notebooks.write(notebooks.read(source), home / "notebooks" / f"{CHAPTER}.ipynb")
    for name, values in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")
    folders = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
    folders |= {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "PETL_RUNS": "runs"}
    environment = {**os.environ, **{key: str(home / name) for key, name in folders.items()}}
    environment |= {"PETL_PROFILE": "smoke", "PETL_RESULTS": "fresh"}
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", "--ServerApp.port=0", "--LabApp.news_url="]
    options += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={home / 'notebooks'}"]
    with (home / "log").open("w") as log:
        command = [sys.executable, "-m", "jupyterlab", *options]
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield address_of(server, home)
    finally:
        server.terminate()
        server.wait(60)


def address_of(server: subprocess.Popen, home: Path) -> str:
    """Where the server listens, once it does."""
    note = home / "runtime" / f"jpserver-{server.pid}.json"
    for _ in range(10 * SECONDS):
        if note.exists() and note.read_text():
            return json.loads(note.read_text())["url"]
        assert server.poll() is None, (home / "log").read_text()
        time.sleep(0.1)
    raise AssertionError(f"JupyterLab does not start: {(home / 'log').read_text()}")


def from_menu(page: Page, menu: str, entry: str) -> None:
    page.locator(".lm-MenuBar-itemLabel", has_text=re.compile(f"^{menu}$")).click()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{entry}$")).click()


def test_a_chapter_runs_in_jupyterlab(lab: str, context: BrowserContext) -> None:
    stopped = page_checks.cut_network(context, lab)
    page = context.new_page()
    page.goto(f"{lab}lab/tree/{CHAPTER}.ipynb?token={TOKEN}")
    expect(page.get_by_text(re.compile(r"\| Idle$"))).to_be_visible(timeout=SECONDS * 1000)  # the kernel, below
    from_menu(page, "Run", "Run All Cells")
    page.wait_for_function(FINISHED, timeout=SECONDS * 1000)
    errors = page.locator(ERROR)
    assert errors.all_inner_texts() == []
    pictures = page.locator(".jp-OutputArea-output img")
    assert pictures.count() >= 2
    assert all(picture.evaluate("image => image.naturalWidth > 100") for picture in pictures.all())
    menu = page.locator(".jupyter-widgets select").first
    box = page.locator(".jp-OutputArea-output", has=menu)
    before = box.inner_html()
    menu.select_option(index=menu.locator("option").count() - 1)
    expect(box).not_to_have_js_property("innerHTML", before)
    assert errors.count() == 0 and stopped == []
