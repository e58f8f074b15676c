"use strict";
// A cell, opened: built when it is, from what Python has counted.

const dialog = document.getElementById("cell");
let details = null;

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

function openCell(place) {
  const [r, c] = place;
  const [row, column] = [table.rows[r], table.columns[c]];
  const cell = row.cells[c];
  document.getElementById("cell-title").textContent = `${row.title} on ${row.encoder}, ${column.title}`;
  const inside = document.getElementById("cell-body");
  inside.replaceChildren(numbers(cell));
  details ??= island("details");
  const found = details.cells[row.row]?.[column.ood];
  if (column.average) {
    const titles = column.over.map((ood) => table.columns[columnOf.get(ood)].title).join(", ");
    inside.append(make("p", cell.why ? `No average: ${cell.why}.` : `The mean over ${titles}, each counted once.`));
  }
  if (!dialog.open) dialog.showModal();
  if (!found) return;
  if (found.scores) showScores(inside, found.scores, row, column);
  else if (cell.status === "done") {
    inside.append(make("p", "Neither scores nor quantiles of them are at hand: run the suite again for histogram and ROC."));
  }
  if (found.images) showImages(inside, found.images);
  inside.append(make("h2", found.seeds.length > 1 ? `Record of the first of ${found.seeds.length} seeds` : "Record"), recordOf(found.record));
}

function numbers(cell) {
  const list = make("dl");
  if (cell.mark) list.append(make("dt", cell.status), make("dd", cell.why || "not measured"));
  for (const metric of table.metrics) {
    const [, text, , interval, published, difference] = cell.figures[metric.name];
    if (!text && !published) continue;
    const words = [text && `${text} %`, interval && `(${interval})`, published && `published ${published}`, difference && `(${difference})`];
    list.append(make("dt", `${metric.title} ${metric.arrow}`), make("dd", words.filter(Boolean).join(" ")));
  }
  return list;
}

function recordOf(record) {
  const list = make("dl");
  for (const [name, place] of Object.entries(record)) list.append(make("dt", name), make("dd", details.parts[place]));
  return list;
}

function showScores(inside, scores, row, column) {
  const { thresholds, accepted, missed, counts } = scores;
  if (!scores.whole) {
    inside.append(make("p", `Scores are not at hand: drawn from ${Math.min(...counts)} of their quantiles a set, so shares are as fine as that.`));
  }
  const [histogram, roc] = [make("div"), make("div")];
  histogram.className = roc.className = "plot";
  const pair = make("div", "", histogram, roc);
  pair.className = "pair";
  inside.append(pair);
  if (!thresholds.length) return;
  const slider = make("input");
  Object.assign(slider, { type: "range", min: 0, max: thresholds.length - 1, step: 1, value: Math.max(0, scores.at95), id: "threshold" });
  const told = make("output");
  told.htmlFor = "threshold";
  inside.append(make("label", "Threshold: a score up to it is accepted ", slider), told);
  const at = () => Number(slider.value);
  const share = (side, place) => side[place] / counts[side === accepted ? 0 : 1];
  const line = () => ({ type: "line", x0: thresholds[at()], x1: thresholds[at()], yref: "paper", y0: 0, y1: 1, line: { color: colour("ink"), dash: "dash", width: 1.5 } });
  draw(histogram, () => histogramOf(scores, line()));
  draw(roc, () => rocOf(scores, at()));
  const move = () => {
    const place = at();
    told.textContent = `at ${Number(thresholds[place].toPrecision(5))}: accepted of ID ${percent(share(accepted, place))} (${accepted[place].toLocaleString("en")} of ${counts[0].toLocaleString("en")}), missed of OOD ${percent(share(missed, place))} (${missed[place].toLocaleString("en")} of ${counts[1].toLocaleString("en")})`;
    slider.setAttribute("aria-valuetext", told.textContent);
    Object.assign(told.dataset, { threshold: thresholds[place], accepted: share(accepted, place), missed: share(missed, place) });
    plotly().relayout(histogram, { shapes: [line()] });
    plotly().restyle(roc, { x: [[1 - share(accepted, place)]], y: [[1 - share(missed, place)]] }, [1]);
  };
  slider.addEventListener("input", move);
  move();
}

