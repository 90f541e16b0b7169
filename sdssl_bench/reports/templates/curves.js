// Layer curves with bands: small multiples, one per benchmark, all chosen encoders in each.
const PLOT = { width: 360, height: 216, left: 34, right: 8, top: 10, bottom: 30 };
function niceTicks(low, high, most) {
  const raw = (high - low) / most || 1;
  const base = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * base).find((v) => v >= raw);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-6; i += 1) ticks.push(i * step);
  return ticks;
}
// Bands that overlap are told apart by the slant of their hatching, as lines are by marker and dash.
function buildHatching() {
  const patterns = data.encoders.map((_, i) => s("pattern", { id: `hatch${i}`, class: colour(i), width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: `rotate(${[45, 135, 0, 90, 22.5, 112.5, 67.5, 157.5][i % 8]})` },
    s("line", { x1: 0, x2: 5, y1: 2.5, y2: 2.5, class: "line" })));
  document.body.append(s("svg", { width: 0, height: 0, class: "hatching", "aria-hidden": "true" }, s("defs", {}, patterns)));
}
// series: [{encoder, depth, best, points: [{layer, value, low, high}]}]; a gap between layers stays a gap.
function linePlot(series, { ranked, readout, label }) {
  const { width, height, left, right, top, bottom } = PLOT;
  const scale = ranked ? 100 : 1;
  const ends = series.flatMap((one) => one.points).flatMap((p) => (state.bands && p.low !== null ? [p.value, p.low, p.high] : [p.value])).map((v) => v * scale);
  let [low, high] = [Math.min(...ends), Math.max(...ends)];
  if (low === high) [low, high] = [low - 1, high + 1];
  const margin = (high - low) * 0.05;
  [low, high] = [low - margin, high + margin];
  const depth = Math.max(...series.map((one) => one.depth));
  const place = (one, layer) => (state.relative ? layer / one.depth : layer);
  const [first, last] = state.relative ? [0, 1] : [1, Math.max(depth, 2)];
  const x = (v) => left + 6 + (width - left - right - 12) * (v - first) / (last - first);
  const y = (v) => height - bottom - (height - top - bottom) * (v * scale - low) / (high - low);
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, class: series.length > 4 ? "plot many" : "plot", tabindex: 0, role: "group", "aria-roledescription": "layer curves", "aria-label": `${label}. Left and right arrow keys read the layers.` });
  for (const tick of niceTicks(low, high, 5)) {
    svg.append(s("line", { x1: left, x2: width - right, y1: y(tick / scale), y2: y(tick / scale), class: "grid" }),
      s("text", { x: left - 6, y: y(tick / scale) + 3.5, "text-anchor": "end" }, minus(Number(tick.toPrecision(6)))));
  }
  const marks = state.relative ? [0, 0.25, 0.5, 0.75, 1] : niceTicks(1, depth, 12).filter((v) => Number.isInteger(v));
  for (const tick of marks) svg.append(s("text", { x: x(tick), y: height - bottom + 14, "text-anchor": "middle" }, tick));
  svg.append(s("line", { x1: left, x2: width - right, y1: height - bottom, y2: height - bottom, class: "axis" }),
    s("text", { x: width - right, y: height - 3, "text-anchor": "end" }, state.relative ? "layer / depth" : "layer"));
  const xy = (one, p, end) => `${x(place(one, p.layer)).toFixed(1)},${y(p[end]).toFixed(1)}`;
  const path = (one, points, end, attributes) => s("path", { d: "M" + points.map((p) => xy(one, p, end)).join("L"), ...attributes });
  const bands = series.map((one) => s("g", { class: colour(one.encoder) }));
  const lines = series.map((one) => s("g", { class: colour(one.encoder) }));
  svg.append(...bands, ...lines); // no band lies over a line
  series.forEach((one, i) => {
    const runs = [];
    for (const p of one.points) {
      const run = runs.at(-1);
      if (run && run.at(-1).layer === p.layer - 1) run.push(p);
      else runs.push([p]);
    }
    for (const run of runs) {
      const banded = run.filter((p) => p.low !== null);
      if (state.bands && banded.length > 1) {
        const d = "M" + [...banded.map((p) => xy(one, p, "high")), ...banded.toReversed().map((p) => xy(one, p, "low"))].join("L") + "z";
        bands[i].append(s("path", { class: "band", d }), s("path", { class: "hatch", fill: `url(#hatch${one.encoder})`, d }),
          ...["low", "high"].map((end) => path(one, banded, end, { class: "edge", "stroke-dasharray": dash(one.encoder) })));
      }
      lines[i].append(path(one, run, "value", { class: "line", "stroke-dasharray": dash(one.encoder) }));
    }
    for (const p of one.points) {
      const [cx, cy] = xy(one, p, "value").split(",").map(Number);
      lines[i].append(mark(markOf(one.encoder), cx, cy, 2.3));
      if (p.layer === one.best) lines[i].append(s("circle", { cx, cy, r: 5.5, class: "best" }));
    }
  });
  const rule = s("line", { y1: top, y2: height - bottom, class: "rule", visibility: "hidden" });
  svg.append(rule);
  const stops = [...new Set(series.flatMap((one) => one.points.map((p) => place(one, p.layer))))].sort((a, b) => a - b);
  // The legend: one row per encoder, highest first; its numbers are those of the layer pointed at.
  const atRest = (one) => one.points.find((p) => p.layer === one.best) || one.points.at(-1);
  const rows = series.map((one, i) => {
    const num = h("span", { class: "num" });
    const single = (on) => [bands, lines].forEach((groups) => groups.forEach((g, j) => {
      g.classList.toggle("off", on && j !== i);
      g.classList.toggle("on", on && j === i);
    }));
    return { one, num, node: h("li", { onpointerenter: () => single(true), onpointerleave: () => single(false) }, swatch(one.encoder), h("span", { class: "name" }, soft(data.encoders[one.encoder].label)), num) };
  }).sort((a, b) => atRest(b.one).value - atRest(a.one).value);
  const title = h("li", { class: "sub" });
  let current = -1;
  const show = (i) => {
    current = i;
    rule.setAttribute("visibility", i < 0 ? "hidden" : "visible");
    rule.setAttribute("x1", i < 0 ? 0 : x(stops[i]));
    rule.setAttribute("x2", i < 0 ? 0 : x(stops[i]));
    const layer = state.relative ? "layer / depth" : "layer";
    title.textContent = i >= 0 ? `${layer} ${plain(stops[i])}, 95% interval` : series.some((one) => one.best !== null) ? "best layer, selected on test" : "last layer scored";
    for (const { one, num } of rows) {
      const p = i < 0 ? atRest(one) : one.points.find((q) => place(one, q.layer) === stops[i]);
      const after = !p ? "" : i < 0 ? ` at ${p.layer}` : p.low === null ? "" : ` ${numberText(p.low, ranked)}–${numberText(p.high, ranked)}`;
      num.replaceChildren(p ? numberText(p.value, ranked) : "–", h("span", { class: "ci" }, after));
    }
  };
  readout.replaceChildren(title, ...rows.map((row) => row.node));
  const nearest = (event) => {
    const box = svg.getBoundingClientRect();
    const at = (event.clientX - box.left) / box.width * width;
    return stops.reduce((found, v, i) => (Math.abs(x(v) - at) < Math.abs(x(stops[found]) - at) ? i : found), 0);
  };
  svg.addEventListener("pointermove", (e) => show(nearest(e)));
  svg.addEventListener("pointerdown", (e) => show(nearest(e)));
  svg.addEventListener("pointerleave", () => { if (document.activeElement !== svg) show(-1); });
  svg.addEventListener("blur", () => show(-1));
  svg.addEventListener("keydown", (e) => {
    const moves = { ArrowLeft: Math.max(current - 1, 0), ArrowRight: Math.min(current + 1, stops.length - 1), Home: 0, End: stops.length - 1, Escape: -1 };
    if (!(e.key in moves)) return;
    e.preventDefault();
    show(moves[e.key]);
    say([...readout.children].map((li) => li.textContent).join("; "));
  });
  show(-1);
  return svg;
}
function seriesOf(results, metric, headline) {
  return results.map((r) => ({
    encoder: r.encoder, depth: r.depth, best: metric === headline ? r.best : null, result: r,
    points: r.layers.map((layer) => at(r, metric, layer)).filter(Boolean),
  })).filter((one) => one.points.length);
}
// The highest of very many curves; filters choose others.
function drawnOf(series) {
  const height = (one) => (one.points.find((p) => p.layer === one.best) || one.points.at(-1)).value;
  return series.length > MOST.curves ? [...series].sort((a, b) => height(b) - height(a)).slice(0, MOST.curves) : series;
}
function curvePanel(benchmark, results, metrics, { title, sub, metric = null }) {
  const info = data.benchmarks[benchmark];
  const rest = h("p", { class: "sub" });
  let current = metric || state.metrics?.[info.label] || info.headline;
  const readout = h("ul", { class: "readout" });
  const holder = h("div");
  const draw = () => {
    const all = seriesOf(results, current, info.headline);
    const series = drawnOf(all);
    rest.textContent = series.length < all.length ? `The ${series.length} highest of ${all.length.toLocaleString("en")} encoders; filter to see others. The CSV has all.` : "";
    rest.hidden = series.length === all.length;
    holder.replaceChildren(series.length ? linePlot(series, { ranked: info.ranked, readout, label: `${info.label}, ${current}` }) : h("p", { class: "note" }, "Not measured."));
  };
  const pick = metrics.length > 1 ? h("select", { "aria-label": `Metric of ${info.label}`, onchange: (e) => {
    current = e.target.value;
    (state.metrics ||= {})[info.label] = current;
    draw();
  } }, ...metrics.map((m) => h("option", { value: m, selected: m === current }, m))) : null;
  const csv = copyButton("CSV", () => csvText([["encoder", "benchmark", "metric", "layer", "value", "low95", "high95", "n", "record"],
    ...seriesOf(results, current, info.headline).flatMap((one) => one.points.map((p) => [data.encoders[one.encoder].label, info.label, current, p.layer, p.value, p.low, p.high, p.n, one.result.key]))]));
  csv.setAttribute("aria-label", `Copy ${info.label} as CSV`);
  draw();
  return h("article", { class: "panel" }, h("h3", {}, soft(title)), h("p", { class: "sub" }, soft(sub)), holder, rest, readout, h("footer", {}, pick, csv));
}
function unitText(results) {
  const info = data.benchmarks[results[0].benchmark];
  const curve = results[0].metrics[info.headline];
  return curve.unit ? `${curve.units.toLocaleString("en")} ${curve.unit}` : "";
}
function buildCurves() {
  if (!data.results.some((r) => data.benchmarks[r.benchmark].ranked)) return;
  const body = section("curves", "Layer curves", "Bands are 95% intervals over test items, of each encoder by itself: two bands that overlap may still differ in a paired test. A ring marks the best layer, which is selected on test. Point at a curve, or reach it with Tab and use the arrow keys, to read a layer; point at a name to see its curve alone.",
    choice("Horizontal axis", [[false, "Layer"], [true, "Layer / depth"]], () => state.relative, (v) => { state.relative = v; }, "curves", "analysis"),
    choice("Bands", [[true, "Bands"], [false, "No bands"]], () => state.bands, (v) => { state.bands = v; }, "curves", "analysis"));
  const panels = h("div", { class: "panels" });
  body.append(panels);
  drawers.set("curves", () => {
    const results = shownResults(true);
    const benchmarks = [...new Set(results.map((r) => r.benchmark))].sort((a, b) => a - b);
    panels.replaceChildren(...benchmarks.map((b) => {
      const of = results.filter((r) => r.benchmark === b);
      const info = data.benchmarks[b];
      return curvePanel(b, of, info.metrics, { title: shortLabel(info), sub: [info.task, info.protocol.split("/")[1], unitText(of), info.differs].filter(Boolean).join(" · ") });
    }));
    if (!benchmarks.length) panels.append(h("p", { class: "note" }, "Nothing fits the filters above."));
  });
}
