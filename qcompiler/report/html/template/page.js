"use strict";

const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("page-data").textContent);

// Tables: sorting. A cell's data-value wins over its text; cells without a value come last either way.
function valueOf(row, column) {
  const cell = row.cells[column];
  const value = cell.dataset.value ?? cell.textContent.trim();
  return cell.dataset.value !== undefined && value !== "" ? Number(value) : value;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}

function sortBy(table, header) {
  const descending = header.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) {
    if (other.querySelector("button")) other.setAttribute("aria-sort", "none");
  }
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => [valueOf(row, header.cellIndex), row]);
  keyed.sort(([a], [b]) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    return descending ? compare(b, a) : compare(a, b);
  });
  body.append(...keyed.map(([, row]) => row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const header of table.tHead.rows[0].cells) {
    header.querySelector("button")?.addEventListener("click", () => sortBy(table, header));
  }
}

// The table of nodes: filtering.
function filterNodes() {
  const words = byId("filter-text").value.toLowerCase().split(/\s+/).filter(Boolean);
  const state = byId("filter-state").value;
  const rows = [...byId("nodes-table").tBodies[0].rows];
  let shown = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    const matches = words.every((word) => text.includes(word)) && (!state || row.dataset.state === state);
    row.hidden = !matches;
    shown += matches;
  }
  byId("filter-count").textContent =
    shown === rows.length ? `all ${rows.length} nodes` : `${shown} of ${rows.length} nodes`;
}

if (byId("nodes-table")) {
  byId("filter-text").addEventListener("input", filterNodes);
  byId("filter-state").addEventListener("change", filterNodes);
  byId("filter-text").addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.target.value = "";
    filterNodes();
  });
}

// Charts. Colours in the figures are names of CSS variables.
function resolved(value, style) {
  if (typeof value === "string") {
    const name = /^var\((--[\w-]+)\)$/.exec(value);
    return name ? style.getPropertyValue(name[1]).trim() : value;
  }
  if (Array.isArray(value)) return value.map((item) => resolved(item, style));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolved(item, style)]));
}

const number = (value) => Number(value.toPrecision(3)).toString();

function rangeLines(spread) {
  if (spread.clip_low === null) return { shapes: [], annotations: [] };
  const edges = [spread.clip_low, spread.clip_high];
  return {
    shapes: edges.map((x) => ({
      type: "line", x0: x, x1: x, y0: 0, y1: 1, yref: "paper", line: { color: "var(--ink)", width: 1.5, dash: "dash" },
    })),
    annotations: edges.map((x, index) => ({
      x, y: 1, yref: "paper", yanchor: "bottom", xanchor: index ? "right" : "left", showarrow: false, text: "clip",
      font: { size: 12, color: "var(--ink)" },
    })),
  };
}

function histogramOf(figure, spread) {
  const width = (spread.high - spread.low) / spread.counts.length;
  const trace = {
    ...figure.data[0],
    x: spread.counts.map((_, index) => spread.low + (index + 0.5) * width),
    y: spread.counts.map((count) => count || null),
    width,
  };
  const layout = { ...figure.layout, ...rangeLines(spread), margin: { ...figure.layout.margin, t: 28 } };
  return { data: [trace], layout };
}

// On a phone, names of nodes stand above their bars: beside them they would leave no room for these.
const NARROW = 560;

function namedAbove(figure) {
  const { tickvals, ticktext } = figure.layout.yaxis;
  const annotations = ticktext.map((text, y) => ({
    x: 0, xref: "paper", xanchor: "left", y, yshift: 21, text, showarrow: false,
    font: { size: 12, color: "var(--ink)" },
  }));
  const layout = {
    ...figure.layout, annotations, bargap: 0.52, height: 130 + 54 * tickvals.length,
    yaxis: { ...figure.layout.yaxis, showticklabels: false, ticks: "", automargin: false },
    xaxis: { ...figure.layout.xaxis, nticks: 5 },
    margin: { ...figure.layout.margin, l: 8 },
    legend: { ...figure.layout.legend, xref: "paper" },
  };
  return { data: figure.data, layout };
}

function figureOf(name) {
  const figure = data.figures[name];
  if (name === "nodes-latency" && byId("chart-nodes-latency").clientWidth < NARROW) return namedAbove(figure);
  return name === "histogram" ? histogramOf(figure, data.spreads[Number(byId("histogram-choice").value)]) : figure;
}

// What a chart says is its label and the table below it; its shapes alone would be read out as letters and numbers.
async function draw(name) {
  const place = byId(`chart-${name}`);
  const figure = resolved(figureOf(name), getComputedStyle(document.documentElement));
  await Plotly.react(place, figure.data, figure.layout, { responsive: true, displayModeBar: false });
  for (const drawn of [...place.children, byId("js-plotly-tester")]) drawn?.setAttribute("aria-hidden", "true");
}

function describeHistogram() {
  const spread = data.spreads[Number(byId("histogram-choice").value)];
  const reaches = spread.clip_low === null || spread.low < spread.clip_low || spread.high > spread.clip_high;
  const few = reaches ? "hardly any" : "none";
  const share = spread.clipped_share < 5e-5 ? few : `${(100 * spread.clipped_share).toFixed(2)} %`;
  const clipped = spread.clipped_share === null ? "" : `; ${share} beyond it`;
  const unknown = spread.kind === "weight" ? "not known" : "chosen at run time";
  const range = spread.clip_low === null
    ? `range of the codes: ${unknown}`
    : `range of the codes: ${number(spread.clip_low)} to ${number(spread.clip_high)}${clipped}`;
  byId("histogram-words").textContent =
    `${spread.kind} ${spread.name}: values from ${number(spread.low)} to ${number(spread.high)}; ${range}.`;
}

async function loadPlotly() {
  const packed = Uint8Array.from(atob(byId("plotly-packed").textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

async function drawAll() {
  await loadPlotly();
  const names = Object.keys(data.figures);
  const all = () => Promise.all(names.map(draw));
  if (names.includes("histogram")) {
    describeHistogram();
    byId("histogram-choice").addEventListener("change", () => { describeHistogram(); draw("histogram"); });
  }
  await all();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
  document.documentElement.dataset.charts = "drawn";
}

drawAll().catch((error) => {
  document.documentElement.classList.add("failed");
  document.documentElement.dataset.charts = "failed";
  console.error("charts cannot be drawn; the tables beside them say the same", error);
});
