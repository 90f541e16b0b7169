// Where a number comes from: everything its record states, in a dialog.
function openDialog(title, subtitle, ...content) {
  const dialog = byId("details");
  dialog.replaceChildren(
    h("header", {}, h("div", {}, h("h3", { id: "details-title" }, soft(title)), subtitle ? h("span", { class: "note" }, soft(subtitle)) : null),
      h("button", { type: "button", onclick: () => dialog.close() }, "Close")),
    h("div", {}, ...content));
  dialog.showModal();
  dialog.scrollTop = 0;
}
function showText(title, text) {
  openDialog(title, "The browser does not allow copying; select the text.", h("pre", { tabindex: 0 }, text));
}
function valueText(value) {
  if (value === null) return "none";
  if (typeof value === "string") return value || "(empty)";
  if (typeof value === "object") return JSON.stringify(value);
  return String(value);
}
function facts(object, skip = []) {
  const list = h("dl");
  for (const [name, value] of Object.entries(object)) {
    if (skip.includes(name) || (value && typeof value === "object" && !Object.keys(value).length)) continue;
    list.append(h("dt", {}, name.replaceAll("_", " ")), h("dd", {}, soft(valueText(value))));
  }
  return list;
}
const pooled = (place) => data.pool[place];
function whole(result) {
  const p = result.provenance;
  return {
    record: result.key, protocol: pooled(p.protocol), dataset: pooled(p.dataset), model: pooled(p.model),
    settings: pooled(p.settings), environments: p.environments.map(pooled), cost: result.cost,
    layers: Object.fromEntries(result.layers.map((layer, i) => [layer, {
      metrics: Object.fromEntries(Object.entries(result.metrics).filter(([, c]) => c.value[i] !== null).map(([name, c]) => [name, { value: c.value[i], low95: c.low?.[i] ?? null, high95: c.high?.[i] ?? null }])),
      n: result.n[i], scored_at: result.scored_at[i], environment: result.environment[i], notes: pooled(result.notes[i]),
    }])),
  };
}
function layerTable(result, shownLayer, ranked) {
  const headline = data.benchmarks[result.benchmark].headline;
  const group = headline.includes("/") ? headline.slice(0, headline.lastIndexOf("/")) : "";
  const near = (m) => (m.includes("/") ? m.slice(0, m.lastIndexOf("/")) : "") === group;
  const names = [headline, ...Object.keys(result.metrics).filter((m) => m !== headline && near(m))].slice(0, 6);
  return h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "All layers" }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "text" }, "layer"), ...names.map((m) => h("th", { scope: "col" }, m)), h("th", { scope: "col" }, "95% interval"), h("th", { scope: "col" }, "n"), h("th", { scope: "col", class: "text" }, "scored (UTC)"))),
    h("tbody", {}, ...result.layers.map((layer, i) => {
      const cell = at(result, headline, layer);
      return h("tr", { class: layer === shownLayer ? "shown" : null }, h("th", { scope: "row" }, String(layer) + (layer === result.best ? " (best on test)" : "")),
        ...names.map((m) => h("td", {}, numberText(result.metrics[m].value[i], ranked))),
        h("td", {}, cell && cell.low !== null ? `${numberText(cell.low, ranked)}–${numberText(cell.high, ranked)}` : "none"),
        h("td", {}, result.n[i].toLocaleString("en")), h("td", { class: "text" }, result.scored_at[i].slice(0, 19).replace("T", " ")));
    }))));
}
function showDetails(result, layer) {
  const info = data.benchmarks[result.benchmark];
  const p = result.provenance;
  const [protocol, dataset, model] = [p.protocol, p.dataset, p.model].map(pooled);
  const curve = result.metrics[info.headline];
  const place = result.layers.indexOf(layer);
  const head = layer === null ? null : at(result, info.headline, layer);
  const notes = place >= 0 ? pooled(result.notes[place]) : {};
  const environments = p.environments.map(pooled);
  openDialog(`${data.encoders[result.encoder].label} · ${info.label}`,
    head ? `layer ${layer} of ${result.depth}: ${info.headline} ${numberText(head.value, info.ranked)}${head.low === null ? "" : `, 95% interval ${numberText(head.low, info.ranked)}–${numberText(head.high, info.ranked)} (${curve.method}, ${curve.units.toLocaleString("en")} ${curve.unit})`}` : "",
    h("div", { class: "tools" }, copyButton("Copy all as JSON", () => JSON.stringify(whole(result), null, 1))),
    layerTable(result, layer, info.ranked),
    h("h4", {}, "Protocol"), facts({ id: protocol.id, version: protocol.version, digest: protocol.digest, ...protocol.parameters }),
    Object.keys(protocol.resolved).length ? h("h4", {}, "What the parameters became here") : null, facts(protocol.resolved),
    h("h4", {}, "Data"), facts({ name: dataset.name, variant: dataset.variant, fingerprint: dataset.fingerprint, splits: dataset.splits, "images left out": result.skipped, ...dataset.details }),
    h("h4", {}, "Encoder"), facts(model, ["details"]), facts(model.details),
    h("h4", {}, "Settings"), facts(pooled(p.settings)),
    ...environments.flatMap((environment, i) => [
      h("h4", {}, environments.length > 1 ? `Software and machine of layers ${result.layers.filter((_, j) => result.environment[j] === i).join(", ")}` : "Software and machine"),
      facts({ commit: environment.git, ...environment }, ["git"]),
    ]),
    Object.keys(notes).length ? h("h4", {}, `Notes of layer ${layer}`) : null, facts(notes),
    h("h4", {}, "Cost, seconds"), facts({ ...result.cost.phases, total: result.cost.total }),
    h("h4", {}, "Record"), facts({ key: result.key }));
}
