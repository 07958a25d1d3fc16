// The panel's drawings: the history of a study, the curve of a run, the table of experiments.
//
// They are drawn in the browser so that watching costs the machine that trains next to nothing, and so that a point
// can be pointed at. Marks and scale are those of plots.py, which sends the numbers. Text is set as text, never as HTML.

const SVG = "http://www.w3.org/2000/svg";
const INK = "var(--jp-content-font-color1, #202020)";
const FAINT = "var(--jp-content-font-color2, #666)";
const LINE = "var(--jp-border-color2, #ddd)";
const GREEN = "#0A9A70", GREY = "#8C8C8C", RED = "#D0483A", ORANGE = "#D98A00", BLUE = "#56A0D3";
const FLOOR = 16; // pixels above the axis where experiments without a score stand

function svg(name, attributes, parent, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.appendChild(node);
  return node;
}

function html(name, attributes, parent, text) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.appendChild(node);
  return node;
}

function ticks(low, high, most) {
  const rough = (high - low) / Math.max(1, most);
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(i * step);
  return found;
}

const bpb = (value) => (value == null ? "–" : value.toFixed(4));
const signed = (value, digits) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);

const parsed = new WeakMap(); // model -> [text, what it says]
function dataOf(model) {
  const text = model.get("data");
  if (parsed.get(model)?.[0] !== text) parsed.set(model, [text, JSON.parse(text)]);
  return parsed.get(model)[1];
}

// --- the history: one column an experiment

// Scores in [low, high] are drawn to scale, those beyond in strips that squeeze: see _Limits in plots.py.
function squeezer({ low, high, bottom, top }) {
  const strip = 0.13 * (high - low);
  const squeeze = (excess, most) =>
    most <= strip ? excess : (strip * Math.log1p(excess / strip)) / Math.log1p(most / strip);
  return (y) => (y > high ? high + squeeze(y - high, top - high) : y < low ? low - squeeze(low - y, low - bottom) : y);
}

function drawHistory(el, model) {
  const { points, limits, sigma, summary } = dataOf(model) || { points: [], limits: null, summary: "" };
  const width = Math.max(320, el.clientWidth), height = 400;
  const left = 66, right = 62, top = 12, bottom = 34;
  const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", class: "ar-chart" });
  svg("title", {}, picture, summary);
  el.replaceChildren(picture);
  const axis = height - bottom;
  const last = points.length ? points[points.length - 1].number : 0;
  const x = (n) => left + 8 + ((width - left - right - 8) * n) / Math.max(last, 4);
  svg("line", { x1: left, x2: width - right, y1: axis, y2: axis, stroke: LINE }, picture);
  for (const t of ticks(0, Math.max(last, 4), Math.max(4, width / 110)).filter(Number.isInteger))
    svg("text", { x: x(t), y: axis + 14, "text-anchor": "middle", fill: FAINT }, picture, String(t));
  svg("text", { x: (left + width - right) / 2, y: height - 5, "text-anchor": "middle", fill: FAINT }, picture, "experiment");
  const label = `translate(10 ${(top + axis) / 2}) rotate(-90)`;
  svg("text", { transform: label, "text-anchor": "middle", fill: FAINT }, picture, "validation bits per byte (lower is better)");
  if (!limits) {
    const words = points.length ? "No experiment has a score yet" : "No experiment yet";
    svg("text", { x: width / 2, y: height / 2, "text-anchor": "middle", fill: FAINT }, picture, words);
    return { at: () => null };
  }
  const forward = squeezer(limits);
  const lowest = forward(limits.bottom), highest = forward(limits.top);
  const room = axis - top - FLOOR - 24;
  const y = (value) => top + 12 + room * (1 - (forward(value) - lowest) / (highest - lowest || 1));
  for (const t of ticks(limits.low, limits.high, 5)) {
    svg("line", { x1: left, x2: width - right, y1: y(t), y2: y(t), stroke: LINE, "stroke-width": 0.6 }, picture);
    svg("text", { x: left - 6, y: y(t) + 4, "text-anchor": "end", fill: FAINT, class: "ar-figures" }, picture, t.toFixed(4));
  }
  for (const [edge, far] of [[limits.high, limits.top], [limits.low, limits.bottom]])
    if (edge !== far) {
      const style = { stroke: GREY, "stroke-dasharray": "2 4", "stroke-width": 0.8 };
      svg("line", { x1: left, x2: width - right, y1: y(edge), y2: y(edge), ...style }, picture);
      svg("text", { x: width - right - 2, y: y(edge) + (far > edge ? -4 : 11), "text-anchor": "end", fill: FAINT, "font-size": 9 }, picture, "not to scale");
    }
  const keeps = points.filter((p) => p.mark === "keep");
  drawBest(picture, keeps, sigma, x, y, width - right);
  const floor = axis - FLOOR / 2 - 3;
  const places = points.map((p) => ({ p, x: x(p.number), y: p.val_bpb == null ? floor : y(p.val_bpb) }));
  const small = last <= 150 ? 3 : last <= 600 ? 2.4 : 1.7;
  for (const place of places) if (place.p.mark !== "keep") drawMark(picture, place, small);
  for (const place of places) if (place.p.mark === "keep") drawMark(picture, place, small);
  for (const { p } of places)
    for (const [column, score] of p.runs.slice(p.mark === "pending" ? 0 : 1))
      svg("line", {
        x1: x(column) - 1.6 * small, x2: x(column) + 1.6 * small, y1: y(score), y2: y(score), "stroke-width": 1.2,
        stroke: column > p.number ? GREEN : INK, opacity: 0.75,
      }, picture);
  labelKeeps(picture, keeps, places, x, y, { left, right: width - right, top, bottom: axis - FLOOR - 4 });
  const chosen = places.find(({ p }) => p.number === model.get("selected"));
  if (chosen) svg("circle", { cx: chosen.x, cy: chosen.y, r: 8, fill: "none", stroke: INK, "stroke-width": 1.4 }, picture);
  return {
    at: (px, py) => {
      let nearest = null, best = 18 ** 2;
      for (const place of places) {
        const d = (place.x - px) ** 2 + (place.y - py) ** 2;
        if (d < best) [nearest, best] = [place, d];
      }
      return nearest;
    },
  };
}

