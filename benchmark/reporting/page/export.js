"use strict";
// The shown table as text: rows and columns as they stand, one decimal as printed.

function shownTable() {
  const metric = metricOf(state.metric);
  const columns = [...table.columns.entries()].filter(([, column]) => state.averages || !column.average);
  const about = ({ group, stands_in_for: meant }) => [group, meant && `stands in for ${meant}`].filter(Boolean).join(", ");
  const head = ["row", ...(table.has.encoders ? ["encoder"] : []),
    ...columns.map(([, column]) => column.title + (about(column) ? ` (${about(column)})` : ""))];
  if (table.has.accuracy) head.push("ID accuracy");
  if (table.has.speed) head.push("images/s");
  const rows = [];
  for (const line of body.rows) {
    if (line.hidden) continue;
    const row = table.rows[line.dataset.row];
    const cells = [row.title, ...(table.has.encoders ? [row.encoder] : [])];
    for (const [place] of columns) {
      const [, text, , interval, published] = row.cells[place].figures[state.metric];
      let words = text || row.cells[place].mark;
      if (text && state.intervals && interval) words += ` (${interval})`;
      if (state.published && published) words += ` [published ${published}]`;
      cells.push(words);
    }
    if (table.has.accuracy) cells.push(row.accuracy);
    if (table.has.speed) cells.push(row.speed);
    rows.push(cells);
  }
  const width = table.has.encoders ? 2 : 1;
  return { caption: `${table.title}. ID: ${table.id}. ${metric.title} ${metric.arrow} in percent.`, head, rows, width };
}

function oneLine(words) {
  return words.replace(/\s+/g, " ");
}

const formats = {
  Markdown: { ending: "md", type: "text/markdown", write({ caption, head, rows, width }) {
    const word = (words) => oneLine(words).replace(/[\\`*_<>[\]|~]/g, "\\$&");
    const line = (cells) => `| ${cells.map(word).join(" | ")} |`;
    const rule = `| ${head.map((_, place) => (place < width ? ":---" : "---:")).join(" | ")} |`;
    return [word(caption), "", line(head), rule, ...rows.map(line), ""].join("\n");
  } },
  LaTeX: { ending: "tex", type: "application/x-tex", write({ caption, head, rows, width }) {
    const special = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}",
      ">": "\\textgreater{}", "↑": "$\\uparrow$", "↓": "$\\downarrow$", "±": "$\\pm$", "–": "\\textendash{}",
      "†": "$\\dagger$", "‡": "$\\ddagger$", "[": "{[}", "*": "{*}" };
    const word = (words) => oneLine(words).replace(/[\\~^<>↑↓±–†‡[*&%$#_{}]/g, (sign) => special[sign] ?? `\\${sign}`)
      .replaceAll("--", "-{}-");
    const line = (cells) => `${cells.map(word).join(" & ")} \\\\`;
    return ["% needs \\usepackage{booktabs}", "\\begin{table}", "\\centering", `\\caption{${word(caption)}}`,
      `\\begin{tabular}{${"l".repeat(width)}${"r".repeat(head.length - width)}}`, "\\toprule", line(head), "\\midrule",
      ...rows.map(line), "\\bottomrule", "\\end{tabular}", "\\end{table}", ""].join("\n");
  } },
  CSV: { ending: "csv", type: "text/csv", write({ head, rows }) {
    const cell = (words) => {
      const safe = /^\s*[=+\-@]/.test(words) && Number.isNaN(Number(words)) ? `'${words}` : words;
      return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
    };
    return [head, ...rows].map((cells) => cells.map(cell).join(",")).join("\n") + "\n";
  } },
};

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {  // not allowed here: the old way
    const area = make("textarea", text);
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  say(`${what} copied`);
}

function save(text, { ending, type }) {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  link.download = `${table.name.replace(/[^\w.-]+/g, "_").slice(0, 80) || "table"}.${state.metric}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

tools.addEventListener("click", (event) => {
  const { copy: copied, save: saved } = event.target.dataset;
  if (copied) copy(formats[copied].write(shownTable()), copied);
  if (saved) save(formats[saved].write(shownTable()), formats[saved]);
  if (event.target.id === "link") copy(location.href, "Link");
});
