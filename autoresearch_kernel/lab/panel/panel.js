// The panel's drawings: the history of a study, the curve of a run, the table of experiments.
//
// They are drawn in the browser so that watching costs the machine that trains next to nothing, and so that a point
// can be pointed at. Marks and scale are those of show/plot_scale.py, which makes the numbers. Text is set as text, never as HTML.

const SVG = "http://www.w3.org/2000/svg";
const INK = "var(--jp-content-font-color1, #202020)";
const FAINT = "var(--jp-content-font-color2, #666)";
const LINE = "var(--jp-border-color2, #ddd)";
const GREEN = "#008A63", GREY = "#8C8C8C", RED = "#D0483A", ORANGE = "#C77700", BLUE = "#2E86C1"; // seen on white and on black
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

const numbered = (number) => String(number).padStart(4, "0");
const bpb = (value) => (value == null ? "–" : value.toFixed(4));
const signed = (value, digits) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);
const withError = (value, error) => signed(value, 4) + (error == null ? "" : ` ± ${error.toFixed(4)}`);

const parsed = new WeakMap(); // model -> [text, what it says]
function dataOf(model) {
  const text = model.get("data");
  if (parsed.get(model)?.[0] !== text) parsed.set(model, [text, JSON.parse(text)]);
  return parsed.get(model)[1];
}

// --- the history: one column an experiment

// Scores in [low, high] are drawn to scale, those beyond in strips that squeeze: see Limits in plot_scale.py.
function squeezer({ low, high, bottom, top }) {
  const strip = 0.13 * (high - low);
  const squeeze = (excess, most) =>
    most <= strip ? excess : (strip * Math.log1p(excess / strip)) / Math.log1p(most / strip);
  return (y) => (y > high ? high + squeeze(y - high, top - high) : y < low ? low - squeeze(low - y, low - bottom) : y);
}

function drawHistory(el, model) {
  const { points, limits, sigma, summary } = dataOf(model) || { points: [], limits: null, summary: "" };
  const width = Math.max(300, el.clientWidth), height = 400;
  const left = 66, right = 66, top = 12, bottom = 34;
  const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", class: "ar-chart", "aria-label": summary });
  el.replaceChildren(picture);
  const axis = height - bottom, edge = width - right;
  const last = Math.max(0, ...points.map((p) => Math.max(p.number, ...p.runs.map(([column]) => column))));
  const x = (n) => left + 18 + ((edge - left - 24) * n) / Math.max(last, 4);
  svg("line", { x1: left, x2: edge, y1: axis, y2: axis, stroke: LINE }, picture);
  for (const t of ticks(0, Math.max(last, 4), Math.max(4, width / 110)).filter(Number.isInteger))
    svg("text", { x: x(t), y: axis + 14, "text-anchor": "middle", fill: FAINT }, picture, String(t));
  svg("text", { x: (left + edge) / 2, y: height - 5, "text-anchor": "middle", fill: FAINT }, picture, "experiment");
  const label = `translate(10 ${(top + axis) / 2}) rotate(-90)`;
  svg("text", { transform: label, "text-anchor": "middle", fill: FAINT }, picture, "validation bits per byte (lower is better)");
  if (!limits) {
    const words = points.length ? "No experiment has a score yet" : "No experiment yet";
    svg("text", { x: width / 2, y: height / 2, "text-anchor": "middle", fill: FAINT }, picture, words);
    return { at: () => null, legend: [] };
  }
  const forward = squeezer(limits);
  const lowest = forward(limits.bottom), highest = forward(limits.top);
  const room = axis - top - FLOOR - 24;
  const y = (value) => top + 12 + room * (1 - (forward(value) - lowest) / (highest - lowest || 1));
  for (const t of ticks(limits.low, limits.high, 5)) {
    svg("line", { x1: left, x2: edge, y1: y(t), y2: y(t), stroke: LINE, "stroke-width": 0.6 }, picture);
    svg("text", { x: left - 6, y: y(t) + 4, "text-anchor": "end", fill: FAINT, class: "ar-figures" }, picture, t.toFixed(4));
  }
  for (const [end, far] of [[limits.high, limits.top], [limits.low, limits.bottom]])
    if (end !== far) {
      const style = { stroke: GREY, "stroke-dasharray": "2 4", "stroke-width": 0.8 };
      svg("line", { x1: left, x2: edge, y1: y(end), y2: y(end), ...style }, picture);
      svg("text", { x: edge - 2, y: y(end) + (far > end ? -4 : 11), "text-anchor": "end", fill: FAINT, "font-size": 9 }, picture, "not to scale");
    }
  const keeps = points.filter((p) => p.mark === "keep");
  const steps = keeps.map((p, i) => ({
    p, next: keeps[i + 1], x0: x(p.number), x1: i + 1 < keeps.length ? x(keeps[i + 1].number) : edge, y: y(p.val_bpb),
  }));
  drawIncumbent(picture, steps, sigma, y, { edge, top, bottom: axis });
  const small = last <= 150 ? 3 : last <= 600 ? 2.4 : 1.7;
  const places = placesOf(points, x, y, axis - FLOOR / 2 - 3, small);
  for (const mark of MARK_ORDER) for (const place of places) if (place.mark === mark) drawMark(picture, place, small);
  labelKeeps(picture, steps, places, { left, right: edge, top, bottom: axis - FLOOR - 4 });
  for (const place of places.filter((one) => one.isMain && one.p.number === model.get("selected")))
    svg("circle", { cx: place.x, cy: place.y, r: 8, fill: "none", stroke: INK, "stroke-width": 1.4, class: "ar-chosen" }, picture);
  const marks = new Set(places.map((place) => place.mark));
  if (steps.length) marks.add("incumbent");
  if (steps.length && sigma) marks.add("noise");
  return {
    at: (px, py) => nearest(places, px, py) || onLine(steps, px, py),
    legend: Object.entries(LEGEND).filter(([mark]) => marks.has(mark)),
  };
}