function drawBest(picture, keeps, sigma, x, y, edge) {
  if (!keeps.length) return;
  let path = "", above = [], below = [];
  keeps.forEach((p, i) => {
    const until = i + 1 < keeps.length ? x(keeps[i + 1].number) : edge;
    path += `${i ? "V" : `M${x(p.number)} `}${y(p.val_bpb)}H${until}`;
    above.push(`${x(p.number)},${y(p.val_bpb + (sigma || 0))}`, `${until},${y(p.val_bpb + (sigma || 0))}`);
    below.unshift(`${until},${y(p.val_bpb - (sigma || 0))}`, `${x(p.number)},${y(p.val_bpb - (sigma || 0))}`);
  });
  if (sigma) svg("polygon", { points: [...above, ...below].join(" "), fill: BLUE, opacity: 0.22 }, picture);
  svg("path", { d: path, fill: "none", stroke: GREEN, "stroke-width": 1.5 }, picture);
  const best = keeps[keeps.length - 1];
  const words = { x: edge + 6, fill: GREEN, class: "ar-figures" };
  svg("text", { ...words, y: y(best.val_bpb) + 4, "font-weight": 600 }, picture, bpb(best.val_bpb));
  if (best.standard_error) svg("text", { ...words, y: y(best.val_bpb) + 17, "font-size": 10 }, picture, `± ${best.standard_error.toFixed(4)}`);
}

function drawMark(picture, { p, x, y }, small) {
  if (p.mark === "failed") {
    const r = small;
    svg("path", { d: `M${x - r} ${y - r}L${x + r} ${y + r}M${x - r} ${y + r}L${x + r} ${y - r}`, stroke: RED, "stroke-width": 1.5 }, picture);
  } else if (p.mark === "rejected") {
    const r = small + 1.5;
    svg("path", { d: `M${x} ${y - r}L${x + r} ${y + r}H${x - r}Z`, fill: ORANGE }, picture);
  } else if (p.mark === "keep") {
    svg("circle", { cx: x, cy: y, r: small + 1.3, fill: GREEN }, picture);
  } else {
    svg("circle", { cx: x, cy: y, r: small, fill: "none", stroke: p.mark === "pending" ? BLUE : GREY, "stroke-width": 1.1 }, picture);
  }
}

