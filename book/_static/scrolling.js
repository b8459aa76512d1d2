// A box that scrolls sideways can be reached with the Tab key, scrolled with the arrows, and says what it is.
(() => {
  const KINDS = {
    pre: "code",
    "mjx-container[display]": "formula",
    ".cell_output": "figure",
    ".cell_output > .output": "output",
    ".pst-scrollable-table-container": "table",
  };

  function update() {
    for (const [selector, kind] of Object.entries(KINDS)) {
      for (const box of document.querySelectorAll(selector)) {
        if (box.scrollWidth > box.clientWidth && getComputedStyle(box).overflowX !== "visible") {
          box.tabIndex = 0;
          if (!box.hasAttribute("role")) box.setAttribute("role", "group");
          box.setAttribute("aria-label", `${kind}, scrolls sideways`);
          box.dataset.scrolls = "";
        } else if ("scrolls" in box.dataset) {
          for (const name of ["tabindex", "role", "aria-label", "data-scrolls"]) box.removeAttribute(name);
        }
      }
    }
  }

  let waiting;
  function soon() {
    clearTimeout(waiting);
    waiting = setTimeout(update, 350); // after the theme, which does half of this, 300 ms after a change
  }

  addEventListener("load", () => {
    update();
    window.MathJax?.startup?.promise.then(update);
    new ResizeObserver(soon).observe(document.body);
    addEventListener("toggle", soon, true); // what was folded has had no size until now
  });
})();