// Where each mark stands: one a run for the baseline, else one for the experiment, one for each confirmation run, and
// one for each later run of the incumbent of that hour, or of the baseline beside it, at the column where that happened.
function placesOf(points, x, y, floor, small) {
  const incumbent = points.findLast((p) => p.mark === "keep");
  const beaten = points.find((p) => p.mark === "keep" && !p.is_baseline)?.number ?? Infinity; // when the baseline was
  return points.flatMap((p) => {
    const words = p === incumbent ? `${p.words}\nthe incumbent` : p.words;
    const own = p.runs.filter(([column]) => column === p.number);
    const later = p.runs.filter(([column]) => column > p.number);
    const isShownByRuns = p.is_baseline && p.val_bpb != null && own.length > 0;
    const step = 2 * small + 2; // between the baseline's marks, so that equal scores are still two marks
    const first = isShownByRuns
      ? own.map(([, score], i) => ({
          p, mark: "baseline", isMain: true, x: x(p.number) + (i - (own.length - 1) / 2) * step, y: y(score),
          words: `${words}\nbaseline run ${i + 1} of ${own.length}: ${bpb(score)}`,
        }))
      : [{ p, mark: p.mark, isMain: true, x: x(p.number), y: p.val_bpb == null ? floor : y(p.val_bpb), words }];
    const confirmations = isShownByRuns ? [] : own.slice(1).map(([, score]) => ({
      p, mark: "confirmation", x: x(p.number), y: y(score), words: `${words}\nconfirmation run: ${bpb(score)}`,
    }));
    const again = later.map(([column, score]) => {
      const isCompared = p.is_baseline && column > beaten; // beside the incumbent of that hour
      const name = isCompared ? "baseline run" : "incumbent again";
      return {
        p, mark: isCompared ? "baseline" : "again", x: x(column), y: y(score),
        words: `${words}\n${name}, after experiment ${numbered(column - 1)}: ${bpb(score)}`,
      };
    });
    return [...first, ...confirmations, ...again];
  });
}