// Words for the kept changes that gained most, below their mark where there is room, never over another label.
function labelKeeps(picture, keeps, places, x, y, area) {
  const gain = new Map(keeps.map((p, i) => [p, i ? keeps[i - 1].val_bpb - p.val_bpb : Infinity]));
  const chosen = [...keeps].sort((a, b) => gain.get(b) - gain.get(a)).slice(0, places.length > 300 ? 8 : 12);
  const best = keeps[keeps.length - 1];
  if (best && !chosen.includes(best)) chosen[chosen.length - 1] = best;
  const taken = [];
  for (const p of chosen) {
    const words = p.label;
    const node = svg("text", { fill: INK, "font-size": 10.5, class: "ar-label" }, picture, words);
    const size = node.getComputedTextLength ? node.getComputedTextLength() : 6 * words.length;
    const px = x(p.number), py = y(p.val_bpb);
    let found = null, least = 9;
    for (const dy of [15, 27, 40, 54, -9, -21, -34])
      for (const dx of [-size - 6, -size / 2, 6, -size - 40, 30]) {
        const box = [px + dx, py + dy - 10, px + dx + size, py + dy + 3];
        if (box[0] < area.left + 2 || box[2] > area.right - 2 || box[1] < area.top || box[3] > area.bottom) continue;
        if (taken.some((t) => box[0] < t[2] + 4 && t[0] < box[2] + 4 && box[1] < t[3] + 1 && t[1] < box[3] + 1)) continue;
        const inside = (place) => place.x > box[0] - 4 && place.x < box[2] + 4 && place.y > box[1] - 4 && place.y < box[3] + 4;
        const crossed = keeps.filter((k) => x(k.number) < box[2] && py + dy - 10 < y(k.val_bpb) && y(k.val_bpb) < py + dy + 3).length;
        const cost = places.filter(inside).length + crossed + Math.abs(dy) / 40 + (dx > 0 ? 0.5 : 0);
        if (cost < least) [found, least] = [{ box, dx, dy }, cost];
      }
    if (!found) {
      node.remove();
      continue;
    }
    node.setAttribute("x", px + found.dx);
    node.setAttribute("y", py + found.dy);
    taken.push(found.box);
    if (Math.abs(found.dy) > 16) {
      const near = Math.min(Math.max(px, found.box[0]), found.box[2]);
      const edge = found.dy > 0 ? found.box[1] + 1 : found.box[3];
      svg("line", { x1: px, y1: py, x2: near, y2: edge, stroke: GREEN, "stroke-width": 0.6, opacity: 0.8 }, picture);
    }
  }
}

// --- the curve of a run beside the incumbent's

function smoothed(curve) {
  const half = Math.floor(curve.length / 40);
  return curve.map(([time], i) => {
    const reach = Math.min(half, i, curve.length - 1 - i);
    const part = curve.slice(i - reach, i + reach + 1);
    return [time, part.reduce((sum, point) => sum + point[1], 0) / part.length];
  });
}

