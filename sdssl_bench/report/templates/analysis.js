// What representations are like: alignment and uniformity, CKA between layers, t-SNE maps.
const VIRIDIS = [[68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137], [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37]];
function viridis(t) {
  const at = Math.min(Math.max(t, 0), 1) * (VIRIDIS.length - 1);
  const i = Math.min(Math.floor(at), VIRIDIS.length - 2);
  return `rgb(${VIRIDIS[i].map((v, c) => Math.round(v + (VIRIDIS[i + 1][c] - v) * (at - i))).join(",")})`;
}
function buildDescriptions() {
  const benchmarks = data.benchmarks.filter((b) => !b.ranked && b.metrics.length && b.task !== "cka");
  if (!benchmarks.length) return;
  const body = section("analysis", "Alignment, uniformity, rank", "Descriptions, not scores: none is better high or low by itself. In the first layers [CLS] is nearly constant, so alignment is near 0 and the ratios explode. Bands are 1.96 standard errors either way, where the record has them.");
  drawers.set("analysis", () => {
    const results = shownResults(false);
    body.replaceChildren();
    for (const b of [...new Set(results.map((r) => r.benchmark))].filter((i) => data.benchmarks[i].task !== "cka")) {
      const info = data.benchmarks[b];
      const of = results.filter((r) => r.benchmark === b);
      body.append(h("p", { class: "group" }, soft(info.label), h("span", { class: "note" }, ` ${info.protocol}${info.differs ? ", " + info.differs : ""}`)), h("div", { class: "panels" },
        ...info.metrics.map((metric) => curvePanel(b, of, [metric], { metric, title: metric.replaceAll("_", " "), sub: GLOSSES[metric] || "" }))));
    }
    if (!results.length) body.append(h("p", { class: "note" }, "Nothing fits the filters above."));
  });
}
function heatMap(matrix, low) {
  const [left, top, width] = [24, 6, 360];
  const [rows, columns] = [matrix.rows, matrix.columns];
  const side = Math.min((width - left - 4) / columns.length, 60);
  const height = top + side * rows.length + 30;
  const readout = h("p", { class: "readout" }, "\u00a0");
  const name = data.encoders[matrix.encoder].label;
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, class: "heat", tabindex: 0, role: "group", "aria-label": `CKA of ${name} ${matrix.against ? "with " + matrix.against : "with itself"}. Arrow keys read the cells.` });
  const spot = (i, j) => [left + j * side, top + (rows.length - 1 - i) * side]; // layer 1 at the bottom, as in the paper
  rows.forEach((row, i) => columns.forEach((column, j) => {
    const value = matrix.values[i][j];
    const [x, y] = spot(i, j);
    svg.append(s("rect", { x, y, width: side, height: side, fill: value === null ? "none" : viridis((value - low) / (1 - low)) }));
  }));
  rows.forEach((row, i) => svg.append(s("text", { x: left - 5, y: spot(i, 0)[1] + side / 2 + 4, "text-anchor": "end" }, row)));
  columns.forEach((column, j) => svg.append(s("text", { x: spot(0, j)[0] + side / 2, y: top + side * rows.length + 13, "text-anchor": "middle" }, column)));
  svg.append(s("text", { x: left + side * columns.length, y: height - 4, "text-anchor": "end" }, matrix.against ? "layer of the other" : "layer"));
  const here = s("rect", { width: side, height: side, class: "here", visibility: "hidden" });
  svg.append(here);
  let at = null;
  const show = (place) => {
    at = place;
    here.setAttribute("visibility", place ? "visible" : "hidden");
    if (!place) return void (readout.textContent = "\u00a0");
    const [x, y] = spot(...place);
    here.setAttribute("x", x);
    here.setAttribute("y", y);
    const value = matrix.values[place[0]][place[1]];
    readout.textContent = `layers ${rows[place[0]]} and ${columns[place[1]]}: ${value === null ? "not defined" : value.toFixed(3)}`;
  };
  svg.addEventListener("pointermove", (e) => {
    const box = svg.getBoundingClientRect();
    const j = Math.floor(((e.clientX - box.left) / box.width * width - left) / side);
    const i = rows.length - 1 - Math.floor(((e.clientY - box.top) / box.height * height - top) / side);
    show(i >= 0 && j >= 0 && i < rows.length && j < columns.length ? [i, j] : null);
  });
  svg.addEventListener("pointerleave", () => show(null));
  svg.addEventListener("blur", () => show(null));
  svg.addEventListener("keydown", (e) => {
    const move = { ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[e.key];
    if (!move) return;
    e.preventDefault();
    const [i, j] = at || [0, -1];
    show([Math.min(Math.max(i + move[0], 0), rows.length - 1), Math.min(Math.max(j + move[1], 0), columns.length - 1)]);
    say(readout.textContent);
  });
  const csv = copyButton("CSV", () => csvText([["layer", ...columns], ...rows.map((row, i) => [row, ...matrix.values[i]])]));
  csv.setAttribute("aria-label", `Copy CKA of ${name} as CSV`);
  return h("article", { class: "panel" }, h("h3", {}, soft(matrix.against ? `${name} × ${matrix.against}` : name)),
    h("p", { class: "sub" }, [matrix.dataset, `${matrix.n.toLocaleString("en")} images`, matrix.estimator].filter(Boolean).join(" · ")), svg, readout, h("footer", {}, csv));
}
function buildMatrices() {
  if (!data.matrices.length) return;
  const smallest = Math.min(...data.matrices.flatMap((m) => m.values.flat()).filter((v) => v !== null));
  const floor = Math.min(Math.floor(smallest * 20) / 20, 0.95);
  let low = Math.max(0, floor);
  const panels = h("div", { class: "panels" });
  const legend = h("span", { class: "note" });
  section("cka", "CKA between layers", "Linear CKA, one colour scale for all matrices. Rows are the layers of the encoder named first, layer 1 at the bottom.",
    choice("Colour scale", [[low, `${low.toFixed(2)} to 1`], ...(low > 0 ? [[0, "0 to 1"]] : [])], () => low, (v) => { low = v; }, "cka"), legend).append(panels);
  drawers.set("cka", () => {
    const shown = data.matrices.filter((m) => state.encoders.has(m.encoder) && data.results.some((r) => r.key === m.key && matches(r) && shownBenchmark(data.benchmarks[r.benchmark])));
    legend.replaceChildren(`${low.toFixed(2)} `, s("svg", { width: 140, height: 12, "aria-hidden": "true" }, ...Array.from({ length: 70 }, (_, i) => s("rect", { x: 2 * i, width: 2, height: 12, fill: viridis(i / 69) }))), " 1");
    panels.replaceChildren(...shown.map((m) => heatMap(m, low)));
  });
}
const GLOSSES = {
  alignment: "distance^γ of two views of an image",
  uniformity: "log mean exp(−t d²) over pairs, nats",
  negative_alignment: "distance^γ of different images",
  R: "negative alignment / alignment",
  uniformity_ratio: "−uniformity / alignment",
  rankme: "effective rank of the features",
  effective_rank: "effective rank of centred features",
  silhouette: "of classes, in the features",
  "tsne/silhouette": "of classes, in the map",
  "tsne/purity": "own class among nearest points of the map",
  "tsne/divergence": "Kullback-Leibler divergence of the map",
};
const CLASSES = ["#0077bb", "#ee7733", "#009988", "#cc3311", "#33bbee", "#ee3377", "#999933", "#aa4499", "#888888", "#ddaa33"];
function buildMaps() {
  if (!data.maps.length) return;
  const body = section("tsne", "t-SNE maps", "A picture, not a measurement: distances between groups say nothing. Silhouette and the purity of the nearest neighbours stand beside each. A class is picked out by its button.");
  drawers.set("tsne", () => {
    body.replaceChildren();
    for (const map of data.maps) {
      const result = data.results.find((r) => r.key === map.key);
      if (!state.encoders.has(map.encoder) || !matches(result) || !shownBenchmark(data.benchmarks[result.benchmark])) continue;
      const off = new Set();
      const panels = h("div", { class: "maps" });
      for (const panel of map.panels) {
        panels.append(h("figure", {}, s("svg", { viewBox: "-20 -20 1040 1040", class: "map", role: "img", "aria-label": `t-SNE of layer ${panel.layer}` },
          ...panel.points.map((points, i) => {
            let d = "";
            for (let k = 0; k < points.length; k += 2) d += `M${points[k]},${points[k + 1]}h0`;
            return s("path", { d, stroke: CLASSES[i % CLASSES.length], "data-class": i }, s("title", {}, map.classes[i]));
          })), h("figcaption", {}, `layer ${panel.layer}`, panel.silhouette === null ? null : ` · silhouette ${panel.silhouette.toFixed(2)}`, panel.purity === null ? null : ` · purity ${panel.purity.toFixed(2)}`)));
      }
      const classes = h("div", { class: "row scroll-row", role: "group", "aria-label": "Classes" }, ...map.classes.map((name, i) => {
        const dot = s("svg", { width: 10, height: 10, "aria-hidden": "true" }, s("circle", { cx: 5, cy: 5, r: 4.5, fill: CLASSES[i % CLASSES.length] }));
        return h("button", { type: "button", class: "chip", "aria-pressed": "true", onclick: (e) => {
          if (off.has(i)) off.delete(i); else off.add(i);
          e.currentTarget.setAttribute("aria-pressed", String(!off.has(i)));
          for (const path of panels.querySelectorAll(`[data-class="${i}"]`)) path.classList.toggle("off", off.has(i));
        } }, dot, h("span", {}, soft(name)));
      }));
      body.append(h("p", { class: "group" }, soft(`${data.encoders[map.encoder].label} · ${map.dataset}`), map.perplexity === null ? "" : ` · perplexity ${map.perplexity}`), classes, panels);
    }
  });
}
