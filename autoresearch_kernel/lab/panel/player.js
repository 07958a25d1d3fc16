// The controls of a replay: play and pause, speed, jumps, and the questions of the quiz.
//
// Python holds the replay. This draws what `data` says and sends what the viewer does as `asked`. Text is set as text.

function node(name, attributes, parent, text) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.appendChild(made);
  return made;
}

const CALLS = [["keep", "Keep", "k"], ["discard", "Discard", "d"], ["confirm", "Once more", "o"]];
const NO_KEYS = "input, select, textarea"; // where keys are typed

function render({ model, el }) {
  el.classList.add("ar-drawing", "ar-player");
  el.setAttribute("data-lm-suppress-shortcuts", "true"); // keys are the player's, not the notebook's
  let count = 0;
  const ask = (what, value) => {
    count = Math.max(count, told().count || 0) + 1; // another browser may show this replay, too
    model.set("asked", JSON.stringify({ count, what, value: value ?? null }));
    model.save_changes();
  };
  const told = () => JSON.parse(model.get("data")) || {};

  const bar = node("div", { class: "ar-player-bar", role: "group", "aria-label": "Replay" }, el);
  const press = (words, title, act, parent = bar) => {
    const button = node("button", { type: "button", title, class: "ar-player-button" }, parent, words);
    button.onclick = act;
    return button;
  };
  const back = press("◀ Previous", "Previous experiment (left arrow)", () => ask("step", -1));
  const play = press("Play", "Play or pause (space)", () => ask(told().is_playing ? "pause" : "play"));
  const next = press("Next ▶", "Next experiment (right arrow)", () => ask("step", 1));
  const speedLabel = node("label", {}, bar, "Speed ");
  const speed = node("select", { "aria-label": "Speed" }, speedLabel);
  speed.onchange = () => ask("speed", Number(speed.value));
  const jumpLabel = node("label", {}, bar, "Experiment ");
  const jump = node("input", { type: "number", min: 0, "aria-label": "Jump to experiment" }, jumpLabel);
  let given = ""; // what the field held when it was last heard: Enter on the same number again is no change
  const go = () => {
    given = jump.value;
    if (given !== "") ask("jump", Number(given));
  };
  jump.onfocus = () => { given = jump.value; };
  jump.onchange = go;
  jump.onkeydown = (event) => { if (event.key === "Enter" && jump.value === given) go(); };
  const quizLabel = node("label", {}, bar);
  const quiz = node("input", { type: "checkbox" }, quizLabel);
  quizLabel.append(" Quiz");
  quizLabel.title = "Stop before each verdict: keep, discard or once more?";
  quiz.onchange = () => ask("quiz", quiz.checked);
  const end = press("End the replay", "Show the studies of this project again", () => ask("end"));
  const line = node("div", { class: "ar-player-line" }, el);
  const slider = node("input", { type: "range", min: 0, step: "any", "aria-label": "Moment of the night" }, line);
  slider.oninput = () => ask("seek", Number(slider.value));
  const when = node("span", { class: "ar-figures" }, line);
  const question = node("div", { class: "ar-question", hidden: "" }, el);
  const words = node("div", { role: "status", "aria-live": "polite" }, question);
  const answers = node("div", { role: "group", "aria-label": "Your call" }, question);
  for (const [call, name, key] of CALLS)
    press(`${name} (${key.toUpperCase()})`, `Answer: ${name.toLowerCase()} (key ${key})`, () => ask("answer", call), answers);
  const outcome = node("div", { class: "ar-outcome", role: "status", "aria-live": "polite" }, el);

  // Words that stay the same are not set again: a screen reader would say them again.
  function lines(parent, texts) {
    if (JSON.stringify(texts) === parent.dataset.texts) return;
    parent.dataset.texts = JSON.stringify(texts);
    parent.replaceChildren(...texts.map((text, i) => node("p", { class: i ? "" : "ar-first" }, null, text)));
  }

  function draw() {
    const data = told();
    if (!data.name) return;
    play.textContent = data.is_playing ? "Pause" : data.is_over ? "Play again" : "Play";
    play.disabled = Boolean(data.question);
    back.disabled = !data.experiments.length;
    next.disabled = !data.experiments.length;
    if (!speed.options.length || ![...speed.options].some((one) => Number(one.value) === data.speed)) {
      const offered = [...new Set([...data.speeds, data.speed])].sort((a, b) => a - b);
      speed.replaceChildren(...offered.map((s) => node("option", { value: s }, null, `${s} ×`)));
    }
    const isUpToDate = (data.count ?? Infinity) >= count; // else a control would jump back to what it was before
    if (isUpToDate) speed.value = String(data.speed);
    jump.max = Math.max(0, ...data.experiments);
    if (document.activeElement !== jump && isUpToDate) jump.value = data.experiment ?? "";
    if (isUpToDate) quiz.checked = data.is_quiz;
    slider.max = data.seconds || 1;
    if (isUpToDate) slider.value = data.moment;
    slider.setAttribute("aria-valuetext", data.when);
    when.textContent = data.when;
    question.hidden = !data.question;
    lines(words, data.question || []);
    lines(outcome, data.said || []);
  }

  el.onkeydown = (event) => {
    if (event.target.closest(NO_KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
    const data = told();
    const call = CALLS.find(([, , key]) => key === event.key.toLowerCase());
    if (call && data.question) ask("answer", call[0]);
    else if (event.key === "ArrowRight") ask("step", 1);
    else if (event.key === "ArrowLeft") ask("step", -1);
    else if (event.key === " " && event.target.tagName !== "BUTTON" && !data.question) ask(data.is_playing ? "pause" : "play");
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  el.tabIndex = 0; // a click on it takes the keys, too
  model.on("change:data", draw);
  draw();
  return () => model.off("change:data", draw);
}

export default { render };