function nearest(places, px, py) {
  let found = null, least = 18 ** 2;
  for (const place of places) {
    const d = (place.x - px) ** 2 + (place.y - py) ** 2;
    if (d < least) [found, least] = [place, d];
  }
  return found;
}

// The stretch of the incumbent's line that is pointed at.
function onLine(steps, px, py) {
  const step = steps.find((one) => px >= one.x0 && px <= one.x1 && Math.abs(py - one.y) < 6);
  if (!step) return null;
  const { p, next } = step;
  const error = p.standard_error ? ` ± ${p.standard_error.toFixed(4)}` : "";
  const until = next ? `the incumbent until experiment ${next.number}` : "the incumbent";
  return { p, x: px, y: step.y, words: `${numbered(p.number)} · ${until}\n${bpb(p.val_bpb)}${error}` };
}

// The line steps to each score that was kept, up as well as down: what is kept beat the incumbent of its hour.
function drawIncumbent(picture, steps, sigma, y, area) {
  if (!steps.length) return;
  let path = "", above = [], below = [];
  steps.forEach(({ p, x0, x1, y: height }, i) => {
    path += `${i ? "V" : `M${x0} `}${height}H${x1}`;
    above.push(`${x0},${y(p.val_bpb + (sigma || 0))}`, `${x1},${y(p.val_bpb + (sigma || 0))}`);
    below.unshift(`${x1},${y(p.val_bpb - (sigma || 0))}`, `${x0},${y(p.val_bpb - (sigma || 0))}`);
  });
  if (sigma) svg("polygon", { points: [...above, ...below].join(" "), fill: BLUE, opacity: 0.22, class: "ar-noise" }, picture);
  svg("path", { d: path, fill: "none", stroke: GREEN, "stroke-width": 1.5, class: "ar-incumbent" }, picture);
  const { p, y: height } = steps[steps.length - 1];
  const middle = Math.min(Math.max(height, area.top + 18), area.bottom - 22);
  const words = { x: area.edge + 6, fill: GREEN };
  svg("text", { ...words, y: middle - 9, "font-size": 10 }, picture, "incumbent");
  svg("text", { ...words, y: middle + 4, "font-weight": 600, class: "ar-figures" }, picture, bpb(p.val_bpb));
  if (p.standard_error) svg("text", { ...words, y: middle + 17, "font-size": 10, class: "ar-figures" }, picture, `± ${p.standard_error.toFixed(4)}`);
}

// Each mark has a shape of its own; colour says it once more. In the order in which they are explained.
const LEGEND = {
  keep: "keep", discard: "discard", ended: "ended early, no score", failed: "failed", rejected: "refused by the audit",
  pending: "not decided yet", baseline: "baseline run", confirmation: "confirmation run", again: "incumbent again",
  incumbent: "incumbent", noise: "noise, ± 1 sd of a run",
};
const MARK_ORDER = ["discard", "ended", "failed", "rejected", "pending", "keep", "baseline", "confirmation", "again"]; // later ones cover earlier ones

