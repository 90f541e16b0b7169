const resultAt = new Map(data.results.map((r) => [`${r.encoder} ${r.benchmark}`, r]));
// The leaderboard: encoders x benchmarks, sortable; who leads stands at the benchmark, a cell opens its record.
const lastOf = (result) => at(result, data.benchmarks[result.benchmark].headline, result.depth);
function intervalText(cell) {
  return cell.low === null ? "no interval" : `${percent(cell.low)}–${percent(cell.high)}`;
}
// The small line of a cell: the layer that the large number is not of.
function beside(result, cell) {
  if (state.view === "last") return result.best === result.depth ? "best layer" : `best ${percent(at(result, data.benchmarks[result.benchmark].headline, result.best).value)} at ${result.best}`;
  const last = lastOf(result);
  return `at ${cell.layer}, last ${last ? percent(last.value) : "not scored"}`;
}
// Better than every other encoder of the benchmark, by the paired tests of the last layers.
const isFirst = (r) => state.view === "last" && r.standing?.lead === "first";
function standingText(standing) {
  const { first, last, models, lead } = standing;
  const place = { first: "certainly best", tied: "tied for best", behind: "behind the best" }[lead];
  return `${place} of ${models}, rank ${first === last ? first : `${first} to ${last}`} by tests within this benchmark`;
}
function leadMark(benchmark) {
  const ranked = data.results.filter((r) => r.benchmark === benchmark && r.standing);
  const top = ranked.filter((r) => r.standing.lead !== "behind");
  if (state.view !== "last" || !top.length) return null;
  const icons = top.length === ranked.length || top.length > 4 ? [] : top.map((r) => s("svg", { width: 10, height: 10, class: colour(r.encoder), "aria-hidden": "true" }, mark(markOf(r.encoder), 5, 5, 3.2)));
  const kind = top.length > 1 ? "tie" : "leads";
  const text = top.length > 4 && top.length < ranked.length ? `tie of ${top.length}` : kind;
  const names = top.map((r) => data.encoders[r.encoder].label).join(", ");
  return h("span", { class: `lead ${kind}`, title: `${kind === "tie" ? "tied for best" : "certainly best"}: ${names}` }, icons, text, h("span", { class: "visually-hidden" }, `: ${names}`));
}
function sparkline(result, range, width) {
  const metric = data.benchmarks[result.benchmark].headline;
  const [height, pad] = [26, 3];
  const x = (layer) => pad + (width - 2 * pad) * (result.depth === 1 ? 0.5 : (layer - 1) / (result.depth - 1));
  const y = (v) => height - pad - (height - 2 * pad) * (range[1] > range[0] ? (v - range[0]) / (range[1] - range[0]) : 0.5);
  let d = "";
  let previous = null;
  for (const layer of result.layers) {
    const cell = at(result, metric, layer);
    if (cell) d += `${previous === layer - 1 ? "L" : "M"}${x(layer).toFixed(1)},${y(cell.value).toFixed(1)}`;
    previous = cell ? layer : null;
  }
  const best = at(result, metric, result.best);
  return s("svg", { width, height, class: `spark ${colour(result.encoder)}`, "aria-hidden": "true" }, s("path", { d }),
    s("circle", { cx: x(best.layer), cy: y(best.value), r: 2.4, class: "dot" }));
}
function rangeOf(benchmark, results) {
  const values = results.filter((r) => r.benchmark === benchmark)
    .flatMap((r) => r.metrics[data.benchmarks[benchmark].headline].value).filter((v) => v !== null);
  return values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
}
function cellButton(result, range, width) {
  const cell = chosen(result);
  const small = cell || state.view === "last" ? beside(result, cell) : "no validation";
  const half = cell && cell.low !== null ? ` ±${percent((cell.high - cell.low) / 2)}` : null;
  const spoken = [data.encoders[result.encoder].label, data.benchmarks[result.benchmark].label + ":",
    cell ? `${percent(cell.value)}, interval ${intervalText(cell)},` : "last layer not scored,", small,
    state.view === "last" && result.standing ? `, ${standingText(result.standing)}` : ""].join(" ");
  return h("button", { type: "button", class: "cell", "aria-label": `${spoken}; details`, onclick: () => showDetails(result, cell ? cell.layer : result.best) },
    width ? sparkline(result, range, width) : null,
    h("span", { class: "number" }, cell ? h("span", { class: isFirst(result) ? "v first" : "v" }, percent(cell.value)) : "–", half ? h("span", { class: "ci" }, half) : null),
    h("span", { class: "sub" }, small));
}
const hole = () => h("div", { class: "hole" }, h("span", { "aria-hidden": "true" }, "–"), h("span", { class: "visually-hidden" }, "not measured"));

