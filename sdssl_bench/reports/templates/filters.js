// What is shown: encoders, whose buttons are the legend of the page, and behind "Filter" tasks, data, words.
function chips(label, entries, chosenSet) {
  const row = h("div", { class: "row scroll-row", role: "group", "aria-label": label }, label === "Encoders" ? null : h("span", { class: "label" }, label));
  const buttons = entries.map(([value, text, icon]) => h("button", {
    type: "button", class: "chip", "aria-pressed": "true", "data-value": String(value), onclick: (event) => {
      if (chosenSet.has(value)) chosenSet.delete(value);
      else chosenSet.add(value);
      event.currentTarget.setAttribute("aria-pressed", String(chosenSet.has(value)));
      redraw();
    },
  }, icon, h("span", {}, soft(text))));
  // Of very many, the search finds those that have no button here.
  row.append(...buttons.slice(0, MOST.rows));
  if (buttons.length > MOST.rows) row.append(h("span", { class: "label" }, `and ${(buttons.length - MOST.rows).toLocaleString("en")} more, by the search`));
  if (entries.length > 3) {
    row.append(h("button", { type: "button", class: "quiet", onclick: () => {
      const every = chosenSet.size === entries.length;
      for (const [value] of entries) (every ? chosenSet.delete(value) : chosenSet.add(value));
      for (const b of buttons) b.setAttribute("aria-pressed", String(!every));
      redraw();
    } }, "all / none"));
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
    chips("Encoders", data.encoders.map((e, i) => [i, e.label + (e.pretrained === false ? " (control)" : ""), swatch(i)]), state.encoders),
    h("details", {}, h("summary", {}, "Filter by task, data or words"),
      chips("Tasks", tasks.map((t) => [t, t]), state.tasks),
      variants.length > 1 ? chips("Data", variants.map((v) => [v, v]), state.variants) : null,
      h("div", { class: "row" }, h("label", { class: "label", for: "search" }, "Search"), search)));
  bar.hidden = false;
}