function drawMark(parent, { p, mark, x, y }, small) {
  const which = { class: "ar-mark", "data-mark": mark, ...(p && { "data-number": p.number }) };
  const cross = (r) => `M${x - r} ${y - r}L${x + r} ${y + r}M${x - r} ${y + r}L${x + r} ${y - r}`;
  const r = small + 1.3;
  if (mark === "failed") svg("path", { ...which, d: cross(small), stroke: RED, "stroke-width": 1.5 }, parent);
  else if (mark === "rejected") svg("path", { ...which, d: `M${x} ${y - r}L${x + r} ${y + r}H${x - r}Z`, fill: ORANGE }, parent);
  else if (mark === "keep") svg("circle", { ...which, cx: x, cy: y, r, fill: GREEN }, parent);
  else if (mark === "baseline") svg("path", { ...which, d: `M${x} ${y - r}L${x + r} ${y}L${x} ${y + r}L${x - r} ${y}Z`, fill: GREEN }, parent);
  else if (mark === "confirmation") svg("path", { ...which, d: `M${x - 1.6 * small} ${y}H${x + 1.6 * small}`, stroke: INK, "stroke-width": 1.3 }, parent);
  else if (mark === "again")
    svg("path", { ...which, d: `M${x - r} ${y - 0.8 * r}H${x + r}L${x} ${y + r}Z`, fill: "none", stroke: GREEN, "stroke-width": 1.3 }, parent);
  else if (mark === "pending") {
    const group = svg("g", which, parent);
    svg("circle", { cx: x, cy: y, r: small, fill: "none", stroke: BLUE, "stroke-width": 1.1 }, group);
    svg("path", { d: `M${x} ${y - small}A${small} ${small} 0 0 0 ${x} ${y + small}Z`, fill: BLUE }, group);
  } else svg("circle", { ...which, cx: x, cy: y, r: small, fill: "none", stroke: GREY, "stroke-width": 1.1 }, parent);
}

// What the marks that occur mean, below the drawing.
function drawLegend(list, marks) {
  list.replaceChildren(...marks.map(([mark, words]) => {
    const item = html("li", { "data-mark": mark });
    const width = mark === "incumbent" || mark === "noise" ? 20 : 12;
    const sample = svg("svg", { width, height: 12, viewBox: `0 0 ${width} 12`, "aria-hidden": "true" }, item);
    if (mark === "incumbent") svg("line", { x1: 0, x2: width, y1: 6, y2: 6, stroke: GREEN, "stroke-width": 1.5 }, sample);
    else if (mark === "noise") svg("rect", { width, height: 12, fill: BLUE, opacity: 0.22 }, sample);
    else drawMark(sample, { mark, x: 6, y: 6 }, 3);
    html("span", {}, item, words);
    return item;
  }));
}

const LABEL_REACH = 44; // pixels from a mark to the edge of its words, at most; where there is no room so near, none are shown

// Words for the kept changes that gained most, beside their mark: never over a mark, the line or other words.
function labelKeeps(picture, steps, places, area) {
  const gain = new Map(steps.map(({ p }, i) => [p, i ? steps[i - 1].p.val_bpb - p.val_bpb : Infinity]));
  const most = Math.min(places.length > 300 ? 8 : 12, Math.max(3, Math.floor((area.right - area.left) / 50)));
  const current = steps[steps.length - 1];
  const ordered = steps.filter((step) => step !== current).sort((a, b) => gain.get(b.p) - gain.get(a.p));
  const tried = [...(current ? [current] : []), ...ordered].slice(0, 4 * most);
  const solid = [ // boxes that no words may touch
    ...places.map((place) => around(place, 4)),
    ...steps.map((step) => [step.x0, step.y - 2, step.x1, step.y + 2]),
    ...steps.slice(1).map((step, i) => [step.x0 - 2, Math.min(steps[i].y, step.y), step.x0 + 2, Math.max(steps[i].y, step.y)]),
  ];
  const letters = area.right - area.left < 480 ? 24 : 38;
  const taken = [], leaders = [];
  for (const { p, x0: px, y: py } of tried) {
    if (taken.length === most) break;
    const words = p.label.length > letters ? `${p.label.slice(0, letters - 1).replace(/[ ,.]+$/, "")}…` : p.label;
    const node = svg("text", { fill: INK, "font-size": 10.5, class: "ar-label", "data-number": p.number }, picture, words);
    const size = node.getComputedTextLength ? node.getComputedTextLength() : 6 * words.length;
    let found = null;
    for (const spot of spotsAround(px, py, size)) {
      const { box } = spot;
      if (found && spot.cost >= found.cost) continue;
      if (box[0] < area.left + 2 || box[2] > area.right - 2 || box[1] < area.top || box[3] > area.bottom) continue;
      if (taken.some((other) => meet(box, other, 3)) || solid.some((other) => meet(box, other, 0))) continue;
      const leader = [px, py, ...spot.end];
      if (leaders.some((other) => strikes(other, box)) || taken.some((other) => strikes(leader, other))) continue;
      if (spot.gap >= 12 && places.some((place) => place.p !== p && strikes(leader, around(place, 3)))) continue;
      found = spot;
    }
    if (!found) {
      node.remove();
      continue;
    }
    node.setAttribute("x", found.box[0]);
    node.setAttribute("y", found.box[3] - 3);
    taken.push(found.box);
    if (found.gap < 12) continue;
    leaders.push([px, py, ...found.end]);
    const [x2, y2] = found.end;
    svg("line", { x1: px, y1: py, x2, y2, stroke: GREEN, "stroke-width": 0.7, opacity: 0.8, class: "ar-leader", "data-number": p.number }, picture);
  }
}

