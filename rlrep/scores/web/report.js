"use strict";
// Draws the report's charts from the JSON beside it, as SVG. Every text goes in by textContent: names are not trusted.

const data = JSON.parse(document.getElementById("data").textContent);
const state = { hidden: new Set(), stat: "IQM", axis: "env", kind: "final" };
const SVG = "http://www.w3.org/2000/svg";
const LEFT = 52, RIGHT = 18, TOP = 10, BOTTOM = 38;
let WIDTH = 460, HEIGHT = 260; // of the chart being drawn, so that its text is never scaled

function tint(arm) {
  return `arm${arm % 8} style${Math.floor(arm / 8) % 4}`;
}

function make(name, attributes, parent, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.appendChild(node);
  return node;
}

function short(value) {
  const size = Math.abs(value);
  if (size >= 1e6) return trim(value / 1e6, 2) + "M";
  if (size >= 1e4) return trim(value / 1e3, 1) + "k";
  return size >= 100 ? trim(value, 0) : size >= 1 ? trim(value, 2) : trim(value, 3);
}

function trim(value, digits) {
  const text = value.toFixed(digits);
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

function clip(text, most) {
  return text.length > most ? text.slice(0, most - 1) + "…" : text;
}

function ticks(low, high, count, least = 0) { // pairs of place and text, with as many digits as tell them apart
  const span = high - low || 1, rough = span / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(least, [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough));
  const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)), found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * span; k++) {
    found.push([k * step, step < 1 ? (k * step).toFixed(digits) : short(k * step)]);
  }
  return found;
}

function extent(values, zero) {
  let low = zero ? 0 : Infinity, high = -Infinity;
  for (const value of values) if (value !== null) { low = Math.min(low, value); high = Math.max(high, value); }
  if (!isFinite(high)) return [0, 1];
  if (!isFinite(low)) low = high;
  const room = (high - low || Math.abs(high) || 1) * 0.04;
  return [zero && low === 0 ? 0 : low - room, high + room];
}

function frame(figure, height, label) {
  figure.querySelector("svg")?.remove();
  const svg = make("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": label }, null);
  figure.insertBefore(svg, figure.querySelector(".read"));
  return svg;
}

function pathOf(points, x, y) {
  let path = "", open = false;
  for (const [a, b] of points) {
    if (b === null) { open = false; continue; }
    path += `${open ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`;
    open = true;
  }
  return path;
}

function bandOf(line, x, y) { // only of a line that has an interval: one of few runs has `runs` instead
  let path = "", start = 0;
  const known = (k) => k < line.x.length && line.lo[k] !== null && line.hi[k] !== null;
  while (start < line.x.length) {
    if (!known(start)) { start++; continue; }
    let end = start;
    while (known(end)) end++;
    const up = [], down = [];
    for (let k = start; k < end; k++) {
      up.push(`${x(line.x[k]).toFixed(1)} ${y(line.hi[k]).toFixed(1)}`);
      down.unshift(`${x(line.x[k]).toFixed(1)} ${y(line.lo[k]).toFixed(1)}`);
    }
    path += `M${up.join("L")}L${down.join("L")}Z`;
    start = end;
  }
  return path;
}

function shownLines(chart) {
  return chart.series.filter((one) => !state.hidden.has(one.arm)).map((one) => {
    const line = one.stats[state.stat] || one.stats.mean || one.stats.IQM;
    const agent = state.axis === "agent" && chart.steps;
    if (agent && one.share === null) return null;
    return { ...line, arm: one.arm, x: agent ? line.x.map((step) => step * one.share) : line.x };
  }).filter((line) => line !== null);
}

