// The leaderboard: encoders x benchmarks or one row per result, sortable, each cell with its layer curve.
function intervalText(cell) {
  return cell.low === null ? "no interval" : `${percent(cell.low)}–${percent(cell.high)}`;
}
function rankText(standing) {
  if (!standing) return null;
  return `rank ${standing.first === standing.last ? standing.first : `${standing.first}–${standing.last}`} of ${standing.models}`;
}
function beside(result) {
  if (state.view === "last") return rankText(result.standing);
  const cell = chosen(result);
  const last = at(result, data.benchmarks[result.benchmark].headline, result.depth);
  return `layer ${cell.layer} · last ${last ? percent(last.value) : "not scored"}`;
}
// Better than every other encoder of the benchmark, by the paired tests of the last layer.
const isFirst = (r) => state.view === "last" && r.standing !== null && r.standing.last === 1;
function sparkline(result, range) {
  const metric = data.benchmarks[result.benchmark].headline;
  const [width, height, pad] = [84, 18, 3];
  const x = (layer) => pad + (width - 2 * pad) * (result.depth === 1 ? 0.5 : (layer - 1) / (result.depth - 1));
  const y = (v) => height - pad - (height - 2 * pad) * (range[1] > range[0] ? (v - range[0]) / (range[1] - range[0]) : 0.5);
  let d = "";
  let previous = null;
  for (const layer of result.layers) {
    const cell = at(result, metric, layer);
    if (cell) d += `${previous === layer - 1 ? "L" : "M"}${x(layer).toFixed(1)},${y(cell.value).toFixed(1)}`;
    previous = cell ? layer : null;
  }
  const cell = chosen(result);
  return s("svg", { width, height, class: `spark ${colour(result.encoder)}`, "aria-hidden": "true" }, s("path", { d }),
    cell ? s("circle", { cx: x(cell.layer), cy: y(cell.value), r: 2.4, class: "dot" }) : null);
}
function rangeOf(benchmark, results) {
  const values = results.filter((r) => r.benchmark === benchmark)
    .flatMap((r) => r.metrics[data.benchmarks[benchmark].headline].value).filter((v) => v !== null);
  return [Math.min(...values), Math.max(...values)];
}
function cellButton(result, range) {
  const benchmark = data.benchmarks[result.benchmark];
  const cell = chosen(result);
  const name = `${data.encoders[result.encoder].label}, ${benchmark.label}`;
  if (!cell) {
    const why = state.view === "val" ? "no validation" : "last not scored";
    return h("button", { type: "button", class: "cell", "aria-label": `${name}: ${why}; details`, onclick: () => showDetails(result, null) },
      h("span", { class: "sub" }, why), sparkline(result, range));
  }
  const extra = beside(result);
  return h("button", {
    type: "button", class: "cell", onclick: () => showDetails(result, cell.layer),
    "aria-label": `${name}: ${percent(cell.value)}, interval ${intervalText(cell)}${extra ? ", " + extra : ""}; details`,
  }, h("span", { class: isFirst(result) ? "v first" : "v" }, percent(cell.value)), h("span", { class: "ci" }, intervalText(cell)),
    extra ? h("span", { class: "sub" }, extra) : null, sparkline(result, range));
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
function sortHeader(table, column, text, { sub = null, isText = false, swatchOf = null } = {}) {
  const sort = state.sort[table];
  const active = sort && sort.column === column;
  const header = h("th", { scope: "col", class: isText ? "text" : null, "aria-sort": active ? (sort.down ? "descending" : "ascending") : "none" });
  header.append(h("button", { type: "button", "data-sort": column, onclick: () => {
    state.sort[table] = { column, down: active ? !sort.down : !isText };
    redraw(table === "cost" ? "cost" : "leaderboard");
    const again = document.querySelector(`[data-table="${table}"] [data-sort="${CSS.escape(column)}"]`);
    if (again) again.focus();
    say(`Sorted by ${text}, ${state.sort[table].down ? "descending" : "ascending"}`);
  } }, sub ? h("span", { class: "sub" }, sub) : null, swatchOf === null ? null : swatch(swatchOf), text, "\u00a0", h("span", { class: "arrow", "aria-hidden": "true" }, active ? (sort.down ? "▾" : "▴") : "▿")));
  return header;
}

function matrixTable(results) {
  const encoders = [...new Set(results.map((r) => r.encoder))].sort((a, b) => a - b);
  const benchmarks = [...new Set(results.map((r) => r.benchmark))].sort((a, b) => a - b);
  const find = (e, b) => results.find((r) => r.encoder === e && r.benchmark === b) || null;
  const swap = state.swapped ?? (encoders.length <= 6 && benchmarks.length > encoders.length);
  const ranges = new Map(benchmarks.map((b) => [b, rangeOf(b, results)]));
  const encoderName = (i) => data.encoders[i].label;
  const benchmarkName = (i) => data.benchmarks[i].label;
  const rowKeys = swap ? benchmarks : encoders;
  const columnKeys = swap ? encoders : benchmarks;
  const pair = (row, column) => (swap ? find(column, row) : find(row, column));
  const coverage = (e) => benchmarks.filter((b) => find(e, b) && chosen(find(e, b))).length;
  const rowName = swap ? benchmarkName : encoderName;
  const rows = sorted(rowKeys, state.sort.matrix, (row, column) => {
    if (column === "name") return rowName(row);
    if (column === "coverage") return swap ? null : coverage(row);
    const key = columnKeys.find((c) => (swap ? encoderName(c) : benchmarkName(c)) === column);
    const cell = key === undefined ? null : pair(row, key);
    const value = cell && chosen(cell);
    return value ? value.value : null;
  });
  const head = h("tr", {}, sortHeader("matrix", "name", swap ? "Benchmark" : "Encoder", { isText: true }));
  for (const key of columnKeys) {
    const info = data.benchmarks[key];
    head.append(swap
      ? sortHeader("matrix", encoderName(key), encoderName(key), { sub: `${data.encoders[key].arch}, covers ${coverage(key)} of ${benchmarks.length}`, swatchOf: key })
      : sortHeader("matrix", info.label, shortLabel(info), { sub: `${info.task} · ${info.headline}${info.differs ? " · " + info.differs : ""}` }));
  }
  if (!swap) head.append(sortHeader("matrix", "coverage", "Coverage"));
  const body = h("tbody");
  for (const row of rows) {
    const tr = h("tr", {});
    if (swap) {
      const info = data.benchmarks[row];
      tr.append(h("th", { scope: "row" }, h("span", { class: "sub small" }, `${info.task} · ${info.headline}`), h("br"), shortLabel(info), info.differs ? h("span", { class: "sub small" }, h("br"), info.differs) : null));
    } else tr.append(h("th", { scope: "row" }, swatch(row), encoderName(row), h("br"), h("span", { class: "sub small" }, data.encoders[row].arch)));
    for (const key of columnKeys) {
      const result = pair(row, key);
      tr.append(h("td", {}, result ? cellButton(result, ranges.get(result.benchmark)) : hole()));
    }
    if (!swap) tr.append(h("td", {}, `${coverage(row)} of ${benchmarks.length}`));
    body.append(tr);
  }
  const text = (result) => (result && chosen(result) ? chosen(result) : null);
  const table = rows.map((row) => [rowName(row), ...columnKeys.map((key) => [pair(row, key), text(pair(row, key))])]);
  return { head, body, columns: [swap ? "benchmark" : "encoder", ...columnKeys.map(swap ? encoderName : benchmarkName)], table, name: "matrix" };
}

const LIST = [
  ["encoder", "Encoder", (r) => data.encoders[r.encoder].label, true],
  ["task", "Task", (r) => data.benchmarks[r.benchmark].task, true],
  ["dataset", "Data", (r) => shortLabel(data.benchmarks[r.benchmark]), true],
  ["metric", "Metric", (r) => data.benchmarks[r.benchmark].headline, true],
  ["value", "Value", (r) => chosen(r)?.value ?? null, false],
  ["layer", "Layer", (r) => chosen(r)?.layer ?? null, false],
  ["last", "Last layer", (r) => at(r, data.benchmarks[r.benchmark].headline, r.depth)?.value ?? null, false],
  ["n", "n", (r) => chosen(r)?.n ?? null, false],
  ["seconds", "Cost", (r) => r.cost.total, false],
];
function listTable(results) {
  const column = (name) => LIST.find(([key]) => key === name);
  const rows = sorted(results, state.sort.list, (r, name) => column(name)[2](r));
  const ranges = new Map([...new Set(results.map((r) => r.benchmark))].map((b) => [b, rangeOf(b, results)]));
  const head = h("tr", {}, ...LIST.map(([key, title, , isText]) => sortHeader("list", key, title, { isText })));
  const body = h("tbody", {}, ...rows.map((r) => h("tr", {},
    h("th", { scope: "row" }, swatch(r.encoder), data.encoders[r.encoder].label),
    ...LIST.slice(1, 4).map(([, , of]) => h("td", { class: "text" }, of(r))),
    h("td", {}, cellButton(r, ranges.get(r.benchmark))),
    h("td", {}, chosen(r)?.layer ?? ""),
    h("td", {}, percent(LIST[6][2](r)) || hole()),
    h("td", {}, (chosen(r)?.n ?? "").toLocaleString("en")),
    h("td", {}, seconds(r.cost.total)),
  )));
  const table = rows.map((r) => [data.encoders[r.encoder].label, data.benchmarks[r.benchmark].label, data.benchmarks[r.benchmark].headline, [r, chosen(r)]]);
  return { head, body, columns: ["encoder", "benchmark", "metric", "value"], table, name: "list" };
}

function boardCsv(shown) {
  const rows = shown.table.flatMap((row) => row.filter(Array.isArray).filter(([r]) => r).map(([r, cell]) => {
    const info = data.benchmarks[r.benchmark];
    const last = at(r, info.headline, r.depth);
    return [data.encoders[r.encoder].label, info.label, info.protocol, info.headline, VIEWS[state.view].name + (state.view === "best" ? " (selected on test)" : ""),
      cell?.layer, cell?.value, cell?.low, cell?.high, last?.value, r.standing?.first, r.standing?.last, r.standing?.models, cell?.n, r.key];
  }));
  return csvText([["encoder", "benchmark", "protocol", "metric", "view", "layer", "value", "low95", "high95", "last_layer_value", "last_layer_rank_from", "last_layer_rank_to", "ranked", "n", "record"], ...rows]);
}
function boardLatex(shown) {
  const cellText = (cell) => {
    if (!Array.isArray(cell)) return latexText(cell);
    const [result, value] = cell;
    if (!value) return "--";
    const ends = value.low === null ? "" : ` {\\scriptsize [${percent(value.low)}, ${percent(value.high)}]}`;
    const last = state.view === "last" ? null : at(result, data.benchmarks[result.benchmark].headline, result.depth);
    const layer = state.view === "last" ? "" : ` {\\scriptsize at ${value.layer}, last ${last ? percent(last.value) : "--"}}`;
    const score = percent(value.value);
    return (isFirst(result) ? `\\textbf{${score}}` : score) + ends + layer;
  };
  const texts = shown.columns.length - (shown.table[0] || []).filter(Array.isArray).length;
  return [
    `% ${VIEWS[state.view].caption} x100, 95% intervals in brackets. -- is not measured.`,
    "% needs \\usepackage{booktabs}",
    `\\begin{tabular}{${"l".repeat(texts)}${"r".repeat(shown.columns.length - texts)}}`, "\\toprule",
    shown.columns.map(latexText).join(" & ") + " \\\\", "\\midrule",
    ...shown.table.map((row) => row.map(cellText).join(" & ") + " \\\\"), "\\bottomrule", "\\end{tabular}", "",
  ].join("\n");
}
function buildLeaderboard() {
  const body = section("leaderboard", "Leaderboard");
  let shown = null;
  const caption = h("p", { class: "note", id: "board-note" });
  const views = Object.entries(VIEWS).filter(([key]) => key !== "val" || data.results.some((r) => r.best_on_val !== null));
  const swap = h("button", { type: "button", class: "quiet", id: "swap", onclick: () => {
    state.swapped = !(shown.columns[0] === "benchmark");
    redraw("leaderboard");
  } }, "Swap rows and columns");
  body.append(
    h("div", { class: "tools" },
      choice("Layer shown", views.map(([key, view]) => [key, key === "best" ? "Best layer (selected on test)" : view.name]), () => state.view, (v) => { state.view = v; }, "leaderboard"),
      choice("Layout", [["matrix", "Table"], ["list", "List"]], () => state.layout, (v) => { state.layout = v; }, "leaderboard"), swap,
      h("span", { class: "end" }, copyButton("Copy CSV", () => boardCsv(shown)), copyButton("Copy LaTeX", () => boardLatex(shown)))),
    caption);
  const table = h("table", { id: "board" });
  body.append(h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Leaderboard, scrolls sideways" }, table));
  body.append(h("p", { class: "note" }, "x100 · below each number its 95% interval over test items (images, queries or sequences; not over training seeds) and its curve over the layers · a dash was not measured; nothing is averaged over benchmarks · ranks are those an encoder may have among all of the report with this benchmark, by paired tests of the last layers on the same items (Holm, 5%); bold is only what is first beyond doubt; sdssl-bench compare tells more · a cell opens where its number comes from."));
  drawers.set("leaderboard", () => {
    const results = shownResults(true);
    shown = state.layout === "matrix" ? matrixTable(results) : listTable(results);
    swap.hidden = state.layout !== "matrix";
    table.dataset.table = shown.name;
    table.replaceChildren(h("caption", { class: "visually-hidden" }, VIEWS[state.view].caption), h("thead", {}, shown.head), shown.body);
    const empty = results.length ? "" : " Nothing fits the filters above.";
    caption.textContent = `${VIEWS[state.view].caption} ${count(results.length, "result")}.${empty}`;
  });
}