// Where words of that width may stand around a mark, with the point that is next to it: below and left of a line that
// falls is empty, so that costs least.
function spotsAround(px, py, size) {
  const spots = [];
  const height = 13;
  for (const gap of [8, 14, 22, 32, LABEL_REACH]) {
    const slant = gap * 0.7;
    const lefts = [[px - slant - size, slant], [px + 5 - size, gap], [px - size / 2, gap], [px - 5, gap], [px + slant, slant]];
    lefts.forEach(([left, drop], i) => {
      spots.push({ left, top: py + drop, gap, cost: gap + i });
      spots.push({ left, top: py - drop - height, gap, cost: gap + 6 + (4 - i) });
    });
    spots.push({ left: px - gap - size, top: py - height / 2, gap, cost: gap + 3 });
    spots.push({ left: px + gap, top: py - height / 2, gap, cost: gap + 5 });
  }
  const within = (value, low, high) => Math.min(Math.max(value, low), high);
  return spots.map(({ left, top, gap, cost }) => {
    const box = [left, top, left + size, top + height];
    return { box, gap, cost, end: [within(px, box[0], box[2]), within(py, box[1], box[3])] };
  });
}

const around = ({ x, y }, r) => [x - r, y - r, x + r, y + r];
const meet = (a, b, pad) => a[0] < b[2] + pad && b[0] < a[2] + pad && a[1] < b[3] + pad && b[1] < a[3] + pad;

// Whether a line from (x1, y1) to (x2, y2) goes through a box.
function strikes([x1, y1, x2, y2], box) {
  for (let i = 0; i <= 16; i++) {
    const x = x1 + ((x2 - x1) * i) / 16, y = y1 + ((y2 - y1) * i) / 16;
    if (x > box[0] && x < box[2] && y > box[1] && y < box[3]) return true;
  }
  return false;
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
  const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", class: "ar-chart", "aria-label": summary });
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
  ["number", "#", true], ["idea", "what changed", false], ["val_bpb", "val_bpb", true],
  ["against", "against", true], ["delta", "Δ", true],
  ["sigmas", "Δ (σ)", true], ["speed", "tokens/s", true], ["status", "status", false], ["time", "when", true],
];
const SIGNS = {
  keep: ["●", GREEN], discard: ["○", GREY], ended: ["○", GREY], failed: ["×", RED], rejected: ["▲", ORANGE],
  pending: ["◐", BLUE], baseline: ["◆", GREEN],
};
const FILTERS = [
  ["All", () => true], ["Kept", (r) => r.mark === "keep" && !r.is_baseline], ["Discarded", (r) => r.mark === "discard" || r.mark === "ended"],
  ["Near misses", (r) => r.near], ["Crashed", (r) => r.mark === "failed"], ["Rejected", (r) => r.mark === "rejected"],
];

function ago(seconds) {
  for (const [unit, name] of [[86400, "d"], [3600, "h"], [60, "min"]]) if (seconds >= unit) return `${Math.round(seconds / unit)} ${name}`;
  return `${Math.max(0, Math.round(seconds))} s`;
}