function drawCurve(el, model) {
  const { mine, theirs, mine_label, theirs_label, budget, summary } = dataOf(model) || { mine: [], theirs: [], summary: "" };
  const width = Math.max(260, el.clientWidth), height = 170, left = 46, right = 78, top = 8, bottom = 30;
  const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", class: "ar-chart" });
  svg("title", {}, picture, summary);
  el.replaceChildren(picture);
  const axis = height - bottom;
  svg("line", { x1: left, x2: width - right, y1: axis, y2: axis, stroke: LINE }, picture);
  if (!mine.length && !theirs.length) {
    svg("text", { x: width / 2, y: height / 2, "text-anchor": "middle", fill: FAINT }, picture, "No training step yet");
    return { at: () => null };
  }
  const longest = Math.max(budget || 0, ...[mine, theirs].filter((c) => c.length).map((c) => c[c.length - 1][0])) || 1;
  const settled = [mine, theirs].flatMap((c) => c.filter(([t]) => t >= 0.1 * longest).map(([, loss]) => loss));
  const losses = settled.length ? settled : [...mine, ...theirs].map(([, loss]) => loss);
  const pad = 0.06 * (Math.max(...losses) - Math.min(...losses) || 1);
  const low = Math.min(...losses) - pad, high = Math.max(...losses) + pad;
  const x = (time) => left + ((width - left - right) * time) / longest;
  const y = (loss) => Math.max(top, top + ((axis - top) * (high - loss)) / (high - low));
  for (const t of ticks(low, high, 3)) {
    svg("line", { x1: left, x2: width - right, y1: y(t), y2: y(t), stroke: LINE, "stroke-width": 0.6 }, picture);
    svg("text", { x: left - 5, y: y(t) + 4, "text-anchor": "end", fill: FAINT, class: "ar-figures" }, picture, t.toFixed(high - low < 0.4 ? 2 : 1));
  }
  for (const t of ticks(0, longest, 5))
    svg("text", { x: x(t), y: axis + 13, "text-anchor": "middle", fill: FAINT }, picture, String(Math.round(t * 100) / 100));
  svg("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle", fill: FAINT }, picture, "seconds of training");
  svg("text", { transform: `translate(9 ${(top + axis) / 2}) rotate(-90)`, "text-anchor": "middle", fill: FAINT }, picture, "train loss");
  const ends = [];
  for (const [curve, colour, dash, words] of [[theirs, INK, "4 3", theirs_label], [mine, GREEN, "", mine_label]]) {
    if (!curve.length) continue;
    const line = (points) => "M" + points.map(([t, loss]) => `${x(t).toFixed(1)} ${y(loss).toFixed(1)}`).join("L");
    svg("path", { d: line(curve), fill: "none", stroke: colour, "stroke-width": 0.6, opacity: 0.35 }, picture);
    const smooth = smoothed(curve);
    svg("path", { d: line(smooth), fill: "none", stroke: colour, "stroke-width": 1.6, "stroke-dasharray": dash }, picture);
    ends.push({ y: y(smooth[smooth.length - 1][1]), value: curve[curve.length - 1][0] < 0.97 * longest && words === mine_label ? "" : smooth[smooth.length - 1][1].toFixed(3), colour, words });
    if (curve === mine) svg("circle", { cx: x(curve[curve.length - 1][0]), cy: ends[ends.length - 1].y, r: 2.5, fill: GREEN }, picture);
  }
  if (ends.length === 2 && Math.abs(ends[0].y - ends[1].y) < 28) {
    const [upper, lower] = ends[0].y < ends[1].y ? ends : [ends[1], ends[0]];
    const middle = Math.min(Math.max((upper.y + lower.y) / 2, top + 24), axis - 24);
    [upper.y, lower.y] = [middle - 14, middle + 14];
  }
  for (const end of ends) {
    svg("text", { x: width - right + 5, y: end.y + (end.value ? -1 : 4), fill: end.colour, "font-size": 10.5 }, picture, end.words);
    if (end.value) svg("text", { x: width - right + 5, y: end.y + 11, fill: end.colour, "font-size": 10.5, class: "ar-figures" }, picture, end.value);
  }
  return { at: () => null };
}

// --- the table of experiments

const COLUMNS = [
  ["number", "#", true], ["idea", "what changed", false], ["val_bpb", "val_bpb", true], ["delta", "Δ", true],
  ["sigmas", "Δ (σ)", true], ["speed", "tokens/s", true], ["status", "status", false], ["time", "when", true],
];
const MARKS = { keep: ["●", GREEN], discard: ["○", GREY], ended: ["○", GREY], failed: ["×", RED], rejected: ["▲", ORANGE], pending: ["◌", BLUE] };
const FILTERS = [
  ["All", () => true], ["Kept", (r) => r.mark === "keep" && r.number > 0], ["Discarded", (r) => r.mark === "discard" || r.mark === "ended"],
  ["Near misses", (r) => r.near], ["Crashed", (r) => r.mark === "failed"], ["Rejected", (r) => r.mark === "rejected"],
];

