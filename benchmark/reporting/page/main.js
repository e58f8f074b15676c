"use strict";
// The view that the link names; then whatever it changes to.

function find(name) {
  const found = lines[rowOf.get(name)];
  if (!found) return;
  if (found.line.hidden) change({ text: "", encoder: "", reads: "" });
  for (const { line } of lines) line.classList.toggle("found", line === found.line);
  found.line.scrollIntoView({ block: "center" });
  found.line.querySelector("td.cell").focus({ preventScroll: true });
}
showPlots(island("plots"), find);
for (const figure of document.querySelectorAll("figure[data-row]")) figure.addEventListener("click", () => find(figure.dataset.row));
const follow = () => change(read(location.hash, allowed));
addEventListener("hashchange", follow);
follow();
