// Interactive figures: each holds its answers, computed beforehand, and is drawn by Vega-Lite. Without this script a
// reader sees the picture and the table that are in the page already.
(() => {
  const here = document.currentScript.src;

  function library() {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = new URL("vega.js", here);
      script.onload = () => resolve(window.vegaEmbed);
      script.onerror = () => reject(new Error(`${script.src} does not load`));
      document.head.append(script);
    });
  }

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(plain).text());
  }

  // A menu for names, a slider for numbers; both call `changed` with the place of the option.
  function control({ name, options, start }, id, changed) {
    const label = document.createElement("label");
    const word = document.createElement("span");
    word.textContent = name.replaceAll("_", " ");
    const first = options.findIndex(([value]) => value === start);
    const slider = typeof start === "number";
    const input = document.createElement(slider ? "input" : "select");
    input.id = id;
    input.name = name;
    label.append(word, input);
    if (slider) {
      const shown = document.createElement("output");
      const tell = () => {
        shown.textContent = options[input.value][1];
        input.setAttribute("aria-valuetext", options[input.value][1]);
      };
      Object.assign(input, { type: "range", min: 0, max: options.length - 1, step: 1, value: first });
      label.append(shown);
      tell();
      input.addEventListener("input", tell);
    } else {
      input.append(...options.map(([, text], index) => new Option(text, index, index === first, index === first)));
    }
    input.addEventListener("input", () => changed(Number(input.value)));
    return label;
  }

  async function draw(figure, vegaEmbed) {
    const { controls, sentences, spec } = await unpack(figure.querySelector(".petl-data").textContent);
    const picture = figure.querySelector(".petl-picture");
    const image = picture.querySelector("img");
    const chart = document.createElement("div");
    chart.className = "petl-chart";
    chart.setAttribute("role", "img");
    chart.setAttribute("aria-label", image.alt);
    image.hidden = true;
    picture.append(chart);
    const options = { renderer: "svg", actions: false, ast: false, config: { aria: false } };
    let view;
    try {
      ({ view } = await vegaEmbed(chart, spec, options));
    } catch (error) {
      chart.remove();
      image.hidden = false;
      throw error;
    }
    chart.querySelector("svg").setAttribute("aria-hidden", "true"); // the box around it says what it shows
    const answer = figure.querySelector(".petl-answer");
    const chosen = controls.map(({ options, start }) => options.findIndex(([value]) => value === start));
    const say = () => {
      answer.innerHTML = sentences[chosen.reduce((at, index, i) => at * controls[i].options.length + index, 0)];
    };
    const form = figure.querySelector(".petl-controls");
    form.addEventListener("submit", (event) => event.preventDefault());
    controls.forEach((one, index) => {
      if (one.options.length < 2) return;
      const changed = (choice) => {
        chosen[index] = choice;
        view.signal(`chosen_${one.name}`, one.options[choice][0]).runAsync();
        say();
      };
      form.append(control(one, `${figure.id}-${one.name}`, changed));
    });
    say();
    form.hidden = answer.hidden = false;
    figure.dataset.ready = "yes";
  }

  async function start() {
    const figures = [...document.querySelectorAll(".petl-figure")];
    if (!figures.length || !("DecompressionStream" in window)) return;
    const vegaEmbed = await library();
    await Promise.all(figures.map((figure) => draw(figure, vegaEmbed)));
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
