// Data, state and the small tools that every section uses. Texts of records reach the page as text nodes
// only: nothing here or in the other files builds HTML from strings.
// Large data are compressed; every browser of 2023 and later unpacks them.
async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}
const holder = document.getElementById("data");
if (holder.type === "application/gzip" && !("DecompressionStream" in window)) {
  document.getElementById("main").textContent = "This browser is too old to unpack the data of this page.";
  return;
}
const data = JSON.parse(holder.type === "application/json" ? holder.textContent : await unpacked(holder.textContent));
// What is drawn at once of very many encoders, so that the page scrolls smoothly: "all" draws every row.
const MOST = { rows: 100, curves: 24 };
const SVG = "http://www.w3.org/2000/svg";
const MARKS = ["circle", "square", "diamond", "triangle", "cross"];
const DASHES = ["", "5 3", "1.5 2.5", "8 3 1.5 3"];

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}
const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
// A name that may be broken after a separator, and nowhere inside a word.
const soft = (text) => String(text).split(/(?:(?<=[_/:=])|(?<=\w-))(?=\w)|(?<=[.,])(?=[^\W\d])/).flatMap((part, i) => (i ? [h("wbr"), part] : [part]));
const byId = (id) => document.getElementById(id);

// What the reader chose; sections read it when they are drawn.
const state = {
  encoders: new Set(data.encoders.keys()),
  tasks: new Set(data.benchmarks.map((b) => b.task)),
  variants: new Set(data.benchmarks.map((b) => b.variant)),
  text: "",
  view: "last",
  swapped: null,
  relative: false,
  bands: true,
  all: {},
  sort: {},
};
// Section -> what draws it anew.
const drawers = new Map();
function redraw(...names) {
  for (const [name, draw] of drawers) if (!names.length || names.includes(name)) draw();
}

function shownBenchmark(benchmark) {
  return state.tasks.has(benchmark.task) && state.variants.has(benchmark.variant);
}
function matches(result) {
  const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
  const benchmark = data.benchmarks[result.benchmark];
  const hay = `${data.encoders[result.encoder].label} ${data.encoders[result.encoder].arch} ${benchmark.label} ${benchmark.protocol}`;
  return words.every((word) => hay.toLowerCase().includes(word));
}
function shownResults(ranked) {
  return data.results.filter((r) => {
    const benchmark = data.benchmarks[r.benchmark];
    return benchmark.ranked === ranked && state.encoders.has(r.encoder) && shownBenchmark(benchmark) && matches(r);
  });
}

// The benchmark's label without its task, which stands above it.
const shortLabel = (b) => (b.label.startsWith(b.task + " ") ? b.label.slice(b.task.length + 1) : b.label);
// As rounding.py: halves away from zero, whatever the binary number is.
function percent(value) {
  if (value === null || value === undefined) return "";
  const tenths = Math.sign(value) * Math.round(Number((1000 * Math.abs(value)).toFixed(8)));
  return (tenths / 10 + 0).toFixed(1);
}
function plain(value) {
  if (value === null || value === undefined) return "";
  return Number(value.toPrecision(4)).toString();
}
const minus = (text) => String(text).replace(/^-/, "\u2212");
const numberText = (value, ranked) => minus(ranked ? percent(value) : plain(value));
function seconds(value) {
  if (value < 90) return `${value.toFixed(value < 10 ? 2 : 1)}\u00a0s`;
  if (value < 5400) return `${(value / 60).toFixed(1)}\u00a0min`;
  return `${(value / 3600).toFixed(1)}\u00a0h`;
}

// The first of very many rows, and a button that shows them all.
function firstRows(table, rows, body, section) {
  const most = state.all[table] ? rows.length : MOST.rows;
  if (rows.length > most) {
    body.append(h("button", { type: "button", class: "quiet more", onclick: () => {
      state.all[table] = true;
      redraw(section);
    } }, `Show all ${rows.length.toLocaleString("en")} rows`));
  }
  return rows.slice(0, most);
}