// Rows sorted by one column; what has no value stays at the end either way.
function sorted(rows, sort, valueOf) {
  if (!sort) return rows;
  const sign = sort.down ? -1 : 1;
  return [...rows].sort((a, b) => {
    const [x, y] = [valueOf(a, sort.column), valueOf(b, sort.column)];
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * (typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y);
  });
}
function sortHeader(table, column, text, { above = null, below = null, isText = false } = {}) {
  const sort = state.sort[table];
  const active = sort && sort.column === column;
  const [first, ...parts] = soft(text);
  const arrow = h("span", { class: "arrow", "aria-hidden": "true" }, active ? (sort.down ? "▾" : "▴") : "▿");
  return h("th", { scope: "col", class: isText ? "text" : null, "aria-sort": active ? (sort.down ? "descending" : "ascending") : "none" },
    above, h("button", { type: "button", "data-sort": column, onclick: () => {
      state.sort[table] = { column, down: active ? !sort.down : !isText };
      redraw(table === "cost" ? "cost" : "leaderboard");
      const again = document.querySelector(`[data-table="${table}"] [data-sort="${CSS.escape(column)}"]`);
      if (again) again.focus();
      say(`Sorted by ${text}, ${state.sort[table].down ? "descending" : "ascending"}`);
    } }, isText ? [text, "\u00a0", arrow] : [h("span", { class: "together" }, arrow, "\u00a0", first), parts]), below);
}

const small = (...content) => h("span", { class: "sub" }, ...content);
// The two kinds of heads; either can stand above a column or before a row.
function encoderHead(i, benchmarks) {
  const { label, arch } = data.encoders[i];
  const covered = benchmarks.filter((b) => resultAt.has(`${i} ${b}`)).length;
  return { key: i, label, text: label, above: swatch(i), below: [small(soft(arch)), covered < benchmarks.length ? small(`has ${covered} of ${benchmarks.length}`) : null] };
}
function benchmarkHead(i) {
  const info = data.benchmarks[i];
  return { key: i, label: info.label, text: shortLabel(info), above: null, below: small(soft(`${info.task} · ${info.headline}${info.differs ? " · " + info.differs : ""}`), " ", leadMark(i)) };
}
function boardTable(results) {
  const unique = (name) => [...new Set(results.map((r) => r[name]))].sort((a, b) => a - b);
  const benchmarks = unique("benchmark");
  const heads = [benchmarks.map(benchmarkHead), unique("encoder").map((i) => encoderHead(i, benchmarks))];
  const swap = state.swapped ?? heads[0].length < heads[1].length; // the longer list goes down
  const [rowHeads, columns] = swap ? [heads[1], heads[0]] : heads;
  const ranges = new Map(benchmarks.map((b) => [b, rangeOf(b, results)]));
  const known = new Map(results.map((r) => [`${r.encoder} ${r.benchmark}`, r]));
  const find = (row, column) => known.get(swap ? `${row.key} ${column.key}` : `${column.key} ${row.key}`) || null;
  const width = [0, 0, 240, 160, 110, 84, 64, 64][columns.length + 1] || 0; // of a curve, where there is room
  const rows = sorted(rowHeads, state.sort.matrix, (row, name) => {
    if (name === "name") return row.label;
    const column = columns.find((c) => c.label === name);
    const result = column ? find(row, column) : null;
    return (result && chosen(result)?.value) ?? null;
  });
  const first = swap ? "Encoder" : "Benchmark";
  const more = h("div", {});
  const drawn = firstRows("matrix", rows, more, "leaderboard");
  return {
    more,
    head: h("tr", {}, sortHeader("matrix", "name", first, { isText: true }), ...columns.map((c) => sortHeader("matrix", c.label, c.text, c))),
    body: h("tbody", {}, ...drawn.map((row) => h("tr", {}, h("th", { scope: "row" }, row.above, h("span", { class: "name" }, soft(row.text)), row.below),
      ...columns.map((column) => h("td", {}, find(row, column) ? cellButton(find(row, column), ranges.get(find(row, column).benchmark), width) : hole()))))),
    swap,
    columns: [first.toLowerCase(), ...columns.map((c) => c.label)],
    table: rows.map((row) => [row.label, ...columns.map((column) => find(row, column))]),
  };
}

