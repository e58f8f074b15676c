"use strict";
// A row to compare with: those that do not differ significantly from it stay dark, the others say by how much.

const tested = new Map();
for (const [a, b, difference, p, differs, low, high] of table.pairs) {
  tested.set(JSON.stringify([a, b]), { difference: Number(difference), p, differs, low, high, sign: 1 });
  tested.set(JSON.stringify([b, a]), { difference: -Number(difference), p, differs, low: high, high: low, sign: -1 });
}

// The mean AUROC over the sets that both rows have, with the mean of the bounds: the most that its own can be.
function meanOf(cells) {
  const mean = (place) => cells.reduce((sum, figures) => sum + Number(figures[place]), 0) / cells.length;
  return { value: mean(0), low: mean(6), high: mean(7) };
}

function comparison(row, other) {
  const found = tested.get(JSON.stringify([row.row, other.row]));
  if (found) {
    const ends = found.low === "" ? "" : `, 95\u00a0% interval ${signed(found.sign * found.low)} to ${signed(found.sign * found.high)}`;
    return { differs: found.differs, words: `${signed(found.difference)} (corrected ${found.p}${ends})` };
  }
  const averaged = table.columns.find((column) => column.ood === "average");
  const sets = table.columns.flatMap((column, place) =>
    !column.average && (!averaged || averaged.over.includes(column.ood)) && ["near", "far", ""].includes(column.group)
    && row.cells[place].figures.auroc[0] && other.cells[place].figures.auroc[0] ? [place] : []);
  if (!sets.length) return { differs: false, words: "no set that both have" };
  const [a, b] = [row, other].map((each) => meanOf(sets.map((place) => each.cells[place].figures.auroc)));
  const { difference, low, high } = unpaired(a, b);
  const which = `over ${sets.length} set${sets.length > 1 ? "s" : ""} that both have, unpaired 95\u00a0% interval`;
  return { differs: low > 0 || high < 0, words: `${signed(difference)} (${which} ${signed(low)} to ${signed(high)})` };
}

let compared = "";
watchers.push((view) => {
  if (view.reference === compared) return;
  compared = view.reference;
  const other = compared ? table.rows[rowOf.get(compared)] : null;
  for (const { line, row } of lines) {
    const head = line.cells[0];
    head.querySelector("small")?.remove();
    line.classList.remove("differs", "reference");
    if (!other) continue;
    if (row === other) {
      line.classList.add("reference");
      head.append(make("small", "the others' mean AUROC, less this row's"));
      continue;
    }
    const { differs, words } = comparison(row, other);
    line.classList.toggle("differs", differs);
    head.append(make("small", differs ? words : `no significant difference: ${words}`));
  }
});