function ago(seconds) {
  for (const [unit, name] of [[86400, "d"], [3600, "h"], [60, "min"]]) if (seconds >= unit) return `${Math.round(seconds / unit)} ${name}`;
  return `${Math.max(0, Math.round(seconds))} s`;
}

function makeTable(el, model) {
  const state = { sort: "number", down: true, filter: 0, words: "", rows: [] };
  const bar = html("div", { class: "ar-bar" }, el);
  const group = html("div", { role: "group", "aria-label": "Which experiments" }, bar);
  const buttons = FILTERS.map(([name], i) => {
    const button = html("button", { type: "button", class: "ar-filter" }, group);
    button.onclick = () => { state.filter = i; draw(); };
    return button;
  });
  const search = html("input", { type: "search", placeholder: "filter", "aria-label": "Filter by words" }, bar);
  search.oninput = () => { state.words = search.value.toLowerCase(); draw(); };
  const box = html("div", { class: "ar-rows" }, el);
  const table = html("table", { "aria-label": "Experiments" }, box);
  const head = html("tr", {}, html("thead", {}, table));
  const heads = COLUMNS.map(([key, name, isNumber]) => {
    const th = html("th", { scope: "col", class: isNumber ? "ar-number" : "" }, head);
    const button = html("button", { type: "button", title: `Sort by ${name}` }, th, name);
    button.onclick = () => { [state.down, state.sort] = [state.sort === key ? !state.down : isNumber, key]; draw(); };
    return [th, button, key, name];
  });
  const body = html("tbody", {}, table);
  const empty = html("p", { class: "ar-empty" }, box);

  function shown() {
    const { rows } = dataOf(model) || { rows: [] };
    const matches = (r) => FILTERS[state.filter][1](r) && (!state.words || `${r.number} ${r.idea} ${r.status} ${r.agent}`.toLowerCase().includes(state.words));
    const value = (r) => r[state.sort];
    const order = (a, b) => {
      const [u, v] = [value(a), value(b)];
      if (u == null || v == null) return (u == null) - (v == null) || b.number - a.number;
      return ((u > v) - (u < v)) * (state.down ? -1 : 1) || b.number - a.number;
    };
    return rows.filter(matches).sort(order);
  }

  function draw() {
    const { rows } = dataOf(model) || { rows: [] };
    FILTERS.forEach(([name, test], i) => {
      buttons[i].textContent = `${name} ${rows.filter((r) => r.number > 0 && r.mark !== "pending" && test(r)).length}`;
      buttons[i].setAttribute("aria-pressed", String(i === state.filter));
    });
    for (const [th, button, key, name] of heads) {
      th.setAttribute("aria-sort", key !== state.sort ? "none" : state.down ? "descending" : "ascending");
      button.textContent = name + (key !== state.sort ? "" : state.down ? " ▾" : " ▴");
    }
    const focused = body.contains(document.activeElement) ? document.activeElement.dataset.number : null;
    state.rows = shown();
    const now = Date.now() / 1000;
    body.replaceChildren(...state.rows.map((r) => {
      const isChosen = r.number === model.get("selected");
      const tr = html("tr", { "data-number": r.number, tabindex: -1, "aria-selected": String(isChosen) });
      const [sign, colour] = MARKS[r.mark];
      html("td", { class: "ar-number" }, tr, String(r.number));
      html("td", { class: "ar-idea", title: r.hypothesis }, tr, r.idea);
      html("td", { class: "ar-number" }, tr, bpb(r.val_bpb));
      html("td", { class: "ar-number" }, tr, r.delta == null ? "" : signed(r.delta, 4));
      html("td", { class: "ar-number" }, tr, r.sigmas == null ? "" : signed(r.sigmas, 1));
      html("td", { class: "ar-number" }, tr, r.speed == null ? "–" : `${(r.speed / 1000).toFixed(1)} k`);
      const status = html("td", { title: r.reason }, tr);
      html("span", { style: `color:${colour}`, "aria-hidden": "true" }, status, `${sign} `);
      status.appendChild(document.createTextNode(r.status));
      html("td", { class: "ar-number", title: r.utc || "" }, tr, r.time == null ? "now" : ago(now - r.time));
      return tr;
    }));
    const entry = body.querySelector('[aria-selected="true"]') || body.firstChild;
    if (entry) entry.tabIndex = 0;
    if (focused !== null) body.querySelector(`[data-number="${focused}"]`)?.focus({ preventScroll: true });
    empty.textContent = state.rows.length ? "" : rows.length ? "No experiment is like that." : "No experiment yet.";
  }

  function choose(row) {
    if (!row) return;
    model.set("selected", Number(row.dataset.number));
    model.save_changes();
  }
  body.onclick = (event) => choose(event.target.closest("tr"));
  body.onkeydown = (event) => {
    const row = event.target.closest("tr");
    const to = { ArrowDown: row?.nextElementSibling, ArrowUp: row?.previousElementSibling, Home: body.firstChild, End: body.lastChild }[event.key];
    if (to) { to.focus(); event.preventDefault(); }
    if (event.key === "Enter" || event.key === " ") { choose(row); event.preventDefault(); }
  };
  const clock = setInterval(() => {
    const now = Date.now() / 1000;
    for (const tr of body.children) {
      const r = state.rows.find((row) => row.number === Number(tr.dataset.number));
      if (r?.time != null) tr.lastChild.textContent = ago(now - r.time);
    }
  }, 20_000);
  return { draw, stop: () => clearInterval(clock) };
}