function boardCsv(shown) {
  const rows = shown.table.flatMap((row) => row.slice(1).filter(Boolean)).map((r) => {
    const info = data.benchmarks[r.benchmark];
    const cell = chosen(r);
    return [data.encoders[r.encoder].label, info.label, info.protocol, info.headline, VIEWS[state.view].name,
      cell?.layer, cell?.value, cell?.low, cell?.high, lastOf(r)?.value, r.standing?.lead, r.standing?.first, r.standing?.last, r.standing?.models, cell?.n, r.key];
  });
  return csvText([["encoder", "benchmark", "protocol", "metric", "view", "layer", "value", "low95", "high95", "last_layer_value", "last_layer_lead", "last_layer_rank_from", "last_layer_rank_to", "ranked", "n", "record"], ...rows]);
}
function boardLatex(shown) {
  const cellText = (result) => {
    const value = result && chosen(result);
    if (!value) return "--";
    const ends = value.low === null ? "" : ` {\\scriptsize [${percent(value.low)}, ${percent(value.high)}]}`;
    const layer = state.view === "last" ? "" : ` {\\scriptsize ${beside(result, value)}}`;
    return (isFirst(result) ? `\\textbf{${percent(value.value)}}` : percent(value.value)) + ends + layer;
  };
  return [
    `% ${VIEWS[state.view].caption}`, "% x100, 95% intervals in brackets; -- is not measured. Needs \\usepackage{booktabs}",
    `\\begin{tabular}{l${"r".repeat(shown.columns.length - 1)}}`, "\\toprule",
    shown.columns.map(latexText).join(" & ") + " \\\\", "\\midrule",
    ...shown.table.map(([name, ...cells]) => [latexText(name), ...cells.map(cellText)].join(" & ") + " \\\\"), "\\bottomrule", "\\end{tabular}", "",
  ].join("\n");
}
function buildLeaderboard() {
  let shown = null;
  const caption = h("p", { class: "note", id: "board-note" });
  const views = Object.entries(VIEWS).filter(([key]) => key !== "val" || data.results.some((r) => r.best_on_val !== null));
  const table = h("table", { id: "board", "data-table": "matrix" });
  const swap = h("button", { type: "button", class: "quiet", id: "swap", onclick: () => {
    state.swapped = !shown.swap;
    redraw("leaderboard");
  } }, "Swap rows and columns");
  const body = section("leaderboard", "Leaderboard", null,
    choice("Layer shown", views.map(([key, view]) => [key, view.name]), () => state.view, (v) => { state.view = v; }, "leaderboard"));
  const more = h("div", { class: "more" });
  const board = h("div", {}, h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Leaderboard, scrolls sideways" }, table), more,
    h("div", { class: "tools below" }, swap, copyButton("Copy CSV", () => boardCsv(shown)), copyButton("Copy LaTeX", () => boardLatex(shown))));
  body.append(board, caption);
  drawers.set("leaderboard", () => {
    const results = shownResults(true);
    shown = boardTable(results);
    board.hidden = !results.length;
    more.replaceChildren(shown.more);
    table.replaceChildren(h("caption", { class: "visually-hidden" }, VIEWS[state.view].name), h("thead", {}, shown.head), shown.body);
    caption.textContent = results.length
      ? `${VIEWS[state.view].caption} Scores x100, ± half the 95% interval over test items (images, queries or sequences; not over training seeds). A dash was not measured. A cell opens where its number comes from.`
      : "Nothing fits the filters above.";
  });
}