// What one metric of a result is at a layer; null where it was not measured.
function at(result, metric, layer) {
  const place = result.layers.indexOf(layer);
  const curve = result.metrics[metric];
  if (place < 0 || !curve || curve.value[place] === null) return null;
  return {
    layer,
    value: curve.value[place],
    low: curve.low ? curve.low[place] : null,
    high: curve.high ? curve.high[place] : null,
    n: result.n[place],
  };
}
// The number of a result that the chosen view shows.
function chosen(result) {
  const headline = data.benchmarks[result.benchmark].headline;
  if (state.view === "last") return at(result, headline, result.depth);
  const layer = state.view === "best" ? result.best : result.best_on_val;
  return layer === null ? null : at(result, headline, layer);
}
const VIEWS = {
  last: {
    name: "Last layer",
    caption: "Last layer; below it the best layer, selected on test." + (data.results.some((r) => r.standing) ? " Bold is certainly best, a tie is a difference that chance can make: paired tests of the last layers of all encoders of this report, whatever is filtered." : ""),
  },
  best: {
    name: "Best layer (selected on test)",
    caption: "Best layer, selected on test: the layer was picked by the numbers shown, so they are too high by the picking. The last layer stands below it.",
  },
  val: {
    name: "Chosen on validation",
    caption: "The layer with the best score on the held-out part of the training set, where the protocol has one: its score on test, the last layer below it.",
  },
};

const colour = (encoder) => `k${encoder % 7}`;
const dash = (encoder) => DASHES[Math.floor(encoder / 7) % DASHES.length];
function mark(kind, x, y, r, attributes) {
  const shapes = {
    circle: `M${x - r},${y}a${r},${r} 0 1 0 ${2 * r},0a${r},${r} 0 1 0 ${-2 * r},0`,
    square: `M${x - r},${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
    diamond: `M${x},${y - 1.3 * r}L${x + 1.3 * r},${y}L${x},${y + 1.3 * r}L${x - 1.3 * r},${y}z`,
    triangle: `M${x},${y - 1.3 * r}L${x + 1.2 * r},${y + r}L${x - 1.2 * r},${y + r}z`,
    cross: `M${x - r},${y - r}L${x + r},${y + r}M${x - r},${y + r}L${x + r},${y - r}`,
  };
  return s("path", { d: shapes[kind], class: "mark", ...attributes });
}
const markOf = (encoder) => MARKS[encoder % MARKS.length];
function swatch(encoder) {
  return s("svg", { width: 26, height: 12, class: `swatch ${colour(encoder)}`, "aria-hidden": "true" },
    s("line", { x1: 0, x2: 26, y1: 6, y2: 6, class: "line", "stroke-width": 2, "stroke-dasharray": dash(encoder) }),
    mark(markOf(encoder), 13, 6, 3.2));
}

function say(text) {
  byId("status").textContent = text;
}
async function copy(text, button) {
  let done = false;
  try {
    await navigator.clipboard.writeText(text);
    done = true;
  } catch {
    const area = h("textarea", { readonly: true });
    area.value = text;
    (button.closest("dialog") || document.body).append(area);
    area.select();
    done = document.execCommand("copy");
    area.remove();
  }
  const before = button.textContent;
  if (!done) return showText(button.textContent, text);
  say("Copied to the clipboard");
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1200);
}
const copyButton = (label, make) => h("button", { type: "button", class: "quiet", onclick: (e) => copy(make(), e.currentTarget) }, label);
function csvText(rows) {
  // As escapes.py: no text is a formula.
  const safe = (v) => (typeof v === "string" && /^\s*[=+\-@]/.test(v) ? `'${v}` : String(v));
  const field = (value) => ((v) => (/[",\n\r]/.test(v) ? `"${String(v).replaceAll('"', '""')}"` : v))(safe(value));
  return rows.map((row) => row.map((v) => field(v ?? "")).join(",")).join("\n") + "\n";
}
function latexText(text) {
  const special = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "[": "{[}", "]": "{]}", "*": "{*}" };
  return String(text).replace(/[\\~^&%$#_{}[\]*]/g, (c) => special[c] || "\\" + c).replace(/[\r\n]+/g, " ");
}
// Buttons of which one is chosen; `sections` show what depends on it.
function choice(label, options, get, set, ...sections) {
  const group = h("span", { class: "choice", role: "group", "aria-label": label });
  for (const [value, name] of options) {
    group.append(h("button", { type: "button", "data-value": String(value), "aria-pressed": String(get() === value), onclick: () => {
      set(value);
      for (const b of group.children) b.setAttribute("aria-pressed", String(b.dataset.value === String(get())));
      redraw(...sections);
    } }, name));
  }
  return group;
}
// A section of the page; `tools` stand beside its title. Returns what it is drawn into.
function section(id, title, note, ...tools) {
  const body = h("div");
  byId("main").append(h("section", { id, "aria-labelledby": `${id}-title` },
    h("div", { class: "tools" }, h("h2", { id: `${id}-title` }, title), ...tools), note ? h("p", { class: "note" }, note) : null, body));
  byId("nav").append(h("a", { href: `#${id}` }, title));
  return body;
}