function showImages(inside, images) {
  const sides = [["missed", "OOD images taken for ID, the lowest scores first"], ["flagged", "ID images flagged, the highest scores first"]];
  for (const [side, title] of sides) {
    const found = images[side];
    inside.append(make("h2", title));
    if (found === null) inside.append(make("p", "Left out of this page (--no-images)."));
    else if (!found.length) inside.append(make("p", "None, at the threshold that accepts 95 % of the ID images."));
    else {
      inside.append(make("p", found.some((one) => one.nearest.length) ? "Beside each the nearest ID training images in the row's own features, with their cosines." : "The features of the ID training images were not at hand: no neighbours."));
      const list = make("div", "", ...found.map((one) => make("figure", "",
        pictureOf(one.image, `image with score ${one.score}`),
        ...one.nearest.map(([place, cosine]) => pictureOf(place, `ID training image, cosine ${cosine}`)),
        make("figcaption", [`score ${one.score}`, ...one.nearest.map(([, cosine]) => cosine.toFixed(2))].join(" · ")))));
      list.className = "images";
      inside.append(list);
    }
  }
}

function pictureOf(place, words) {
  const image = make("img");
  image.src = details.images[place];
  image.alt = image.title = words;
  return image;
}

function histogramOf({ edges: [low, high], histogram, counts }, line) {
  const bins = histogram[0].length - 2;
  const width = (high - low) / bins;
  const centres = Array.from({ length: bins }, (_, place) => low + (place + 0.5) * width);
  const bars = (side, name, of) => ({
    type: "bar", x: centres, y: histogram[side].slice(0, bins).map((n) => (100 * n) / counts[side]), width, name, opacity: 0.6,
    marker: { color: colour(of), line: { width: 0 } }, hovertemplate: `%{x:.4g}: %{y:.1f} % of ${name}<extra></extra>`,
  });
  const beyond = histogram.map((side, place) => (100 * (side[bins] + side[bins + 1])) / counts[place]);
  const title = `score (greater = more OOD)<br>beyond the axis: ${beyond[0].toFixed(1)} % of ID, ${beyond[1].toFixed(1)} % of OOD`;
  return {
    data: [bars(0, "ID", "id"), bars(1, "OOD", "ood")],
    layout: { barmode: "overlay", bargap: 0, shapes: [line], legend: { orientation: "h", y: 1.12 }, margin: { l: 50, r: 12, t: 30, b: 52 },
      xaxis: { title: { text: title, font: { size: 11 } }, range: [low, high] }, yaxis: { title: { text: "% of images" } } },
  };
}

function rocOf({ accepted, missed, counts }, place) {
  const flagged = (side, of) => [1, ...side.map((n) => 1 - n / counts[of]), 0];
  return {
    data: [
      { type: "scatter", mode: "lines", x: flagged(accepted, 0), y: flagged(missed, 1), line: { color: colour("tint"), width: 2 }, hovertemplate: "ID flagged %{x:.1%}<br>OOD flagged %{y:.1%}<extra></extra>" },
      { type: "scatter", mode: "markers", x: [1 - accepted[place] / counts[0]], y: [1 - missed[place] / counts[1]], marker: { color: colour("ink"), size: 10, symbol: "circle-open", line: { width: 2 } }, hoverinfo: "skip" },
    ],
    layout: { showlegend: false, xaxis: { title: { text: "ID images flagged" }, range: [-0.02, 1.02], tickformat: ".0%" },
      yaxis: { title: { text: "OOD images flagged" }, range: [-0.02, 1.04], tickformat: ".0%" },
      shapes: [{ type: "line", x0: 0, y0: 0, x1: 1, y1: 1, line: { color: colour("line"), width: 1 } }] },
  };
}

watchers.push((view) => {
  if (view.cell) {
    if (dialog.dataset.cell !== view.cell) openCell(cellNamed(view.cell));
    dialog.dataset.cell = view.cell;
  } else if (dialog.open) dialog.close();
});
function opened(event) {
  const td = event.target.closest("td.cell");
  if (td) change({ cell: cellName(Number(td.parentElement.dataset.row), Number(td.dataset.column)) });
}
body.addEventListener("click", opened);
body.addEventListener("keydown", (event) => {
  if (event.key === "Enter" || event.key === " ") {
    opened(event);
    event.preventDefault();
  }
});
dialog.addEventListener("close", () => {
  delete dialog.dataset.cell;
  document.getElementById("cell-body").replaceChildren();
  if (state.cell) {
    const [row, column] = cellNamed(state.cell);
    change({ cell: "" });
    lines[row].line.querySelector(`td[data-column="${column}"]`).focus();
  }
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
document.getElementById("close").addEventListener("click", () => dialog.close());
