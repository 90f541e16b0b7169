// The bar above everything: which encoders, tasks, data and words are shown.
function chips(label, entries, chosenSet) {
  const row = h("div", { class: "row scroll-row", role: "group", "aria-label": label }, h("span", { class: "label" }, label));
  const buttons = entries.map(([value, text, icon]) => h("button", {
    type: "button", class: "chip", "aria-pressed": "true", "data-value": String(value), onclick: (event) => {
      if (chosenSet.has(value)) chosenSet.delete(value);
      else chosenSet.add(value);
      event.currentTarget.setAttribute("aria-pressed", String(chosenSet.has(value)));
      redraw();
    },
  }, icon, text));
  row.append(...buttons);
  if (entries.length > 3) {
    const all = h("button", { type: "button", class: "quiet", onclick: () => {
      const every = chosenSet.size === entries.length;
      for (const [value] of entries) (every ? chosenSet.delete(value) : chosenSet.add(value));
      for (const b of buttons) b.setAttribute("aria-pressed", String(!every));
      redraw();
    } }, "all / none");
    row.append(all);
  }
  return row;
}
function buildFilters() {
  const tasks = [...new Set(data.benchmarks.map((b) => b.task))];
  const variants = [...new Set(data.benchmarks.map((b) => b.variant))];
  const search = h("input", { type: "search", id: "search", placeholder: "words in encoder or benchmark", size: 30, oninput: (e) => {
    state.text = e.target.value;
    redraw();
  } });
  const bar = byId("filters");
  bar.append(
    chips("Encoders", data.encoders.map((e, i) => [i, e.label + (e.pretrained ? "" : " (untrained)"), swatch(i)]), state.encoders),
    chips("Tasks", tasks.map((t) => [t, t]), state.tasks),
  );
  if (variants.length > 1) bar.append(chips("Data", variants.map((v) => [v, v]), state.variants));
  bar.append(h("div", { class: "row" }, h("label", { class: "label", for: "search" }, "Search"), search));
  bar.hidden = false;
}
