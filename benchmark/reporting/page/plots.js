"use strict";
// Plotly, kept as text until something is drawn; its colours are the page's.

function plotly() {
  if (!globalThis.Plotly) {
    const script = make("script", document.getElementById("plotly").textContent);
    document.head.append(script);  // runs at once: its hash is allowed
  }
  return globalThis.Plotly;
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const drawnPlots = new Map();

// `figure`: () -> { data, layout }, asked again when light and dark change
function draw(element, figure) {
  drawnPlots.set(element, figure);
  const { data, layout } = figure();
  const axis = { gridcolor: colour("line"), zerolinecolor: colour("line"), linecolor: colour("line"), automargin: true };
  const font = { color: colour("ink"), size: 12, family: "system-ui, sans-serif" };
  return plotly().react(element, data, {
    margin: { l: 50, r: 12, t: 12, b: 42 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font,
    hoverlabel: { font: { size: 12 }, align: "left" }, autosize: true, ...layout,
    xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis },
  }, { displayModeBar: false, responsive: true });
}

dark.addEventListener("change", () => {
  for (const [element, figure] of drawnPlots) {
    if (element.isConnected) draw(element, figure);
    else drawnPlots.delete(element);
  }
});

// The page's own plots, each drawn when it comes into sight; a click finds the row.
function showPlots(plots, found) {
  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      const { data, layout } = plots[target.dataset.plot];
      draw(target, () => structuredClone({ data, layout })).then((drawn) => drawn.on("plotly_click", ({ points }) => {
        const row = points.map((point) => point.customdata).find((name) => typeof name === "string");
        if (row) found(row);
      }));
    }
  }, { rootMargin: "150px" });
  for (const element of document.querySelectorAll("#plots .plot")) {
    const { height } = plots[element.dataset.plot].layout;  // at once: what is below it must not move when it is drawn
    if (height) element.style.height = `${height}px`;
    seen.observe(element);
  }
}