function makeTable(el, model) {
  const state = { sort: "number", down: true, filter: 0, words: "", rows: [], unfolded: new Set() };
  const bar = html("div", { class: "ar-bar" }, el);
  const group = html("div", { role: "group", "aria-label": "Which experiments" }, bar);
  const buttons = FILTERS.map(([name], i) => {
    const button = html("button", { type: "button", class: "ar-filter" }, group);
    button.onclick = () => { state.filter = i; draw(); };
    return button;
  });
  const search = html("input", { type: "search", placeholder: "filter", "aria-label": "Filter by words" }, bar);
  search.oninput = () => { state.words = search.value.toLowerCase(); draw(); };
  search.onkeydown = (event) => {
    if (event.key === "Escape" && search.value) { search.value = ""; search.oninput(); event.preventDefault(); }
    if (event.key === "ArrowDown" && body.firstChild) { goTo(body.firstChild); event.preventDefault(); }
  };
  const box = html("div", { class: "ar-rows" }, el); // scrolls, so that the page does not
  const table = html("table", { "aria-label": "Experiments" }, box);
  const head = html("tr", {}, html("thead", {}, table));
  const heads = COLUMNS.map(([key, name, isNumber]) => {
    const th = html("th", { scope: "col", class: `ar-${key}${isNumber ? " ar-number" : ""}` }, head);
    const button = html("button", { type: "button", title: `Sort by ${name}` }, th, name);
    button.onclick = () => { [state.down, state.sort] = [state.sort === key ? !state.down : isNumber, key]; draw(); };
    return [th, button, key, name];
  });
  const body = html("tbody", {}, table);
  const empty = html("p", { class: "ar-empty" }, box);

  function shown() {
    const { rows } = dataOf(model) || { rows: [] };
    const matches = (r) => FILTERS[state.filter][1](r) && (!state.words || `${r.number} ${r.idea} ${r.hypothesis} ${r.status} ${r.agent}`.toLowerCase().includes(state.words));
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
    const focused = selectorOf(document.activeElement);
    state.rows = shown();
    const now = dataOf(model)?.now ?? Date.now() / 1000; // a replay has a time of its own
    body.replaceChildren(...state.rows.map((r) => {
      const isChosen = r.number === model.get("selected");
      const tr = html("tr", { "data-number": r.number, tabindex: -1, "aria-selected": String(isChosen) });
      const [sign, colour] = SIGNS[r.is_baseline && r.mark === "keep" ? "baseline" : r.mark];
      html("td", { class: "ar-number" }, tr, String(r.number));
      fillIdea(html("td", { class: "ar-idea", title: r.is_long ? "" : r.hypothesis }, tr), r);
      html("td", { class: "ar-number" }, tr, bpb(r.val_bpb));
      html("td", { class: "ar-against ar-number" }, tr, r.against == null ? "" : bpb(r.against));
      html("td", { class: "ar-delta ar-number" }, tr, r.delta == null ? "" : withError(r.delta, r.delta_error));
      html("td", { class: "ar-sigmas ar-number" }, tr, r.sigmas == null ? "" : signed(r.sigmas, 1));
      html("td", { class: "ar-speed ar-number" }, tr, r.speed == null ? "–" : `${(r.speed / 1000).toFixed(1)} k`);
      const status = html("td", { title: r.reason }, tr);
      html("span", { style: `color:${colour}`, "aria-hidden": "true" }, status, `${sign} `);
      status.appendChild(document.createTextNode(r.status));
      html("td", { class: "ar-time ar-number", title: r.utc || "" }, tr, r.time == null ? (r.status === "unfinished" ? "" : "now") : ago(now - r.time));
      return tr;
    }));
    const entry = body.querySelector('[aria-selected="true"]') || body.firstChild;
    if (entry) entry.tabIndex = 0;
    if (focused) body.querySelector(focused)?.focus({ preventScroll: true });
    empty.textContent = state.rows.length ? "" : rows.length ? "No experiment is like that." : "No experiment yet.";
  }

  // The row, or the button in it, that has the focus: it has it again when the rows are made anew.
  function selectorOf(node) {
    if (!body.contains(node)) return null;
    return `[data-number="${node.closest("tr").dataset.number}"]${node.matches("button") ? " button" : ""}`;
  }

  // What changed; a long hypothesis is folded behind its beginning.
  function fillIdea(cell, r) {
    const isOpen = r.is_long && state.unfolded.has(r.number);
    const line = html("div", { class: isOpen ? "ar-line ar-open" : "ar-line" }, cell);
    const isBeginning = r.hypothesis.startsWith(r.idea.replace(/…$/, ""));
    const texts = !isOpen ? [r.idea] : isBeginning ? [r.hypothesis] : [r.idea, r.hypothesis];
    for (const text of texts) html("span", {}, line, text);
    if (!r.is_long) return;
    const name = isOpen ? "less" : "more";
    const words = { "aria-label": `${name} of the hypothesis of experiment ${r.number}`, "aria-expanded": String(isOpen) };
    const button = html("button", { type: "button", tabindex: -1, ...words }, line, name);
    button.onclick = (event) => { event.stopPropagation(); fold(r.number); };
  }

  function fold(number) {
    if (!state.unfolded.delete(number)) state.unfolded.add(number);
    draw();
  }

  function goTo(row) {
    row.focus();
    row.scrollIntoView({ block: "nearest" });
  }

  function choose(row) {
    if (!row) return;
    model.set("selected", Number(row.dataset.number));
    model.save_changes();
  }
  body.onclick = (event) => choose(event.target.closest("tr"));
  body.onkeydown = (event) => {
    const row = event.target.closest("tr");
    if (event.key === "ArrowUp" && row === body.firstChild) { search.focus(); event.preventDefault(); return; }
    const to = { ArrowDown: row?.nextElementSibling, ArrowUp: row?.previousElementSibling, Home: body.firstChild, End: body.lastChild }[event.key];
    if (to) { goTo(to); event.preventDefault(); }
    if (event.target !== row) return; // a button in the row does what it says
    if (event.key === "Enter" || event.key === " ") { choose(row); event.preventDefault(); }
    const r = state.rows.find((one) => one.number === Number(row.dataset.number));
    const isOpen = state.unfolded.has(r.number);
    if (r.is_long && event.key === (isOpen ? "ArrowLeft" : "ArrowRight")) { fold(r.number); event.preventDefault(); }
  };
  const clock = setInterval(() => {
    if (dataOf(model)?.now) return;
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
  const legend = html("ul", { class: "ar-legend", "aria-label": "What the marks mean" }, el);
  const hint = html("div", { class: "ar-hint", hidden: "" }, el);
  let shown = { at: () => null }, width = 0;
  const draw = () => {
    width = canvas.clientWidth;
    if (!width) return;
    shown = drawing(canvas, model);
    drawLegend(legend, shown.legend || []);
  };
  canvas.onmousemove = (event) => {
    const box = canvas.getBoundingClientRect();
    const place = shown.at(event.clientX - box.left, event.clientY - box.top);
    hint.hidden = !place;
    canvas.style.cursor = place ? "pointer" : "";
    if (!place) return;
    hint.textContent = place.words;
    hint.style.left = `${Math.max(0, Math.min(place.x + 10, box.width - hint.offsetWidth - 4))}px`;
    hint.style.top = `${place.y > hint.offsetHeight + 12 ? place.y - hint.offsetHeight - 10 : place.y + 14}px`;
  };
  canvas.onmouseleave = () => { hint.hidden = true; };
  canvas.onclick = (event) => {
    const box = canvas.getBoundingClientRect();
    const place = shown.at(event.clientX - box.left, event.clientY - box.top);
    if (place) { model.set("selected", place.p.number); model.save_changes(); }
  };
  const watch = new ResizeObserver(() => { if (canvas.clientWidth !== width) draw(); });
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
