// Functions that page_checks.py runs inside a page.
({
  // A short way to say which element is meant: "main > div.cell_output > table", with the first words of its text.
  name(element) {
    const steps = [];
    for (let at = element; at && at !== document.body && steps.length < 4; at = at.parentElement) {
      const classes = [...at.classList].slice(0, 2).map((word) => "." + word).join("");
      steps.unshift(at.tagName.toLowerCase() + (at.id ? "#" + at.id : classes));
      if (at.id) break;
    }
    const words = (element.textContent || "").trim().replace(/\s+/g, " ").slice(0, 40);
    return steps.join(" > ") + (words ? ` ("${words}")` : "");
  },

  visible(element) {
    if (!element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) return false;
    for (let at = element; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      const box = at.getBoundingClientRect();
      if (style.clip !== "auto" || style.clipPath !== "none") return false; // only for screen readers
      if (style.overflow === "hidden" && (box.width <= 1 || box.height <= 1)) return false;
    }
    return true;
  },

  // The nearest box around an element that scrolls sideways by itself or, with an ellipsis, says that it cuts.
  scroller(element) {
    for (let at = element; at && at !== document.body; at = at.parentElement) {
      const style = getComputedStyle(at);
      if (["auto", "scroll"].includes(style.overflowX)) return at;
      if (style.overflowX === "hidden" && style.textOverflow === "ellipsis") return at;
    }
    return null;
  },

  // Every visible text node with its element, and every visible picture.
  *shown() {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const element = walker.currentNode.parentElement;
      if (!walker.currentNode.data.trim() || ["SCRIPT", "STYLE", "NOSCRIPT"].includes(element.tagName)) continue;
      const range = document.createRange();
      range.selectNodeContents(walker.currentNode);
      yield [element, range.getBoundingClientRect()];
    }
    for (const element of document.querySelectorAll("img, svg, canvas, video, input, button")) {
      yield [element, element.getBoundingClientRect()];
    }
  },

  // What sticks out of the window sideways, boxes that scroll by themselves excepted.
  overflow() {
    const faults = new Set();
    const wide = document.scrollingElement.scrollWidth;
    if (wide > innerWidth) faults.add(`the page is ${wide} px wide`);
    for (const [element, box] of this.shown()) {
      if (!box.width || (box.right <= innerWidth + 1 && box.left >= -1)) continue;
      if (this.scroller(element) || !this.visible(element)) continue;
      faults.add(`from ${Math.round(box.left)} to ${Math.round(box.right)} px: ${this.name(element)}`);
    }
    return [...faults].slice(0, 12);
  },

  // Formulas that MathJax could not set, and signs of Markdown or LaTeX in the text, which mean that it was not read.
  markup() {
    const faults = [...document.querySelectorAll("mjx-merror")].map((error) => `not a formula: ${this.name(error)}`);
    const sign = /\$\$|\\[a-zA-Z]{2,}|`|\*\*|\]\(|\{(ref|cite|numref|doc|term)/;
    for (const [element] of this.shown()) {
      if (element.closest("pre, code, kbd, mjx-container, img, svg, canvas, input, button")) continue;
      const text = [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE).map((node) => node.data);
      if (sign.test(text.join(" "))) faults.push(`markup in the text: ${this.name(element)}`);
    }
    return [...new Set(faults)].slice(0, 12);
  },

  // One element for each combination of text colour, size, weight and backgrounds: contrast depends on nothing else.
  samples() {
    const found = new Map();
    for (const [element] of this.shown()) {
      const style = getComputedStyle(element);
      const key = [style.color, style.fontSize, style.fontWeight, style.textDecorationLine];
      for (let at = element; at; at = at.parentElement) {
        const { backgroundColor, backgroundImage, opacity } = getComputedStyle(at);
        key.push(backgroundColor, backgroundImage, opacity);
        if (backgroundColor.startsWith("rgb(")) break; // opaque: what is behind does not matter
      }
      if (!found.has(key.join()) && this.visible(element)) found.set(key.join(), element);
    }
    return [...found.values()];
  },

  // Wait for fonts and formulas, then two frames.
  async settle() {
    await document.fonts.ready;
    if (window.MathJax?.startup?.promise) await window.MathJax.startup.promise;
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  },

  // axe-core's violations that are serious or critical, one line for each element.
  async axe(what, options) {
    const context = what === "samples" ? { include: this.samples() } : document;
    const { violations } = await axe.run(context, { resultTypes: ["violations"], preload: false, ...options });
    const grave = violations.filter((found) => ["serious", "critical"].includes(found.impact));
    return grave.flatMap(({ id, impact, nodes }) =>
      nodes.map(({ target, any, all, none }) => {
        const why = [...any, ...all, ...none][0]?.message ?? "";
        return `${id} (${impact}): ${target.join(" ")}: ${why}`;
      })
    );
  },
})