function axes(svg, chart, x, y, xs, ys) {
  const bottom = HEIGHT - BOTTOM;
  for (const [tick, text] of ticks(ys[0], ys[1], 5)) {
    make("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(tick), y2: y(tick) }, svg);
    make("text", { class: "tick", x: LEFT - 6, y: y(tick) + 3.5, "text-anchor": "end" }, svg, text);
  }
  for (const [tick, text] of ticks(xs[0], xs[1], 5, chart.whole ? 1 : 0)) {
    make("line", { class: "mark", x1: x(tick), x2: x(tick), y1: bottom, y2: bottom + 4 }, svg);
    make("text", { class: "tick", x: x(tick), y: bottom + 16, "text-anchor": "middle" }, svg, text);
  }
  make("line", { class: "mark", x1: LEFT, x2: WIDTH - RIGHT, y1: bottom, y2: bottom }, svg);
  const label = chart.steps ? `${state.axis === "agent" ? "agent" : "env"} steps` : chart.x;
  make("text", { class: "label", x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 5, "text-anchor": "middle" }, svg, label);
  const unit = chart.steps ? `${state.stat} of the ${chart.y}` : chart.y;
  make("text", { class: "label", transform: `translate(11 ${(TOP + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, svg, unit);
}

function drawLines(figure, chart) {
  const svg = frame(figure, HEIGHT, chart.title), lines = shownLines(chart), bottom = HEIGHT - BOTTOM;
  const xs = figure.zoom || extent(lines.flatMap((line) => line.x), chart.zero);
  const within = (line) => (_, k) => !figure.zoom || (line.x[k] >= xs[0] && line.x[k] <= xs[1]);
  const ys = chart.range || extent(lines.flatMap((line) => [line.y, line.lo || [], line.hi || [], ...(line.runs || [])].flatMap((values) => values.filter(within(line)))), false);
  if (chart.zero && !figure.zoom) xs[1] = Math.max(...lines.flatMap((line) => line.x), 0) || 1;
  const x = (value) => LEFT + ((value - xs[0]) / (xs[1] - xs[0])) * (WIDTH - LEFT - RIGHT);
  const y = (value) => bottom - ((value - ys[0]) / (ys[1] - ys[0])) * (bottom - TOP);
  axes(svg, chart, x, y, xs, ys);
  if (!lines.length) {
    const why = chart.series.every((one) => state.hidden.has(one.arm)) ? "every arm is hidden" : "agent steps differ between the tasks";
    make("text", { class: "label", x: WIDTH / 2, y: HEIGHT / 2, "text-anchor": "middle" }, svg, why);
  }
  const inside = make("g", figure.zoom ? { "clip-path": `url(#clip${figure.dataset.chart})` } : {}, svg);
  make("rect", { x: LEFT, y: TOP - 4, width: WIDTH - LEFT - RIGHT, height: bottom - TOP + 4 }, make("clipPath", { id: `clip${figure.dataset.chart}` }, svg));
  for (const line of lines) if (line.lo) make("path", { class: `band ${tint(line.arm)}`, "data-arm": line.arm, d: bandOf(line, x, y) }, inside);
  for (const line of lines) for (const run of line.runs || []) {
    make("path", { class: `run ${tint(line.arm)}`, "data-arm": line.arm, d: pathOf(line.x.map((step, k) => [step, run[k]]), x, y) }, inside);
  }
  for (const line of lines) {
    const points = line.x.map((step, k) => [step, line.y[k]]);
    make("path", { class: `line ${tint(line.arm)}`, "data-arm": line.arm, d: pathOf(points, x, y) }, inside);
    const known = points.filter((point) => point[1] !== null);
    if (known.length <= 12) {
      for (const [a, b] of known) make("circle", { class: `dot ${tint(line.arm)}`, "data-arm": line.arm, cx: x(a), cy: y(b), r: 2.6 }, inside);
    }
  }
  readout(figure, svg, lines, x, chart, xs);
  zoomable(figure, svg, xs);
}

function zoomable(figure, svg, xs) { // a mouse drags a range of x; a finger reads and scrolls
  const width = WIDTH, inner = WIDTH - LEFT - RIGHT;
  const share = (event) => Math.min(1, Math.max(0, ((event.offsetX / svg.clientWidth) * width - LEFT) / inner));
  let start = null, box = null;
  svg.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "touch" || event.button) return;
    start = share(event);
    box = make("rect", { class: "chosen", y: TOP, height: HEIGHT - BOTTOM - TOP, x: -9, width: 0 }, svg);
    svg.setPointerCapture(event.pointerId);
  });
  svg.addEventListener("pointermove", (event) => {
    if (start === null) return;
    box.setAttribute("x", LEFT + Math.min(start, share(event)) * inner);
    box.setAttribute("width", Math.abs(share(event) - start) * inner);
  });
  svg.addEventListener("pointerup", (event) => {
    if (start === null) return;
    const [low, high] = [start, share(event)].sort((a, b) => a - b);
    start = null;
    box.remove();
    if ((high - low) * inner < 8) return;
    figure.zoom = [low, high].map((part) => xs[0] + part * (xs[1] - xs[0]));
    draw(figure);
  });
  svg.addEventListener("dblclick", () => { figure.zoom = null; draw(figure); });
}

function growable(figure) {
  if (figure.querySelector("button.grow")) return;
  const button = document.createElement("button");
  button.className = "grow";
  const show = () => {
    const large = figure.classList.contains("large");
    button.textContent = large ? "−" : "+";
    button.setAttribute("aria-label", large ? "smaller" : "larger");
  };
  button.addEventListener("click", () => { figure.classList.toggle("large"); show(); refresh(); });
  show();
  figure.querySelector("h4").append(button);
}

function readout(figure, svg, lines, x, chart, xs) {
  const box = figure.querySelector(".read"), rule = make("line", { class: "rule", y1: TOP, y2: HEIGHT - BOTTOM, x1: -9, x2: -9 }, svg);
  const width = WIDTH, everything = [...new Set(lines.flatMap((line) => line.x))].filter((at) => at >= xs[0] && at <= xs[1]).sort((a, b) => a - b);
  svg.addEventListener("pointermove", (event) => {
    if (!everything.length) return;
    const place = ((event.clientX - svg.getBoundingClientRect().left) / svg.getBoundingClientRect().width) * width;
    const near = everything.reduce((best, step) => (Math.abs(x(step) - place) < Math.abs(x(best) - place) ? step : best));
    rule.setAttribute("x1", x(near)); rule.setAttribute("x2", x(near));
    box.replaceChildren(say(`${chart.steps ? state.axis + " steps" : chart.x} ${short(near)}`, "at"));
    for (const line of lines) {
      const k = line.x.indexOf(near);
      if (k < 0 || line.y[k] === null) continue;
      box.append(say(`${data.arms[line.arm]} ${short(line.y[k])}${spreadAt(line, k)}`, `key ${tint(line.arm)}`));
    }
  });
  svg.addEventListener("pointerleave", () => { box.replaceChildren(); rule.setAttribute("x1", -9); rule.setAttribute("x2", -9); });
}

function spreadAt(line, k) {
  if (line.lo && line.lo[k] !== null) return ` [${short(line.lo[k])}, ${short(line.hi[k])}]`;
  const runs = (line.runs || []).map((run) => run[k]).filter((value) => value !== null);
  return runs.length ? ` (${runs.map(short).join(", ")})` : "";
}

function say(text, kind) {
  const node = document.createElement("span");
  node.className = kind;
  node.textContent = text;
  return node;
}

function drawRows(figure, chart) {
  const rows = chart.rows[state.kind].filter((row) => !row.arms.some((arm) => state.hidden.has(arm)));
  const room = (WIDTH - 150) / 6.5, whole = (row) => (row.over ? `${row.label} ${row.over}` : row.label);
  const folded = rows.some((row) => row.over && whole(row).length > room), step = folded ? 50 : 36;
  const height = 40 + step * rows.length, svg = frame(figure, height, chart.title), bottom = height - 30, left = 14;
  const xs = chart.range || extent(rows.flatMap((row) => [row.v, row.lo ?? null, row.hi ?? null, ...(row.runs || [])]), false);
  const x = (value) => left + ((value - xs[0]) / (xs[1] - xs[0])) * (WIDTH - left - RIGHT - 6);
  for (const [tick, text] of ticks(xs[0], xs[1], 5)) {
    make("line", { class: "grid", x1: x(tick), x2: x(tick), y1: 2, y2: bottom }, svg);
    make("text", { class: "tick", x: x(tick), y: bottom + 13, "text-anchor": "middle" }, svg, text);
  }
  if (chart.middle !== undefined) make("line", { class: "mark", x1: x(chart.middle), x2: x(chart.middle), y1: 2, y2: bottom }, svg);
  make("text", { class: "label", x: WIDTH / 2, y: height - 3, "text-anchor": "middle" }, svg, chart.x);
  rows.forEach((row, k) => {
    const y = 25 + step * k + (folded ? 14 : 0), arm = row.arms[0], value = short(row.v) + (row.lo === undefined ? "" : ` [${short(row.lo)}, ${short(row.hi)}]`);
    const group = make("g", { "data-arm": arm }, svg);
    make("title", {}, group, whole(row));
    if (folded) make("text", { class: "name", x: left, y: y - 23 }, group, clip(row.label, (WIDTH - left - RIGHT) / 6.5));
    make("text", { class: "name", x: left, y: y - 9 }, group, clip(folded ? row.over : whole(row), room));
    make("text", { class: "name value", x: WIDTH - RIGHT, y: y - 9, "text-anchor": "end" }, group, value);
    if (row.lo !== undefined) make("line", { class: `bar ${tint(arm)}`, x1: x(row.lo), x2: x(row.hi), y1: y, y2: y }, group);
    for (const run of row.runs || []) make("circle", { class: `run ${tint(arm)}`, cx: x(run), cy: y, r: 3 }, group);
    make("circle", { class: `dot ${tint(arm)}`, cx: x(row.v), cy: y, r: 5 }, group);
  });
}

function draw(figure) {
  const chart = data.charts[figure.dataset.chart];
  WIDTH = Math.max(260, figure.clientWidth);
  HEIGHT = figure.classList.contains("large") ? Math.max(260, Math.min(560, WIDTH / 2)) : 260;
  if (chart.type === "lines") { growable(figure); drawLines(figure, chart); } else drawRows(figure, chart);
}

function refresh() {
  for (const figure of document.querySelectorAll("figure[data-chart]")) if (figure.offsetParent !== null) draw(figure);
  for (const node of document.querySelectorAll("tr[data-arm], td[data-arm], th[data-arm], .film[data-arm]")) {
    node.hidden = state.hidden.has(Number(node.dataset.arm));
  }
}

function choose(name, value) {
  state[name] = value;
  if (name === "axis") for (const figure of document.querySelectorAll("figure[data-chart]")) figure.zoom = null;
  for (const button of document.querySelectorAll(`button[data-${name}]`)) {
    button.setAttribute("aria-pressed", String(button.dataset[name] === value));
  }
  document.body.dataset[name] = value;
  refresh();
}

for (const button of document.querySelectorAll("button.key")) {
  button.addEventListener("click", () => {
    const arm = Number(button.dataset.legend);
    state.hidden.has(arm) ? state.hidden.delete(arm) : state.hidden.add(arm);
    button.setAttribute("aria-pressed", String(!state.hidden.has(arm)));
    refresh();
  });
}
for (const name of ["stat", "axis", "kind"]) {
  for (const button of document.querySelectorAll(`button[data-${name}]`)) {
    button.addEventListener("click", () => choose(name, button.dataset[name]));
  }
}
for (const select of document.querySelectorAll("select[data-shows]")) {
  const show = () => {
    for (const panel of document.querySelectorAll(`.panel[data-group="${select.dataset.shows}"]`)) {
      panel.hidden = panel.dataset.panel !== select.value;
    }
    refresh();
  };
  select.addEventListener("change", show);
  show();
}
for (const details of document.querySelectorAll("details")) details.addEventListener("toggle", refresh);
let resized = 0;
window.addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(refresh, 100); });
document.body.dataset.kind = state.kind;
refresh();
