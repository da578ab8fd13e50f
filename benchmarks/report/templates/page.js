// What a page can do: sort its tables, filter their rows, and draw the charts of its data. Plain, for any browser.
(() => {
  "use strict";

  // --- sorting: a click goes from falling to rising to the order of the page; blanks stay last ----------------------
  const keyOf = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();

  function compare(a, b, isNumeric) {
    return isNumeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true });
  }

  function sort(table, header) {
    const body = table.tBodies[0];
    const column = header.cellIndex;
    const rows = [...body.rows];
    rows.forEach((row, i) => (row.dataset.order ??= i));
    const keys = new Map(rows.map((row) => [row, keyOf(row, column)]));
    const isNumeric = rows.every((row) => keys.get(row) === "" || !Number.isNaN(Number(keys.get(row))));
    const steps = isNumeric ? ["descending", "ascending", "none"] : ["ascending", "descending", "none"];
    const next = steps[(steps.indexOf(header.getAttribute("aria-sort")) + 1) % 3];
    for (const other of table.tHead.rows[0].cells) {
      if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    }
    header.setAttribute("aria-sort", next);
    const sign = next === "descending" ? -1 : 1;
    rows.sort((a, b) => {
      const inOrder = a.dataset.order - b.dataset.order;
      if (next === "none") return inOrder;
      const [x, y] = [keys.get(a), keys.get(b)];
      if (x === "" || y === "") return (x === "") - (y === "") || inOrder;
      return sign * compare(x, y, isNumeric) || inOrder;
    });
    body.append(...rows);
  }

  for (const table of document.querySelectorAll("table[data-sortable]")) {
    for (const header of table.tHead.rows[0].cells) {
      header.querySelector("button")?.addEventListener("click", () => sort(table, header));
    }
  }

  // --- charts: the specs are the same everywhere (charts.js), the data are the page's own ---------------------------
  const source = document.getElementById("data");
  const data = source ? JSON.parse(source.textContent) : {};
  const places = source ? [...document.querySelectorAll("[data-chart]")] : [];
  const views = new Map();
  const chooser = document.querySelector("[data-chooser]");
  const chosen = () => (chooser ? chooser.value : (data.phases?.[0]?.id ?? ""));
  let isShown = () => true;

  // n colours along the stops of a ramp, each "#rrggbb"
  function ramp(stops, n) {
    const parts = stops.map((stop) => [1, 3, 5].map((i) => parseInt(stop.slice(i, i + 2), 16)));
    return Array.from({ length: n }, (_, k) => {
      const at = n > 1 ? (k * (parts.length - 1)) / (n - 1) : parts.length - 1;
      const low = Math.min(Math.floor(at), parts.length - 2);
      return `rgb(${parts[low].map((c, i) => Math.round(c + (at - low) * (parts[low + 1][i] - c))).join(" ")})`;
    });
  }

  function theme() {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(`--${name}`).trim();
    const [ink, quiet, plain, accent] = ["ink", "quiet", "plain", "accent"].map(of);
    const text = { labelColor: quiet, titleColor: quiet, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" };
    const name = { fontSize: 11.5, color: ink, baseline: "middle" };
    const experiences = new Set((data.phases ?? []).map((point) => point.experience)).size - 1; // 0 stands for all
    return {
      background: "transparent",
      font: of("sans"),
      view: { stroke: null },
      axis: { ...text, gridColor: of("grid"), domainColor: plain, tickColor: plain, titlePadding: 8 },
      legend: {
        ...text, orient: "top", offset: 6, symbolSize: 70, columns: innerWidth < 640 ? 2 : 6,
        symbolBaseFillColor: plain, symbolBaseStrokeColor: plain,
        layout: { top: { direction: "vertical", anchor: "start", margin: 4 } },
      },
      range: { category: [plain, of("middle"), accent], ordinal: ramp(of("ramp").split(/\s+/), Math.max(experiences, 1)) },
      style: {
        bound: { color: plain, strokeDash: [5, 4], strokeWidth: 1 },
        "bound-label": { fontSize: 11.5, color: quiet, align: "left", baseline: "bottom", dx: 4, dy: -3 },
        link: { color: plain, strokeWidth: 0.8, opacity: 0.55 },
        whisker: { strokeWidth: 1.5, opacity: 0.8 },
        dot: { size: 62, opacity: 1 },
        ring: { size: 190, color: ink, strokeWidth: 1.4, filled: false, opacity: 1 },
        "name-right": { ...name, align: "left", dx: 10 },
        "name-left": { ...name, align: "right", dx: -10 },
        faint: { color: plain, strokeWidth: 1, opacity: 0.45 },
        "faint-band": { color: accent, opacity: 0.14 },
        band: { opacity: 0.14 },
        chosen: { color: accent, strokeWidth: 2.4 },
        "chosen-dot": { color: accent, size: 46, opacity: 1 },
        experience: { strokeWidth: 1.8 },
        "experience-dot": { size: 30, opacity: 1 },
        overall: { color: ink, strokeWidth: 3 },
      },
    };
  }

  const shownRows = () => (data.rows ?? []).filter((row) => isShown(row.id));

  async function draw(place) {
    const spec = structuredClone(window.charts[place.dataset.chart]);
    spec.datasets = { ...data, rows: shownRows() };
    spec.params.find((param) => param.name === "chosen").value = chosen();
    spec.description = place.closest("figure").querySelector("figcaption").textContent;
    views.get(place)?.finalize();
    const options = { actions: false, renderer: "svg", config: theme(), tooltip: { theme: "custom" }, logLevel: 1 };
    views.set(place, await window.vegaEmbed(place, spec, options)); // 1: errors; an empty layer is none
  }

  const drawAll = () => Promise.all(places.map(draw)).then(() => (document.documentElement.dataset.drawn = "yes"));

  function choose() {
    for (const panel of document.querySelectorAll("[data-panel]")) panel.hidden = panel.dataset.panel !== chosen();
    for (const { view } of views.values()) view.signal("chosen", chosen()).runAsync();
  }

  // --- filters: every row that has what is asked; charts follow -----------------------------------------------------
  function filter(form) {
    const rows = [...document.querySelectorAll("table[data-sortable] > tbody > tr")];
    const wanted = new Map();
    for (const input of form.querySelectorAll("[data-filter]")) {
      if (input.type !== "radio" || input.checked) wanted.set(input.dataset.filter, input.value.trim().toLowerCase());
    }
    for (const row of rows) {
      row.hidden = [...wanted].some(([key, value]) => {
        const own = row.dataset[key] ?? "";
        return value !== "" && (key === "words" ? !value.split(/\s+/).every((word) => own.includes(word)) : own !== value);
      });
    }
    for (const section of document.querySelectorAll("main > section")) {
      const own = [...section.querySelectorAll("table[data-sortable] > tbody > tr")];
      if (own.length && !section.querySelector("form")) section.hidden = own.every((row) => row.hidden);
    }
    const shown = rows.filter((row) => !row.hidden);
    form.querySelector("output").textContent = shown.length < rows.length ? `${shown.length} of ${rows.length} rows` : "";
    const ids = new Set(shown.map((row) => row.dataset.id));
    isShown = (id) => ids.has(id);
    for (const [place, { view }] of views) {
      if (["stored", "time"].includes(place.dataset.chart)) view.data("rows", shownRows()).runAsync();
    }
  }

  for (const form of document.querySelectorAll("form[data-filters]")) {
    form.addEventListener("input", () => filter(form));
    form.addEventListener("submit", (event) => event.preventDefault());
    filter(form); // a browser may bring back what was asked before
  }

  for (const link of document.querySelectorAll("[data-choose]")) {
    link.addEventListener("click", () => {
      chooser.value = link.dataset.choose;
      choose();
    });
  }
  chooser?.addEventListener("change", choose);

  // --- navigation: open beside the page, closed above it ------------------------------------------------------------
  const navigation = document.querySelector("nav.all > details");
  const isWide = matchMedia("(min-width: 70rem)");
  if (navigation) {
    const fit = () => (navigation.open = isWide.matches);
    isWide.addEventListener("change", fit);
    fit();
    const list = navigation.parentElement;
    const current = list.querySelector("[aria-current]");
    if (current && isWide.matches) list.scrollTop = current.offsetTop - list.clientHeight / 3;
  }

  if (places.length) {
    choose();
    drawAll();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  }
})();