// --- what anywidget calls

function makeChart(el, model, drawing) {
  const canvas = html("div", { class: "ar-canvas" }, el);
  const hint = html("div", { class: "ar-hint", hidden: "" }, el);
  let shown = { at: () => null };
  const draw = () => { if (canvas.clientWidth) shown = drawing(canvas, model); };
  canvas.onmousemove = (event) => {
    const box = canvas.getBoundingClientRect();
    const place = shown.at(event.clientX - box.left, event.clientY - box.top);
    hint.hidden = !place;
    canvas.style.cursor = place ? "pointer" : "";
    if (!place) return;
    hint.textContent = place.p.words;
    hint.style.left = `${Math.min(place.x + 10, box.width - hint.offsetWidth - 4)}px`;
    hint.style.top = `${place.y > 60 ? place.y - hint.offsetHeight - 10 : place.y + 14}px`;
  };
  canvas.onmouseleave = () => { hint.hidden = true; };
  canvas.onclick = (event) => {
    const box = canvas.getBoundingClientRect();
    const place = shown.at(event.clientX - box.left, event.clientY - box.top);
    if (place) { model.set("selected", place.p.number); model.save_changes(); }
  };
  const watch = new ResizeObserver(draw);
  watch.observe(canvas);
  return { draw, stop: () => watch.disconnect() };
}

// A kernel that was shut down says nothing of it to its widgets: without its beat the panel hides what is out of date.
const SILENT_AFTER_MS = 30_000;

// A node that stays while its words change: a screen reader says them only then.
function makeSpoken(el, model) {
  const node = html("div", { role: "status", "aria-live": "polite" }, el);
  let heard = Date.now();
  const beat = () => { heard = Date.now(); listen(); };
  const listen = () => {
    const isSilent = model.get("beat") >= 0 && Date.now() - heard > SILENT_AFTER_MS;
    el.closest(".ar-panel")?.classList.toggle("ar-silent", isSilent);
  };
  model.on("change:beat", beat);
  const clock = setInterval(listen, 5_000);
  const stop = () => { clearInterval(clock); model.off("change:beat", beat); };
  return { draw: () => { node.innerHTML = model.get("data"); }, stop };
}

const KINDS = {
  history: (el, model) => makeChart(el, model, drawHistory),
  curve: (el, model) => makeChart(el, model, drawCurve),
  table: makeTable,
  spoken: makeSpoken,
};

function render({ model, el }) {
  el.classList.add("ar-drawing");
  el.setAttribute("data-lm-suppress-shortcuts", "true"); // keys are the table's, not the notebook's
  const made = KINDS[model.get("kind")](el, model);
  model.on("change:data", made.draw);
  model.on("change:selected", made.draw);
  made.draw();
  return () => {
    model.off("change:data", made.draw);
    model.off("change:selected", made.draw);
    made.stop();
  };
}

export default { render };
