"use strict";
// The table: which metric it shows, in which order, and which rows.

const table = island("table");
const results = document.getElementById("results");
const body = results.tBodies[0];
const lines = [...body.rows].map((line, place) => ({ line, row: table.rows[place], place }));
const tools = document.getElementById("tools");
const columnOf = new Map(table.columns.map((column, place) => [column.ood, place]));
const rowOf = new Map(table.rows.map((row, place) => [row.row, place]));
const allowed = {
  metric: (word) => table.metrics.some((metric) => metric.name === word),
  sort: (word) => ["row", "encoder", "accuracy", "speed"].includes(word) || (word.startsWith("set:") && columnOf.has(word.slice(4))),
  encoder: (word) => table.encoders.includes(word),
  reads: (word) => table.reads.includes(word),
  reference: (word) => rowOf.has(word),
  cell: (word) => cellNamed(word) !== null,
};

function cellNamed(word) {
  const places = word.split("|").map(decodeURIComponent_);
  if (places.length !== 2 || !rowOf.has(places[0]) || !columnOf.has(places[1])) return null;
  return [rowOf.get(places[0]), columnOf.get(places[1])];
}

function decodeURIComponent_(word) {
  try {
    return decodeURIComponent(word);
  } catch {
    return "";
  }
}

function cellName(row, column) {
  return `${encodeURIComponent(table.rows[row].row)}|${encodeURIComponent(table.columns[column].ood)}`;
}

function metricOf(name) {
  return table.metrics.find((metric) => metric.name === name);
}

function shade(metric, value) {
  const share = metric.name === "auroc" ? (value - 50) / 50 : metric.higher ? value / 100 : 1 - value / 100;
  return Math.max(0, Math.min(1, share)) ** 2;
}

let metricShown = null;
function showMetric(name) {
  if (metricShown === name) return;
  metricShown = name;
  const metric = metricOf(name);
  for (const { line, row } of lines) {
    for (const td of line.querySelectorAll("td.cell")) {
      const cell = row.cells[td.dataset.column];
      const [value, text, rank, interval, published, difference] = cell.figures[name];
      td.classList.toggle("best", rank === "best");
      td.classList.toggle("second", rank === "second");
      const control = ["control", "covariate"].includes(table.columns[td.dataset.column].group);
      td.style.setProperty("--shade", text && !control ? shade(metric, Number(value)) : 0);
      const shown = make("b", text || cell.mark);
      if (!text) {
        shown.className = "none";
        shown.title = cell.why;
      }
      td.replaceChildren(shown);
      if (interval) td.append(" ", make("i", interval));
      if (published) td.append(" ", make("small", `published ${published}${difference ? ` (${difference})` : ""}`));
    }
  }
}

// what a line is sorted by; null: nothing is there, which is last either way
function sortedBy(row, key, metric) {
  if (key === "row") return row.title.toLowerCase();
  if (key === "encoder") return row.encoder.toLowerCase();
  if (key === "accuracy" || key === "speed") return numberOf(row[key]);
  return numberOf(row.cells[columnOf.get(key.replace(/^set:/, ""))].figures[metric][0]);
}

function numberOf(text) {
  const value = Number.parseFloat(text.replaceAll(",", ""));
  return Number.isNaN(value) ? null : value;
}

function sortLines(view) {
  const order = [...lines];
  if (view.sort) {
    const sign = view.down ? -1 : 1;
    const keys = new Map(order.map((each) => [each, sortedBy(each.row, view.sort, view.metric)]));
    order.sort((a, b) => {
      const [x, y] = [keys.get(a), keys.get(b)];
      if (x === null || y === null) return (x === null) - (y === null) || a.place - b.place;
      return sign * (typeof x === "string" ? x.localeCompare(y) : x - y) || a.place - b.place;
    });
  }
  if (order.some((each, place) => body.rows[place] !== each.line)) body.append(...order.map((each) => each.line));
  for (const th of results.tHead.rows[0].cells) {
    if (sortName(th) === view.sort) th.setAttribute("aria-sort", view.down ? "descending" : "ascending");
    else th.removeAttribute("aria-sort");
  }
}

function sortName(th) {
  const key = th.dataset.sort;
  return /^\d+$/.test(key) ? `set:${table.columns[key].ood}` : key;
}

function filterLines(view) {
  const words = view.text.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const { line, row } of lines) {
    const about = `${row.title} ${row.row} ${row.encoder}`.toLowerCase();
    line.hidden = !(words.every((word) => about.includes(word))
      && (!view.encoder || row.encoder === view.encoder) && (!view.reads || row.reads.includes(view.reads)));
    shown += !line.hidden;
  }
  say(shown < lines.length ? `${shown} of ${lines.length} rows` : "");
}

watchers.push((view) => {
  for (const name of ["intervals", "averages", "published"]) results.classList.toggle(name, view[name]);
  showMetric(view.metric);
  sortLines(view);
  filterLines(view);
  for (const field of tools.elements) {
    if (!(field.name in view)) continue;
    if (field.type === "checkbox") field.checked = view[field.name];
    else if (field.value !== view[field.name]) field.value = view[field.name];
  }
});

// the first click: numbers from the best, words from A; the second the other way round
function sortBy(th) {
  const name = sortName(th);
  const better = name.startsWith("set:") ? metricOf(state.metric).higher : !["row", "encoder"].includes(name);
  change({ sort: name, down: state.sort === name ? !state.down : better });
}

for (const th of results.tHead.rows[0].cells) {
  const button = make("button", "", ...th.childNodes);
  button.type = "button";
  th.append(button);
  th.addEventListener("click", () => sortBy(th));
}
tools.addEventListener("input", (event) => {
  const field = event.target;
  if (field.name in start) change({ [field.name]: field.type === "checkbox" ? field.checked : field.value });
});
tools.addEventListener("submit", (event) => event.preventDefault());
tools.addEventListener("reset", (event) => {
  event.preventDefault();
  change(start);
});
tools.hidden = false;
