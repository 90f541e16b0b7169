// What each result cost: seconds by kind of work, images per second.
const KINDS = [
  ["encoder", /(^|\/)(forward|transfer|extract)$/],
  ["reading and writing", /(^|\/)(load|write)$/],
  ["scoring", /(^|\/)(search|vote|score|propagate|cka|pairs|rank|tsne|whiten|evaluate)$/],
  ["training of heads", /(^|\/)(train|select|refit|fit)$/],
  ["other", /./],
];
function kindsOf(cost) {
  const sums = KINDS.map(() => 0);
  for (const [phase, spent] of Object.entries(cost.phases)) sums[KINDS.findIndex(([, test]) => test.test(phase))] += spent;
  return sums;
}
const COST = [
  ["encoder", "Encoder", (r) => data.encoders[r.encoder].label, true],
  ["benchmark", "Benchmark", (r) => data.benchmarks[r.benchmark].label, true],
  ["layers", "Layers", (r) => r.layers.length, false],
  ["total", "Seconds", (r) => r.cost.total, false],
  ["rate", "Images/s", (r) => r.cost.rate, false],
  ["device", "Device", (r) => r.cost.device, true],
];
function buildCost() {
  const body = section("cost", "Cost", "Wall-clock seconds of all layers of a result together, by kind of work; the layers share their passes through the encoder. Images per second are those of the passes through the encoder. A run that found its features stored shows none; one that was interrupted and went on shows its last part only, so its rate is too high.");
  body.append(h("p", {}, ...KINDS.map(([name], i) => h("span", { class: "key" }, h("i", { class: `f${i}` }), name))));
  const table = h("table", { "data-table": "cost" });
  body.append(h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Cost, scrolls sideways" }, table));
  const more = h("div", { class: "more" });
  body.append(more);
  drawers.set("cost", () => {
    const results = [...shownResults(true), ...shownResults(false)];
    const rows = sorted(results, state.sort.cost, (r, name) => COST.find(([key]) => key === name)[2](r));
    const most = results.reduce((found, r) => Math.max(found, r.cost.total), 1e-9);
    more.replaceChildren();
    table.replaceChildren(h("thead", {}, h("tr", {}, ...COST.map(([key, title, , isText]) => sortHeader("cost", key, title, { isText })), h("th", { scope: "col", class: "text" }, "Where it went"))),
      h("tbody", {}, ...firstRows("cost", rows, more, "cost").map((r) => {
        const bar = h("div", { class: "bar", "aria-hidden": "true" });
        kindsOf(r.cost).forEach((spent, i) => {
          const part = h("span", { class: `f${i}` });
          part.style.width = `${100 * spent / Math.max(r.cost.total, 1e-9)}%`;
          bar.append(part);
        });
        const text = kindsOf(r.cost).map((spent, i) => [spent, KINDS[i][0]]).filter(([spent]) => spent / most > 0).map(([spent, name]) => `${name} ${seconds(spent)}`).join(", ");
        bar.setAttribute("title", text);
        return h("tr", {}, h("th", { scope: "row" }, swatch(r.encoder), soft(COST[0][2](r))), h("td", { class: "text" }, soft(COST[1][2](r))), h("td", {}, r.layers.length),
          h("td", {}, seconds(r.cost.total)), h("td", {}, r.cost.rate === null ? hole() : Number(r.cost.rate.toPrecision(3)).toLocaleString("en")),
          h("td", { class: "text" }, r.cost.processes > 1 ? `${r.cost.device} × ${r.cost.processes}` : r.cost.device), h("td", { class: "text" }, bar, h("span", { class: "visually-hidden" }, text)));
      })));
  });
}
