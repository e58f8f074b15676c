"use strict";
// Two folders: per row and set the difference of their numbers, with its unpaired interval.

const folders = new Map(island("folders").map((folder) => [folder.name, folder]));
const tools = document.getElementById("tools");
const compared = document.getElementById("compared");
const allowed = {
  first: (word) => folders.has(word), second: (word) => folders.has(word),
  metric: (word) => ["auroc", "fpr95"].includes(word),
};

// Rows of one name belong together; of the others those of one method, where it is the only one on either side.
function matched(first, second) {
  const pairs = Object.keys(first.rows).filter((row) => row in second.rows).map((row) => [row, row]);
  const left = Object.keys(first.rows).filter((row) => !(row in second.rows));
  const right = Object.keys(second.rows).filter((row) => !(row in first.rows));
  const method = (row) => row.split("@")[0];
  const alone = (rows, row) => rows.filter((other) => method(other) === method(row)).length === 1;
  for (const row of left) {
    const others = right.filter((other) => method(other) === method(row));
    pairs.push([row, others.length === 1 && alone(left, row) ? others[0] : null]);
  }
  const taken = new Set(pairs.map(([, row]) => row));
  return [...pairs, ...right.filter((row) => !taken.has(row)).map((row) => [null, row])];
}

function number(cell, metric) {
  return cell?.[metric] && { value: cell[metric][0], low: cell[metric][1], high: cell[metric][2] };
}

function differenceCell({ difference, low, high }) {
  const within = low <= 0 && high >= 0;
  const td = make("td", "", make("b", `${within ? "≈ " : ""}${signed(difference)}`), " ", make("i", `${signed(low)} to ${signed(high)}`));
  td.className = within ? "quiet" : "sure";
  return td;
}

function markCell(a, b) {
  const failed = [[a, "first"], [b, "second"]].filter(([cell]) => cell && !["done", "absent"].includes(cell.status));
  const there = (cell) => cell && cell.status !== "absent";
  let words = "–";
  if (failed.length) words = `! ${failed.map(([cell, side]) => `${cell.status} on the ${side}`).join(", ")}`;
  else if (there(a)) words = "◧ only first";
  else if (there(b)) words = "◨ only second";
  const td = make("td", words);
  td.className = "mark";
  return td;
}

function show({ first: one, second: two, metric }) {
  const [first, second] = [folders.get(one), folders.get(two)];
  compared.replaceChildren();
  say("");
  if (!first || !second) return;
  const sets = Object.keys({ ...first.sets, ...second.sets });
  const head = ["row", ...sets.map((name) => first.sets[name] ?? second.sets[name]), "mean of common sets"];
  compared.append(make("thead", "", make("tr", "", ...head.map((words) => {
    const th = make("th", words);
    th.scope = "col";
    return th;
  }))));
  const body = make("tbody");
  let common = 0;
  for (const [a, b] of matched(first, second)) {
    const title = a === null ? second.rows[b] : b === null || first.rows[a] === second.rows[b] ? first.rows[a] : `${first.rows[a]} / ${second.rows[b]}`;
    const th = make("th", title);
    th.scope = "row";
    const line = make("tr", "", th);
    const both = [];
    for (const name of sets) {
      const [x, y] = [first.cells[a]?.[name], second.cells[b]?.[name]];
      const [left, right] = [number(x, metric), number(y, metric)];
      if (left && right) {
        line.append(differenceCell(unpaired(left, right)));
        if (x.counted && y.counted) both.push([left, right]);
      } else line.append(markCell(x, y));
    }
    common += both.length > 0;
    const mean = (side, end) => both.reduce((sum, pair) => sum + pair[side][end], 0) / both.length;
    const means = [0, 1].map((side) => ({ value: mean(side, "value"), low: mean(side, "low"), high: mean(side, "high") }));
    const last = both.length ? differenceCell(unpaired(...means)) : make("td", "–");
    if (both.length) last.append(" ", make("small", `${both.length} set${both.length > 1 ? "s" : ""}`));
    line.append(last);
    body.append(line);
  }
  compared.append(body);
  say(`${common} rows that both have measured`);
}

watchers.push((view) => {
  for (const field of tools.elements) field.value = view[field.name];
  show(view);
});
tools.addEventListener("input", (event) => change({ [event.target.name]: event.target.value }));
tools.addEventListener("submit", (event) => event.preventDefault());
document.getElementById("comparing").hidden = false;
addEventListener("hashchange", () => change(read(location.hash, allowed)));
change(read(location.hash, allowed));
