// Verifies the bundle of a study in its own page: no network, no dependency.
//
// It has the rows and the sentences of share/check.py, and a test compares both on the same damaged bundles. The page
// shows the result in <section id="verify">. `verifyBundle` below is for tests and for the console.
"use strict";
(() => {
  const RULE_VERSION = 1, FORMAT = 1;
  const MANIFEST = "manifest.json", PAGE = "index.html", HISTORY = "history.jsonl", TABLE = "results.tsv";
  const SETTINGS = "study.json";
  const CHANGED = "its content was changed", NOT_UNPACKED = "it cannot be unpacked";
  const TWICE = "it stands twice in the zip", OLD = "the version that recorded them kept no numbers";
  const MOST_BYTES = 400_000_000, TOLERANCE = 1e-9, ROUNDING = 1e-9, MOST_CHOICES = 20_000;
  const UNKNOWN = [
    "Whether the machine told the truth: a person who makes up numbers and recomputes all hashes gets a bundle that " +
      "verifies. The command rerun trains an experiment again on your machine.",
    "Whether the clock was honest: the budget of a run was counted where the study ran.",
    "Whether the models had the scores that are recorded: a bundle holds no model.",
    "Whether notebooks, curves and prompts are those of the study: a person who changes them and recomputes all " +
      "hashes is not found out.",
    "Whether sentences and pictures of the pages say what the record says, where the check is made in a browser: the " +
      "command makes the pages again and compares them. Where they differ and another program made them, it cannot " +
      "tell.",
    "Whether experiments were left out before the history began, or whether a better study was not shared.",
    "What the cleaning removed: names, paths and keys were replaced before the hashes were made.",
  ];
  const WORDS = {
    files: ["file", "as the manifest has them"],
    history: ["line", "of the history, each chained to the one before"],
    lineage: ["experiment", "whose diff leads from the parent's code to its own"],
    decisions: ["decision", "that follow from their numbers"],
    figures: ["figure", "that follow from the history"],
    page: ["part", "that the page holds and that are those of the files"],
  };

  // --- bytes

  const encoder = new TextEncoder();
  const bytesOf = (text) => encoder.encode(text);
  const textOf = (bytes) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
  const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

  const primes = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((p) => n % p)) primes.push(n);
  const fraction = (x) => Math.floor((x - Math.floor(x)) * 2 ** 32) >>> 0;
  const K = primes.map((p) => fraction(Math.cbrt(p))), START = primes.slice(0, 8).map((p) => fraction(Math.sqrt(p)));

  /** SHA-256, for a browser that keeps its own for pages from a server. */
  function ownSha256(bytes) {
    const padded = new Uint8Array(((bytes.length + 72) >> 6) << 6), state = Uint32Array.from(START);
    padded.set(bytes);
    padded[bytes.length] = 0x80;
    const view = new DataView(padded.buffer), w = new Uint32Array(64);
    view.setUint32(padded.length - 8, Math.floor(bytes.length / 2 ** 29));
    view.setUint32(padded.length - 4, (bytes.length * 8) >>> 0);
    const turned = (x, n) => (x >>> n) | (x << (32 - n));
    for (let at = 0; at < padded.length; at += 64) {
      for (let i = 0; i < 16; i++) w[i] = view.getUint32(at + 4 * i);
      for (let i = 16; i < 64; i++) {
        const a = w[i - 15], b = w[i - 2];
        const low = turned(a, 7) ^ turned(a, 18) ^ (a >>> 3), high = turned(b, 17) ^ turned(b, 19) ^ (b >>> 10);
        w[i] = w[i - 16] + low + w[i - 7] + high;
      }
      let [a, b, c, d, e, f, g, h] = state;
      for (let i = 0; i < 64; i++) {
        const one = (h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
        const two = ((turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
        [h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
      }
      [a, b, c, d, e, f, g, h].forEach((value, i) => (state[i] += value));
    }
    return Array.from(state, (word) => word.toString(16).padStart(8, "0")).join("");
  }

  async function sha256(bytes) {
    const own = globalThis.crypto && globalThis.crypto.subtle;
    return own ? hex(new Uint8Array(await own.digest("SHA-256", bytes))) : ownSha256(bytes);
  }

  const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
    for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
    return n;
  });
  function crc32(bytes) {
    let crc = -1;
    for (const byte of bytes) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
    return (~crc >>> 0).toString(16).padStart(8, "0");
  }

  // --- reading a bundle: { files: Map(path -> bytes), broken: Map(path -> problem) }

  /** The entries of a zip: [[name, bytes or problem]]. */
  async function entriesOfZip(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length), found = [];
    let end = bytes.length - 22, total = 0;
    while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end--;
    if (end < 0) throw new Error("This file cannot be read as a zip. Choose the file that `autoresearch share` wrote.");
    let at = view.getUint32(end + 16, true);
    for (let left = view.getUint16(end + 10, true); left > 0; left--) {
      if (view.getUint32(at, true) !== 0x02014b50) throw new Error("The list of files in this zip is damaged.");
      const [packed, size] = [view.getUint32(at + 20, true), view.getUint32(at + 24, true)];
      const [named, extra, note] = [28, 30, 32].map((place) => view.getUint16(at + place, true));
      const name = textOf(bytes.subarray(at + 46, at + 46 + named)), start = view.getUint32(at + 42, true);
      const method = view.getUint16(at + 10, true);
      at += 46 + named + extra + note;
      if (name.endsWith("/")) continue;
      total += size;
      if (total > MOST_BYTES) throw new Error("The files in this zip are too large for a bundle of a study.");
      let content = NOT_UNPACKED;
      try {
        content = await unpacked(bytes, view, name, start, packed, size, method);
      } catch (error) {
        console.debug(name, error);
      }
      found.push([name, content]);
    }
    return found;
  }

  async function unpacked(bytes, view, name, start, packed, size, method) {
    if (view.getUint32(start, true) !== 0x04034b50) throw new Error("no local header");
    const [named, extra] = [view.getUint16(start + 26, true), view.getUint16(start + 28, true)];
    if (textOf(bytes.subarray(start + 30, start + 30 + named)) !== name) throw new Error("two names");
    const data = bytes.subarray(start + 30 + named + extra, start + 30 + named + extra + packed);
    if (method === 0) return data;
    if (method !== 8) throw new Error("unknown method " + method);
    const reader = new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
    const parts = [];
    let length = 0;
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      length += read.value.length;
      if (length > size) throw new Error("larger than its entry says");
      parts.push(read.value);
    }
    return new Uint8Array(await new Blob(parts).arrayBuffer());
  }

  function bundleOf(entries) {
    const names = entries.map(([name]) => name), bundle = { files: new Map(), broken: new Map() };
    const depth = (name) => name.split("/").length;
    const manifests = names.filter((n) => n === MANIFEST || n.endsWith("/" + MANIFEST));
    const first = manifests.sort((a, b) => depth(a) - depth(b))[0];
    const top = first !== undefined ? first.slice(0, -MANIFEST.length) : (names[0] || "").split("/")[0] + "/";
    for (let [name, content] of entries) {
      if (top !== "/" && name.startsWith(top)) name = name.slice(top.length);
      if (bundle.files.has(name) || bundle.broken.has(name)) {
        bundle.files.delete(name);
        content = TWICE;
      }
      if (typeof content === "string") bundle.broken.set(name, content);
      else bundle.files.set(name, content);
    }
    if (!bundle.files.has(MANIFEST) && !bundle.broken.has(MANIFEST))
      throw new Error("There is no manifest.json, so this is no bundle of a study, or its manifest was removed.");
    return bundle;
  }

  // --- the chain of the history

  const CHAIN_MARK = ', "chain": "', CRC_MARK = ', "crc": "';
  const CHAIN_LENGTH = CHAIN_MARK.length + 65, CRC_LENGTH = CRC_MARK.length + 9;
  const without = (line, mark, length) =>
    line.slice(-length - 1).startsWith(mark) ? line.slice(0, -length - 1) + "}" : line;
  const withoutCrc = (line) => without(line, CRC_MARK, CRC_LENGTH);
  const bare = (line) => without(withoutCrc(line), CHAIN_MARK, CHAIN_LENGTH);
  function stated(line) {
    const field = withoutCrc(line).slice(-CHAIN_LENGTH - 1);
    return field.startsWith(CHAIN_MARK) ? field.slice(CHAIN_MARK.length, -2) : "";
  }
  const chainHead = (lines) => (lines.length ? stated(lines[lines.length - 1]) : "");

  async function brokenLines(lines) {
    const broken = [];
    let before = "";
    for (const [index, line] of lines.entries()) {
      const text = withoutCrc(line), chain = stated(line);
      let problem = "";
      if (text === line || !chain) problem = "it has no chain or no CRC, so it is not a whole record";
      else if (line.slice(-10, -2) !== crc32(bytesOf(text)))
        problem = "its CRC does not fit its text, so the record was changed";
      else if ((await sha256(bytesOf(before + bare(line)))) !== chain)
        problem = "its chain does not fit its text and the line before it";
      if (problem) broken.push(`line ${index + 1}: ${problem}`);
      before = chain;
    }
    return broken;
  }

  // --- what the events add up to: share/recorded.py

  class Misfit extends Error {}
  function need(object, name) {
    if (object === null || object === undefined || object[name] === undefined) throw new Misfit(name);
    return object[name];
  }
  const orNull = (value) => (value === undefined ? null : value);
  const last = (list) => (list.length ? list[list.length - 1] : null);

  class Recorded {
    parents = {}; // experiment -> its parent
    incumbents = {}; // experiment -> the incumbent when it was proposed
    sources = {}; // experiment -> SHA-256 of its train.py
    runs = {}; // experiment -> run -> status and val_bpb
    decided = {}; // experiment -> its decision
    kept = []; // in the order of their decisions
    tested = {}; // experiment -> run -> test_bpb
    looks = new Set(); // champions that the test split was opened for
    results = [];
    hasNumbers = false; // a decision kept the numbers that it was made from
    study = {}; // study.json, as the history has it
    finished = null; // the last event of that name
    numGivenBack = 0; // proposals
    calls = []; // questions to a language model
    attributions = []; // events of that name
    presentEffects = null; // what the changes of the champion are worth, once that was asked

    get incumbent() {
      return last(this.kept);
    }
    get result() {
      return this.results.find((result) => result.champion === this.incumbent) || null;
    }
    lastStatus(number) {
      const runs = this.runs[number] || {};
      const statuses = Object.keys(runs).map(Number).sort((a, b) => a - b).map((run) => runs[run].status);
      return statuses.includes("rejected") && number > 0 ? "rejected" : last(statuses);
    }
    hasScore(number) {
      return Object.values(need(this.runs, number)).some((run) => run.val_bpb !== null);
    }
    run(event) {
      return need(need(this.runs, need(event, "experiment")), need(event, "run"));
    }
    add(event) {
      this.presentEffects = null;
      const add = this["on_" + event.event];
      if (typeof add === "function") add.call(this, event);
    }
    on_study_started(event) {
      this.study = event.study;
    }
    on_finished(event) {
      this.finished = event;
    }
    on_refused() {
      this.numGivenBack++;
    }
    on_called(event) {
      this.calls.push(event);
    }
    on_attribution(event) {
      this.attributions.push(event);
    }
    on_proposed(event) {
      const number = need(event, "experiment");
      this.parents[number] = need(event, "parent");
      this.incumbents[number] = this.incumbent;
      this.sources[number] = event.train_sha256 || "";
      this.runs[number] = {};
    }
    on_started(event) {
      const number = need(event, "experiment");
      const count = Object.keys(this.decided).length, decided = this.decided[number] ? count : null;
      const place = decided === null ? Math.min(count, number) : Math.max(count, number + 1); // `num_decided` in core/state.py
      need(this.runs, number)[need(event, "run")] = {
        status: "interrupted", val_bpb: null, claimed: null, machine: event.machine || "", decided, place, measured: {},
      };
    }
    on_trained(event) {
      this.run(event).status = need(event, "status");
      this.run(event).measured = event.measured || {};
    }
    on_interrupted(event) {
      this.run(event).status = "interrupted";
    }
    on_scored(event) {
      const run = this.run(event);
      run.val_bpb = orNull(event.val_bpb);
      run.error = event.standard_error || 0;
      run.measured = { ...run.measured, num_scored: event.num_tokens, num_bytes: event.num_bytes };
      if (run.val_bpb === null) run.status = need(event, "status");
    }
    on_audited(event) {
      const run = this.run(event), number = event.experiment;
      run.isAudited = true;
      run.claimed = run.val_bpb;
      if (need(event, "accepted")) {
        if (run.val_bpb === null) throw new Misfit("val_bpb");
        run.val_bpb += need(event, "correction_bpb");
        run.error = Math.hypot(run.error, event.standard_error);
        return;
      }
      run.status = "rejected";
      run.val_bpb = null;
      if (this.decided[number]) {
        this.decided[number] = { ...this.decided[number], status: "rejected", val_bpb: null };
        this.kept = this.kept.filter((kept) => kept !== number);
      }
    }
    on_decided(event) {
      const number = need(event, "experiment");
      this.decided[number] = event;
      this.hasNumbers = this.hasNumbers || Boolean(event.rule);
      this.kept = this.kept.filter((kept) => kept !== number);
      if (need(event, "status") === "keep") this.kept.push(number);
    }
    /** How many runs of an experiment failed that were begun after the last decision. */
    numFailed(number) {
      const num = Object.keys(this.decided).length, runs = Object.values(need(this.runs, number));
      const late = runs.filter((run) => run.decided !== null && (run.decided === num || num <= number + 1));
      return late.filter((run) => run.status !== null && run.status !== "interrupted").length;
    }
    /** Of the models of an experiment that were scored on the test split: [run, score], by their runs. */
    tests(number) {
      const runs = this.tested[number] || {};
      const indices = Object.keys(runs).map(Number).sort((a, b) => a - b);
      return indices.map((run) => [run, runs[run]]).filter(([, bpb]) => bpb !== null);
    }
    testScores(number) {
      return this.tests(number).map(([, bpb]) => bpb);
    }
    on_tested(event) {
      const number = need(event, "experiment");
      this.looks.add(orNull(event.champion));
      (this.tested[number] ||= {})[need(event, "run")] = need(event, "test_bpb");
    }
    on_result(event) {
      this.results.push(event);
    }
  }

  // --- the rule: core/student.py, core/thresholds.py and core/decide.py

  const CHANCE_AT_ONCE = 1e-5, CHANCE_WORSE = 0.01, MOST_SIGMAS = 30;
  const OF_NORMAL = { [CHANCE_AT_ONCE]: 4.264890793922825, [CHANCE_WORSE]: 2.3263478740408408 };
  const BOLD_SHARE = 1 / 8, SURE_SHARE = 2 / 5, LEAST_WIN = 0.25, BOLD_AT_ONCE = 0.75, SURE_KEEP = 0.3;
  const LUCK = { 1: 1.0, 2: 0.4 }, TIE = 1.0, TIE_CONFIRMED = 0.25, DUEL_WIN = 1.0, BOLD_DUEL_WIN = 0.5;
  const FEWEST_BASELINE_RUNS = 3, MOST_BASELINE_RUNS = 8;

  /** The logarithm of the gamma function at k / 2. */
  function logGammaOfHalf(k) {
    let sum = k % 2 ? Math.log(Math.PI) / 2 : 0;
    for (let x = k % 2 ? 0.5 : 1; x < k / 2; x++) sum += Math.log(x);
    return sum;
  }
  function tail(t, n) {
    const x = n / (n + t * t), a = n / 2, b = 0.5;
    const gammas = logGammaOfHalf(n + 1) - logGammaOfHalf(n) - logGammaOfHalf(1);
    let term = 1, total = 1;
    for (let k = 1; k < 100_000 && term >= 1e-12 * total; k++) {
      term *= (x * (k - b) * (a + k - 1)) / (k * (a + k));
      total += term;
    }
    return 0.5 * Math.exp(a * Math.log(x) + gammas - Math.log(a)) * total;
  }
  function quantile(chance, degrees) {
    let low = 0, high = 1;
    while (tail(high, degrees) > chance) high *= 2;
    for (let i = 0; i < 60; i++) {
      const middle = (low + high) / 2;
      if (tail(middle, degrees) > chance) low = middle;
      else high = middle;
    }
    return high;
  }
  const sigmasOfChance = (chance, degrees) =>
    degrees ? Math.min(MOST_SIGMAS, quantile(chance, degrees)) : OF_NORMAL[chance];
  const mean = (scores) => scores[0] + scores.reduce((sum, score) => sum + (score - scores[0]), 0) / scores.length;
  const higher = (one, other) => (other === null ? one : Math.max(one, other));

  /** { keep, confirm, score, incumbent } of a challenger's runs. */
  function ofRuns(rule) {
    const level = mean(rule.incumbent_scores) + rule.speed_bpb, sigma = rule.sigma, count = rule.incumbent_scores.length;
    const isBold = rule.worse_share >= BOLD_SHARE, isChosen = rule.is_lucky && isBold;
    const beaten = level + (isChosen ? LUCK[count] || 0 : 0) * (sigma || 0);
    const unit = sigma === null ? null : Math.max(sigma, rule.level_error || 0);
    const reach = sigmasOfChance(CHANCE_AT_ONCE, rule.degrees_of_freedom) * Math.sqrt(1 + 1 / count);
    const atOnce = rule.is_like ? reach : Infinity, isSure = rule.worse_share >= SURE_SHARE && atOnce < Infinity;
    const tie = (sigmas) => (rule.is_simpler && sigma !== null ? level + sigmas * sigma : null);
    const found = { score: mean(rule.scores), incumbent: level, keep: null, confirm: null };
    if (rule.scores.length >= 2) {
      found.keep = higher(beaten - (isBold ? 0 : LEAST_WIN * (unit || 0)), tie(TIE_CONFIRMED));
    } else if (unit === null) {
      found.confirm = beaten;
    } else {
      const margin = isSure ? SURE_KEEP : isBold ? BOLD_AT_ONCE : atOnce;
      found.keep = atOnce < Infinity ? beaten - margin * unit : null;
      found.confirm = isSure ? tie(TIE) : higher(beaten, tie(TIE));
    }
    return found;
  }

  /** The same of a challenger that met the incumbent in a duel. */
  function ofDuel(rule) {
    const pairs = rule.pairs.map(([mine, theirs]) => [mine, theirs, 1 / rule.pair_sd ** 2]);
    if (rule.scores.length) pairs.push([mean(rule.scores), rule.first_level, 1 / rule.first_error ** 2]);
    const weight = pairs.reduce((sum, pair) => sum + pair[2], 0), error = 1 / Math.sqrt(weight);
    const [score, level] = [0, 1].map((side) => pairs.reduce((sum, pair) => sum + pair[2] * pair[side], 0) / weight);
    const chance = quantile(CHANCE_WORSE, rule.degrees_of_freedom) / sigmasOfChance(CHANCE_WORSE, null);
    const needed = (rule.worse_share >= BOLD_SHARE ? BOLD_DUEL_WIN : DUEL_WIN) * chance;
    const tie = rule.is_simpler ? level + TIE_CONFIRMED * error : null;
    return { score, incumbent: level, keep: higher(level - needed * error, tie), confirm: null, error };
  }

  const FIELDS = {
    runs: [
      "incumbent", "runs", "scores", "incumbent_runs", "incumbent_scores", "speed_bpb", "sigma", "degrees_of_freedom",
      "level_error", "is_like", "worse_share", "is_lucky", "is_simpler",
    ],
    duel: [
      "incumbent", "runs", "scores", "first_level", "first_error", "duels", "pairs", "pair_sd", "degrees_of_freedom",
      "worse_share", "is_simpler",
    ],
    baseline: ["runs", "scores", "has_like_runs"],
  };

  // --- each decision from its numbers: share/decisions.py

  const numbered = (number) => String(number).padStart(4, "0");
  function isNear(one, other) {
    if (one === null || other === null) return one === other;
    const most = Math.max(TOLERANCE * Math.max(Math.abs(one), Math.abs(other)), TOLERANCE);
    return one === other || Math.abs(one - other) <= most;
  }
  function areScores(runs, indices, scores) {
    const known = indices.map((index) => (runs[index] ? runs[index].val_bpb : null));
    const isOnce = new Set(indices).size === indices.length && known.length === scores.length;
    return isOnce && known.every((score, i) => score !== null && score === scores[i]);
  }

  const machinesOf = (runs, indices) => indices.map((index) => runs[index].machine);

  /** What is wrong with the numbers of a verdict; "" when nothing is, null when they cannot be checked. */
  function ofRule(rule, status, number, recorded) {
    if (rule.version !== RULE_VERSION) return null;
    if (!Object.hasOwn(FIELDS, rule.kind))
      return `its numbers cannot be read: there is no kind ${rule.kind} of numbers`;
    const missing = FIELDS[rule.kind].filter((name) => rule[name] === undefined);
    if (missing.length) return `its numbers cannot be read: it lacks ${missing.join(", ")}`;
    const mine = need(recorded.runs, number);
    if (!areScores(mine, rule.runs, rule.scores)) return "its numbers are not the scores of its runs";
    if (rule.kind === "baseline") {
      if (number !== 0 || Object.keys(recorded.decided).length)
        return "its numbers are those of a baseline, and it is none";
      const count = rule.scores.length;
      const isEnough = count >= FEWEST_BASELINE_RUNS && (rule.has_like_runs || count >= MOST_BASELINE_RUNS);
      return verdictWords(isEnough ? "keep" : "confirm", status);
    }
    const isParent = rule.incumbent === recorded.parents[number] && recorded.kept.includes(rule.incumbent);
    if (rule.incumbent !== recorded.incumbent && !(isParent && status !== "keep"))
      return `it is compared with experiment ${numbered(rule.incumbent)}, which was not the incumbent`;
    const theirs = need(recorded.runs, rule.incumbent);
    const sides =
      rule.kind === "runs"
        ? [[theirs, rule.incumbent_runs, rule.incumbent_scores]]
        : [0, 1].map((side) => [
            side ? theirs : mine, rule.duels.map((duel) => duel[side]), rule.pairs.map((pair) => pair[side]),
          ]);
    if (!sides.every((side) => areScores(...side))) return "the incumbent's numbers are not the scores of its runs";
    if (rule.kind === "runs") {
      const machines = [...machinesOf(mine, rule.runs), ...machinesOf(theirs, rule.incumbent_runs)];
      if (new Set(machines).size > 1) return "its numbers are of several kinds of machine";
    }
    const found = rule.kind === "runs" ? ofRuns(rule) : ofDuel(rule);
    const [keep, confirm] = [orNull(rule.keep_below), orNull(rule.confirm_below)];
    if (!isNear(keep, found.keep) || !isNear(confirm, found.confirm))
      return "its thresholds do not follow from its numbers";
    const isKept = keep !== null && found.score < keep, isOnceMore = confirm !== null && found.score < confirm;
    return verdictWords(isKept ? "keep" : isOnceMore ? "confirm" : "discard", status);
  }
  const verdictWords = (verdict, status) =>
    verdict === status ? "" : `it is decided as ${status}, and its numbers say ${verdict}`;

  /** A discard because of other experiments of its wave, on several slots; nothing is kept in this way. */
  function ofWave(wave, status, recorded) {
    if (status !== "discard") return `it is decided as ${status} because of its wave, which only discards`;
    const isRun = (number) => Number.isInteger(number) && Object.hasOwn(recorded.runs, number);
    const isKnown = Array.isArray(wave) && wave.length > 0 && wave.every(isRun);
    return isKnown ? "" : "the experiments of its wave are not in the record";
  }

  function ofDecision(event, recorded) {
    const number = need(event, "experiment"), status = need(event, "status"), ended = recorded.lastStatus(number);
    const isLeft = ended === "interrupted" && Object.hasOwn(event, "wave"); // a confirmation that was cut off
    if (ended !== null && !(isLeft && recorded.hasScore(number)))
      return ended === status ? "" : `its last run ended as ${ended}, and it is decided as ${status}`;
    if (status !== "keep" && status !== "discard") return `its last run has a score, and it is decided as ${status}`;
    if (Object.hasOwn(event, "wave")) return ofWave(event.wave, status, recorded);
    if (!event.rule) return recorded.hasNumbers ? "it has no numbers, and a decision before it has" : null;
    const problem = ofRule(event.rule, status, number, recorded);
    if (problem !== "") return problem;
    const rule = event.rule, known = (name) => orNull(event[name]);
    const found =
      rule.kind === "baseline" ? { score: mean(rule.scores) } : rule.kind === "runs" ? ofRuns(rule) : ofDuel(rule);
    const isOfIncumbent = rule.kind === "baseline" || isNear(known("incumbent_bpb"), found.incumbent);
    if (!isNear(known("val_bpb"), found.score) || !isOfIncumbent)
      return "its scores in the decision are not the means of its numbers";
    const sigma = rule.kind === "baseline" ? known("sigma") : rule.sigma;
    const own = sigma === null ? null : sigma / Math.sqrt(rule.scores.length);
    const pairs = {
      baseline: [[known("standard_error"), own]],
      duel: [[known("difference_error"), found.error]],
      runs: [
        [known("sigma"), rule.sigma], [known("degrees_of_freedom"), rule.degrees_of_freedom],
        [known("standard_error"), own], [known("incumbent_standard_error"), rule.level_error],
      ],
    }[rule.kind];
    const areErrors = pairs.every(([one, other]) => isNear(one, other));
    return areErrors ? "" : "its errors in the decision do not follow from its numbers";
  }

  /** What is wrong with the figures of a result; "" when nothing is. */
  function ofResult(event, recorded) {
    const means = [need(event, "baseline_test_bpb"), need(event, "champion_test_bpb")];
    if (!isNear(need(event, "test_difference"), means[1] - means[0]))
      return "its difference is not that of its two means";
    const numbers = [0, need(event, "champion")], onTest = [], onVal = [];
    if (numbers[1] === null) throw new Misfit("champion");
    const counts = [need(event, "num_baseline_runs"), need(event, "num_champion_runs")];
    for (const [i, number] of numbers.entries()) {
      const tests = recorded.tests(number), count = counts[i], where = `experiment ${numbered(number)}`;
      if (!(count > 0 && count <= tests.length))
        return `it counts ${count} scores of ${where} on the test split, and the record has others`;
      if (!Number.isInteger(count)) throw new Misfit("count");
      const used = testsOfMean(tests, count, means[i]);
      if (used === null) return `its mean of ${where} does not follow from the scores on the test split`;
      onTest.push(used.map(([, bpb]) => bpb));
      onVal.push(used.map(([run]) => need(need(need(recorded.runs, number), run), "val_bpb")));
    }
    if (onVal.flat().includes(null)) throw new Misfit("val_bpb");
    const [judged, judgedError] = judgedOf(event.champion, recorded), levels = onVal.map(mean);
    const must = {
      test_standard_error: errorOfSeeds(onTest), val_difference: levels[1] - levels[0],
      val_standard_error: errorOfSeeds(onVal), judged_difference: judged, num_looks: recorded.looks.size,
    };
    const may = {
      judged_standard_error: judgedError, baseline_val_bpb: levels[0], champion_val_bpb: levels[1],
      num_failed_runs: recorded.numFailed(event.champion),
    };
    for (const name of Object.keys(may)) if (orNull(event[name]) !== null) must[name] = may[name];
    const wrong = Object.keys(must).find((name) => !isNear(need(event, name), must[name]));
    return wrong ? `its ${wrong} does not follow from the record` : "";
  }
  /** The runs, with their scores, that have this mean; null where none have. */
  function testsOfMean(tests, count, found) {
    const last = tests.slice().reverse();
    let left = MOST_CHOICES;
    for (const chosen of combinations(last, count)) {
      if (left-- <= 0) return null;
      if (isNear(found, mean(chosen.map(([, bpb]) => bpb)))) return chosen;
    }
    return null;
  }
  function* combinations(list, count, from = 0) {
    if (count === 0) yield [];
    else
      for (let i = from; i <= list.length - count; i++)
        for (const rest of combinations(list, count - 1, i + 1)) yield [list[i], ...rest];
  }
  /** Standard error of the difference of the means of two groups; null where a group is of one run alone. */
  function errorOfSeeds(groups) {
    if (groups.some((scores) => scores.length < 2)) return null;
    const parts = groups.map((scores) => {
      const level = mean(scores), squares = scores.map((score) => (score - level) * (score - level));
      return squares.reduce((sum, square) => sum + square, 0) / (scores.length - 1) / scores.length;
    });
    return Math.sqrt(parts[0] + parts[1]);
  }
  /** The sum of the differences of the decisions that led to a champion, and its error. */
  function judgedOf(champion, recorded) {
    const errors = [];
    let difference = 0;
    for (let number = champion; number > 0; number = recorded.parents[number]) {
      const decided = need(recorded.decided, number), parent = need(recorded.parents, number);
      const [mine, theirs] = [orNull(decided.val_bpb), orNull(decided.incumbent_bpb)];
      const isKnown = mine !== null && theirs !== null;
      if (isKnown) difference += mine - theirs;
      errors.push(isKnown ? errorOf(decided) : null);
      if (parent === null || !(0 <= parent && parent < number)) throw new Misfit("parent");
    }
    return [difference, errors.includes(null) ? null : Math.hypot(...errors)];
  }

  function checkDecisions(events) {
    const found = { checked: 0, unchecked: 0, problems: [] }, recorded = new Recorded();
    const count = (event, problem) => {
      if (problem === null) found.unchecked++;
      else {
        found.checked++;
        if (problem) found.problems.push(`experiment ${numbered(event.experiment)}: ${problem}`);
      }
    };
    for (const [index, event] of events.entries()) {
      try {
        if (event.event === "decided") count(event, ofDecision(event, recorded));
        else if (event.event === "started" && event.rule !== undefined) {
          const problem = ofRule(event.rule, "confirm", need(event, "experiment"), recorded);
          count(event, problem ? `the confirmation: ${problem}` : problem);
        } else if (event.event === "result") {
          const problem = ofResult(event, recorded);
          if (problem) found.problems.push(`the result: ${problem}`);
        } else if (event.event === "attribution") {
          const problem = ofAttribution(event, recorded);
          if (problem) found.problems.push(`the attribution of ${numbered(event.champion)}: ${problem}`);
        }
        recorded.add(event);
      } catch (error) {
        if (!(error instanceof Misfit || error instanceof TypeError)) throw error;
        found.problems.push(`line ${index + 1} does not fit the lines before it`);
        break;
      }
    }
    return [found, recorded];
  }

  // --- the noise of all runs: core/noise.py, core/drift.py and core/speed_worth.py

  const FEWEST_LIKE_RUNS = 3, SAME_SPEED = 1.15, MACHINE_ERROR = 0.04, CLOCK_ERROR = 0.01, STEADY = 0.1;
  const LEAST_TOLERANCE = 1.02, LEAST_MACHINE_TOLERANCE = 1.1, EVALUATION_SHARE = 0.1;
  const USUAL = { cpu: [0.23, 20], other: [0.047, 300] }, BUDGET_POWER = 0.3, CURVE_SHARE = 0.6;
  const PRIOR_ERROR = 0.5, MOST_TIMES = 3, LARGEST = 1e15, LEAST_SIGMA = 1e-9;
  const RECENT_RUNS = 9, RERUN_WEIGHT = 5, MEASURED_WEIGHT = 3;

  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const average = (values) => sum(values) / values.length;
  function median(values) {
    const sorted = values.slice().sort((a, b) => a - b), middle = sorted.length >> 1;
    return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }
  const positive = (value) => (typeof value === "number" && value > 0 && value < LARGEST ? value : null);
  const machineSpeed = ({ measured }) =>
    positive(measured.budget_speed === undefined ? measured.machine_speed : measured.budget_speed);
  function tokenSpeed({ measured }) {
    const tokens = positive(measured.num_tokens), seconds = positive(measured.counted_seconds);
    return tokens && seconds ? tokens / seconds : positive(measured.tokens_per_second);
  }
  const hasScore = (run) => run.val_bpb !== null;

  /** Experiments in their order, with their runs; late runs of a kept one that await their audit are left out. */
  function experimentsOf(recorded, isAudited) {
    return Object.keys(recorded.runs).map(Number).sort((a, b) => a - b).map((number) => {
      const { status } = recorded.decided[number] || {}, all = recorded.runs[number];
      const runs = Object.keys(all).map(Number).sort((a, b) => a - b).map((index) => all[index]);
      const isWaiting = (run) => number > 0 && status === "keep" && run.decided !== null && hasScore(run) && !run.isAudited;
      return { number, status, runs: isAudited ? runs.filter((run) => !isWaiting(run)) : runs };
    });
  }
  const ofMachine = (runs, machine) => runs.filter((run) => run.machine === machine);
  function areAlike(one, other, factor) {
    const ratios = [[LEAST_MACHINE_TOLERANCE, machineSpeed], [LEAST_TOLERANCE, tokenSpeed]]
      .filter(([, speed]) => speed(one) && speed(other))
      .map(([least, speed]) => [Math.max(factor, least), speed(one) / speed(other)]);
    return !ratios.length || ratios.some(([most, ratio]) => 1 / most <= ratio && ratio <= most);
  }
  const alikeTo = (run, runs, factor) => runs.filter((other) => other === run || areAlike(run, other, factor));
  /** Scored runs in groups that the machine made at one speed, the largest group first. */
  function alikeGroups(runs, factor) {
    const groups = [];
    for (let left = runs.filter(hasScore); left.length; ) {
      const found = left.map((run) => alikeTo(run, left, factor));
      const group = found.reduce((best, one) => (one.length > best.length ? one : best));
      groups.push(group);
      left = left.filter((run) => !group.includes(run));
    }
    return groups;
  }
  /** [speed, score] of the scored runs, by one measure for all. */
  function speedsAndScores(runs, isTrusted) {
    const scored = runs.filter(hasScore), measures = [tokenSpeed, machineSpeed];
    const speed = (isTrusted ? measures : measures.reverse()).find((of) => scored.every(of));
    return speed ? scored.map((run) => [speed(run), run.val_bpb]) : [];
  }
  /** Standard deviation within groups and its degrees of freedom; null where no group has two values. */
  function scatterOf(groups, least = 0) {
    const squares = groups.map((values) => sum(values.map((value) => (value - mean(values)) ** 2)));
    const degrees = sum(groups.map((values) => values.length - 1));
    return degrees ? [Math.max(least, Math.sqrt(sum(squares) / degrees)), degrees] : [null, 0];
  }
  function expectedWorth(baseline, study) {
    const found = baseline.map(({ measured }) => measured).filter((m) => positive(m.curve_slope) && m.num_bytes && m.num_scored);
    if (found.length)
      return median(found.map((m) => ((CURVE_SHARE * m.curve_slope) / Math.LN2) * m.num_scored / m.num_bytes));
    const device = (study.hardware || {}).device || "cpu", [worth, at] = device === "cpu" ? USUAL.cpu : USUAL.other;
    return worth * (at / (study.time_budget_seconds || USUAL.cpu[1])) ** BUDGET_POWER;
  }
  /** What a factor of e in speed is worth, by runs of the same code at several speeds. */
  function worthOf(groups, expected, sigma) {
    let squares = 0, products = 0;
    for (const group of groups) {
      const logs = group.map(([speed]) => Math.log(speed)), scores = group.map(([, score]) => score);
      squares += sum(logs.map((x) => (x - average(logs)) ** 2));
      products -= sum(logs.map((x, i) => (x - average(logs)) * (scores[i] - average(scores))));
    }
    if (!squares) return expected;
    const weight = (Math.max(sigma, LEAST_SIGMA) / (PRIOR_ERROR * expected)) ** 2;
    const found = (weight * expected + products) / (weight + squares);
    return Math.min(MOST_TIMES * expected, Math.max(expected / MOST_TIMES, found));
  }
  /** [sigma, degrees of freedom] of all runs; [null, 0] while nothing ran twice. */
  function noiseOf(recorded) {
    const judged = experimentsOf(recorded, true).filter(({ status }) => status !== "rejected");
    const start = experimentsOf(recorded, true)[0], baseline = ofMachine(start ? start.runs : [], "");
    const scored = baseline.filter(hasScore);
    const isLike = scored.some((run) => alikeTo(run, scored, SAME_SPEED).length >= FEWEST_LIKE_RUNS);
    const isUnsteady = scored.length >= FEWEST_LIKE_RUNS && !isLike, within = isUnsteady ? Infinity : SAME_SPEED;
    const ofKinds = judged.flatMap(({ number, runs }) =>
      [...new Set(runs.map((run) => run.machine))].map((kind) => [number, ofMachine(runs, kind)]));
    const groups = ofKinds.flatMap(([, runs]) => alikeGroups(runs, within)).map((group) => group.map((run) => run.val_bpb));
    const [scatter, degrees] = scatterOf(groups);
    if (scatter === null) return [null, 0];
    const speeds = ofKinds.filter(([, runs]) => runs.length > 1).map(([number, runs]) => speedsAndScores(runs, number === 0));
    const errors = scored.filter((run) => run.error).map((run) => run.error);
    const hasJitter = judged.length && judged[0].number === 0 && !isUnsteady;
    const jitter = hasJitter ? jitterOf(alikeGroups(baseline, within)) : 0;
    const expected = expectedWorth(baseline, recorded.study), evaluation = errors.length ? EVALUATION_SHARE * median(errors) : 0;
    const least = (worth) => Math.hypot(evaluation, worth * Math.max(jitter, leastJitter(baseline)));
    const worth = worthOf(speeds, expected, Math.max(scatter, least(expected)));
    return [Math.max(least(worth), scatter), degrees];
  }
  const jitterOf = (groups) =>
    scatterOf(groups.map((group) => speedsAndScores(group, true).map(([speed]) => Math.log(speed))).filter((logs) => logs.length))[0] || 0;
  function leastJitter(runs) {
    if (runs.some(({ measured }) => positive(measured.budget_speed))) return CLOCK_ERROR;
    return runs.some(machineSpeed) ? MACHINE_ERROR : 0;
  }
  /** Runs of code that had run before, on the kind of machine of its first score. */
  const repeatedRuns = (recorded) => sum(experimentsOf(recorded, false).map(({ runs }) => {
    const scored = runs.filter(hasScore);
    return scored.length ? ofMachine(scored, scored[0].machine).length - 1 : 0;
  }));

  /** The machine's speeds over the study relative to its start; none of a steady machine. */
  function speedsOf(recorded) {
    const own = experimentsOf(recorded, false).map((one) => ({ ...one, runs: ofMachine(one.runs, "") }));
    const started = (own.length ? own[0].runs : []).filter((run) => hasScore(run) && run.place <= 0);
    const first = started.map(machineSpeed).filter(Boolean), measuredAt = {}, speeds = [];
    const runs = own.flatMap(({ number, runs }) => runs.filter((run) => run.val_bpb).map((run) => ({ number, run })));
    let recent = Array(RECENT_RUNS).fill(1);
    for (const { number, run } of runs.sort((a, b) => a.run.place - b.run.place || a.number - b.number)) {
      const isRerun = run.place > number, now = machineSpeed(run), relative = orNull(run.measured.relative_speed);
      let weight = MEASURED_WEIGHT, speed = now && first.length ? now / median(first) : null;
      if (speed === null && relative !== null) {
        weight = isRerun ? RERUN_WEIGHT : 1;
        const before = measuredAt[isRerun ? number : recorded.parents[number]];
        speed = (before === undefined ? 1 : before) * relative;
      }
      if (speed !== null) {
        recent = [...recent, ...Array(weight).fill(speed)].slice(-RECENT_RUNS);
        speeds.push(median(recent));
      }
      measuredAt[number] = speed !== null && isRerun ? speed : median(recent);
    }
    return speeds.some((speed) => Math.abs(speed - 1) > STEADY) ? speeds : [];
  }

  // --- what each kept change is worth, by trainings without it: core/attribution.py

  const CHANCE = 0.025, CHANCE_EARLY = 0.001, LEAST_SEEDS = 2, LEAST_GAIN_SIGMAS = 1.5;
  const MOST_ATTEMPTS = 2, MOST_FAILURES = 2, MEASURED_TOLERANCE = 1e-6;
  const TRIAL_EVENTS = ["started", "interrupted", "trained", "scored"], OBSTACLES = ["conflict", "same", "dry run"];
  const STATUSES = ["keep", "discard", "crash", "timeout", "rejected", "interrupted", "invalid"];
  const CAUSES = [
    "gone", "asked", "slept", "slow", "fast", "overtime", "full disk", "not started", "died", "killed",
  ];
  const PARTS = { // in words, as show/attribution_words.py has them
    carries: "carries gain", luck: "was luck", costs: "costs more than it brings", unclear: "is unclear after all seeds",
    tangled: "cannot be taken out alone", replaced: "was replaced by a later change", open: "is not settled yet",
  };

  /** Champion -> its attribution after all events of the kind so far; throws for an event that no supervisor writes. */
  function attributionsOf(events) {
    const found = new Map();
    for (const event of events) {
      const champion = need(event, "champion"), what = need(event, "what"), one = found.get(champion);
      if (what === "begun") {
        const changes = need(event, "changes"), numSeeds = need(event, "num_seeds");
        if (!Array.isArray(changes)) throw new Misfit("changes");
        found.set(champion, { changes, numSeeds, variants: one ? one.variants : new Map(), settled: [] });
      } else if (!one) throw new Misfit("begun");
      else if (what === "ended") one.settled = (event.effects || []).map(settledEffect);
      else if (what === "variant") {
        const without = need(event, "without"), { why = "" } = event;
        const obstacle = event.obstacle ? oneOf(OBSTACLES, event.obstacle) : null;
        one.variants.set(without, { without, obstacle, why, trials: [] });
      } else if (TRIAL_EVENTS.includes(what)) {
        const variant = one.variants.get(need(event, "without"));
        if (variant) addTrial(variant.trials, event);
      }
    }
    return found;
  }
  function oneOf(known, value) {
    if (!known.includes(value)) throw new Misfit(String(value));
    return value;
  }
  function settledEffect(effect) {
    need(effect, "change");
    oneOf(Object.keys(PARTS), need(effect, "part"));
    return effect;
  }
  const statusOf = (value) => (orNull(value) === null ? null : oneOf(STATUSES, value));
  function addTrial(trials, event) {
    const run = need(event, "run"), begun = { status: "interrupted", val_bpb: null, reason: "", attempts: 1 };
    if (event.what === "started") need(event, "seed");
    if (event.what === "started" && run === trials.length) {
      trials.push(begun);
      return;
    }
    const before = need(trials, run);
    if (event.what === "started") trials[run] = { ...begun, attempts: before.attempts + 1 };
    else if (event.what === "interrupted") {
      const attempts = before.attempts - (oneOf(CAUSES, need(event, "cause")) === "gone" ? 0 : 1);
      trials[run] = { ...before, status: "interrupted", reason: need(event, "reason"), attempts };
    } else if (event.what === "trained")
      trials[run] = { ...before, status: statusOf(need(event, "status")), reason: need(event, "reason") || "" };
    else {
      const val_bpb = orNull(event.val_bpb);
      trials[run] = { ...before, status: statusOf(event.status), val_bpb, reason: event.reason || "" };
    }
  }

  /** What each kept change is worth, oldest first, as the program has it. */
  function effectsOf({ changes, numSeeds, variants }, [sigma, freedom]) {
    const scoresOf = (variant) => variant.trials.map((trial) => trial.val_bpb).filter((score) => score !== null);
    const groups = Array.from(variants.values(), scoresOf).filter((scores) => scores.length > 1);
    const control = variants.has(null) ? scoresOf(variants.get(null)) : [];
    let degrees = sum(groups.map((scores) => scores.length - 1));
    let squares = sum(groups.map((scores) => sum(scores.map((score) => (score - mean(scores)) ** 2))));
    if (sigma !== null) [degrees, squares] = [degrees + freedom, squares + freedom * sigma ** 2];
    const noise = degrees ? { sd: Math.sqrt(squares / degrees), degrees } : null;
    return changes.map((change) => {
      const variant = variants.get(change);
      if (!variant) return withoutGain(change, "open");
      return effectOf(variant, scoresOf(variant), control, noise, numSeeds);
    });
  }
  const withoutGain = (change, part, num_seeds = 0, why = "") => ({
    change, part, without_bpb: null, with_bpb: null, gain: null, error: null, low: null, high: null, num_seeds, why,
  });
  function effectOf({ without, obstacle, why, trials }, scores, control, noise, numSeeds) {
    const isCutOff = ({ status, attempts }) => status === "interrupted" && attempts < MOST_ATTEMPTS;
    const failures = trials.filter((trial) => trial.status !== null && !isCutOff(trial)), failed = last(failures);
    const reason = why || (failed ? `${failed.status}: ${failed.reason}` : "");
    if (obstacle === "same") return withoutGain(without, "replaced", 0, why);
    if (["conflict", "dry run"].includes(obstacle) || failures.length >= MOST_FAILURES)
      return withoutGain(without, "tangled", 0, reason);
    if (!scores.length || !control.length || !noise) return withoutGain(without, "open", scores.length);
    const without_bpb = mean(scores), with_bpb = mean(control), gain = without_bpb - with_bpb;
    const error = noise.sd * Math.sqrt(1 / scores.length + 1 / control.length);
    const isLast = trials.filter((trial) => !isCutOff(trial)).length >= numSeeds;
    const reach = error * quantile(isLast ? CHANCE : CHANCE_EARLY, noise.degrees);
    const isShort = Math.min(scores.length, control.length) < LEAST_SEEDS && !isLast;
    const part = isShort ? "open" : partOf(gain, reach, LEAST_GAIN_SIGMAS * noise.sd, isLast);
    const half = error * quantile(CHANCE, noise.degrees), [low, high] = [gain - half, gain + half];
    return { ...withoutGain(without, part, scores.length), without_bpb, with_bpb, gain, error, low, high };
  }
  function partOf(gain, reach, leastGain, isLast) {
    if (gain - reach > 0) return "carries";
    if (gain + reach < 0) return "costs";
    if (gain + reach < leastGain) return "luck";
    return isLast ? "unclear" : "open";
  }
  /** What is wrong with the effects that an attribution ended with; "" also for records without them. */
  function ofAttribution(event, recorded) {
    if (need(event, "what") !== "ended" || !(event.effects || []).length) return "";
    const champion = need(event, "champion");
    try {
      const one = attributionsOf(recorded.attributions).get(champion);
      if (!one) return "it ends without a beginning";
      const isSame = areLike(event.effects, effectsOf(one, noiseOf(recorded)));
      return isSame ? "" : "its effects do not follow from its trainings";
    } catch (error) {
      if (error instanceof Misfit || error instanceof TypeError) return ""; // the check of the figures names it
      throw error;
    }
  }
  /** Whether two values of JSON are the same, numbers but for rounding. */
  function areLike(one, other) {
    if ([one, other].every(isNumber))
      return Math.abs(one - other) <= MEASURED_TOLERANCE * Math.max(1, Math.abs(one), Math.abs(other));
    if ([one, other].some((value) => typeof value !== "object" || value === null)) return one === other;
    const names = Object.keys(one), isAsLong = names.length === Object.keys(other).length;
    return isAsLong && names.every((name) => Object.hasOwn(other, name) && areLike(one[name], other[name]));
  }
  /** The effects of the present champion by their changes, those that were recorded where it has ended. */
  function presentEffects(recorded) {
    return (recorded.presentEffects ??= effectsOfChampion(recorded));
  }
  function effectsOfChampion(recorded) {
    const one = attributionsOf(recorded.attributions).get(recorded.incumbent);
    if (!one || !one.variants.size || !one.changes.length) return { numSeeds: null, effects: {} };
    const found = one.settled.length ? one.settled : effectsOf(one, noiseOf(recorded));
    return { numSeeds: one.numSeeds, effects: Object.fromEntries(found.map((effect) => [effect.change, effect])) };
  }

  // --- a difference in sigma: core/comparison.py and `as_known` in core/student.py

  const LINEAR_BELOW = 0.5, LEAST_TAIL = 1e-300, MOST_NORMAL = 40, NUM_FRACTIONS = 2000;

  /** Probability above z > 0 of the normal distribution, by the continued fraction of Laplace. */
  function normalTail(z) {
    let fraction = z;
    for (let k = NUM_FRACTIONS; k > 0; k--) fraction = z + k / fraction;
    return Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI) / fraction;
  }
  function asKnown(t, degrees) {
    if (!degrees) return t;
    const reached = Math.max(Math.abs(t), LINEAR_BELOW), chance = Math.max(LEAST_TAIL, tail(reached, degrees));
    let low = 0, high = MOST_NORMAL;
    for (let i = 0; i < 60; i++) {
      const middle = (low + high) / 2;
      if (normalTail(middle) > chance) low = middle;
      else high = middle;
    }
    return (t * high) / reached;
  }
  function sigmasOf(decided) {
    const difference = decided.val_bpb - decided.incumbent_bpb, ofDuel = orNull(decided.difference_error);
    const sigma = ofDuel === null ? decided.sigma : ofDuel;
    if (!sigma || !isNumber(decided.val_bpb) || !isNumber(decided.incumbent_bpb)) return null;
    if (ofDuel !== null) return difference / sigma;
    return asKnown(difference / Math.max(sigma, decided.incumbent_standard_error || 0), decided.degrees_of_freedom);
  }

  // --- code and diffs

  const linesOf = (text) => text.match(/[^\n]*\n|[^\n]+$/g) || [];

  /** What a diff makes of the text that it was made from; null where it does not fit that text. */
  function applied(old, change) {
    const hunks = [], before = linesOf(old), made = [];
    for (const line of linesOf(change)) {
      const header = /^@@ -(\d+)(?:,(\d+))? \+\d+(?:,\d+)? @@/.exec(line);
      if (header) hunks.push([header, []]);
      else if (hunks.length && line.startsWith("\\")) {
        const body = last(hunks)[1];
        if (!body.length) return null;
        body.push(body.pop().replace(/\n$/, ""));
      } else if (hunks.length) last(hunks)[1].push(line);
    }
    let place = 0;
    for (const [header, body] of hunks) {
      const count = header[2] === undefined ? 1 : Number(header[2]), start = Number(header[1]) - (count > 0 ? 1 : 0);
      if (body.some((line) => line === "")) return null;
      const removed = body.filter((line) => " -".includes(line[0])).map((line) => line.slice(1));
      const there = before.slice(start, start + count);
      if (start < place || removed.length !== count || removed.join("\0") !== there.join("\0")) return null;
      made.push(...before.slice(place, start));
      made.push(...body.filter((line) => " +".includes(line[0])).map((line) => line.slice(1)));
      place = start + count;
    }
    return [...made, ...before.slice(place)].join("");
  }

  const trainOf = (number) => `experiments/${numbered(number)}/train.py`;
  const isSame = (one, other) => one.length === other.length && one.every((byte, i) => byte === other[i]);

  async function ofExperiment(text, files, recorded, number) {
    const name = trainOf(number), parent = recorded.parents[number];
    const source = text(name), before = parent === null ? null : text(trainOf(parent));
    if (source === null || (parent !== null && before === null)) return null;
    if (recorded.sources[number] !== "" && recorded.sources[number] !== (await sha256(files.get(name))))
      return [[name, "it is not the code that the history names"]];
    if (parent !== recorded.incumbents[number])
      return [[HISTORY, `experiment ${numbered(number)}: its parent was not the incumbent`]];
    if (parent === null) return [];
    const path = `experiments/${numbered(number)}/change.diff`, change = text(path);
    if (change === null) return null;
    const words = `it does not lead from the code of ${numbered(parent)} to that of ${numbered(number)}`;
    return applied(before, change) === source ? [] : [[path, words]];
  }

  async function checkLineage(text, files, recorded) {
    const row = { name: "lineage", checked: 0, unchecked: 0, why: "their files are not there, or not whole", findings: [] };
    for (const number of Object.keys(recorded.parents).map(Number).sort((a, b) => a - b)) {
      const found = await ofExperiment(text, files, recorded, number);
      if (found === null) row.unchecked++;
      else {
        row.checked++;
        row.findings.push(...found);
      }
    }
    for (const [name, number] of [["baseline/train.py", 0], ["champion/train.py", recorded.incumbent]]) {
      const of = number === null ? undefined : files.get(trainOf(number)), copy = files.get(name);
      if (of && copy && !isSame(of, copy)) row.findings.push([name, `it is not the code of experiment ${numbered(number)}`]);
    }
    return row;
  }

  // --- figures

  const FIGURES = {
    "experiments": (r) => Object.keys(r.decided).filter((number) => Number(number) > 0).length,
    "kept": (r) => r.kept.filter((number) => number > 0).length,
    "discarded": (r) => countOf(r, ["discard"]),
    "failed": (r) => countOf(r, FAILED),
    "refused": (r) => countOf(r, ["rejected"]),
    "champion": (r) => r.incumbent,
    "baseline-bpb": (r) => of(r.decided[0], "val_bpb"),
    "baseline-error": (r) => of(r.decided[0], "standard_error"),
    "champion-bpb": (r) => of(r.decided[r.incumbent || 0], "val_bpb"),
    "result-difference": (r) => of(r.result, "test_difference"),
    "result-error": (r) => of(r.result, "test_standard_error"),
    "result-low": (r) => intervalOf(r)[0],
    "result-high": (r) => intervalOf(r)[1],
    "result-val-difference": (r) => of(r.result, "val_difference"),
    "result-val-error": (r) => of(r.result, "val_standard_error"),
    "result-judged-difference": (r) => of(r.result, "judged_difference"),
    "result-judged-error": (r) => of(r.result, "judged_standard_error"),
    "result-baseline-bpb": (r) => of(r.result, "baseline_test_bpb"),
    "result-champion-bpb": (r) => of(r.result, "champion_test_bpb"),
  };
  const SINCE_0_13 = { // null where the page does not show it
    "sigma": (r) => noiseOf(r)[0],
    "sigma-degrees": (r) => noiseOf(r)[1] || null,
    "repeated-runs": (r) => (noiseOf(r)[0] === null ? null : repeatedRuns(r)),
    "champion-difference": (r) => betweenDecisions(r).difference,
    "champion-error": (r) => betweenDecisions(r).error,
    "end-champion-bpb": (r) => atEnd(r).champion_bpb,
    "end-baseline-bpb": (r) => atEnd(r).baseline_bpb,
    "end-difference": (r) => atEnd(r).difference,
    "end-error": (r) => atEnd(r).difference_standard_error,
    "baseline-runs": baselineRuns,
    "budget": (r) => r.study.time_budget_seconds,
    "result-champion-runs": (r) => of(r.result, "num_champion_runs"),
    "result-baseline-runs": (r) => of(r.result, "num_baseline_runs"),
    "result-looks": (r) => ((of(r.result, "num_looks") || 0) > 1 ? r.result.num_looks : null),
    "result-failed": (r) => of(r.result, "num_failed_runs") || null,
    "given-back": (r) => r.numGivenBack || null,
    "tokens": (r) => (r.calls.length ? sum(r.calls.map((call) => call.tokens_in + call.tokens_out)) : null),
    "cost": costOf,
    "attribution-seeds": (r) => presentEffects(r).numSeeds,
    "speed-low": (r) => (speedsOf(r).length ? Math.min(...speedsOf(r)) : null),
    "speed-high": (r) => (speedsOf(r).length ? Math.max(...speedsOf(r)) : null),
  };
  Object.assign(FIGURES, SINCE_0_13);
  const OF_EXPERIMENT = {
    "bpb": (decided) => of(decided, "val_bpb"),
    "error": (decided) => of(decided, "standard_error"),
    "incumbent-bpb": (decided) => of(decided, "incumbent_bpb"),
    "difference": (decided) => (isNumber(decided.val_bpb) && isNumber(decided.incumbent_bpb) ? decided.val_bpb - decided.incumbent_bpb : null),
    "difference-error": (decided) => errorOf(decided),
    "sigmas": sigmasOf,
    "status": (decided) => decided.status,
  };
  const OF_RUNS = {
    "runs": (r, number) => runsOf(r, number).length,
    "judged-runs": judgedRuns,
    "runs-so-far": (r, number) => scoresSoFar(r, number).length,
    "bpb-so-far": (r, number) => meanOf(scoresSoFar(r, number)),
    "error-so-far": errorSoFar,
    "claimed": (r, number) => meanOf(claimsOf(r, number)),
  };
  const OF_CHANGE = { // of what a kept change is worth, by an attribution
    "part": (effect) => orNull(PARTS[effect.part]),
    "without-bpb": (effect) => effect.without_bpb,
    "with-bpb": (effect) => effect.with_bpb,
    "gain": (effect) => effect.gain,
    "gain-error": (effect) => effect.error,
    "gain-low": (effect) => effect.low,
    "gain-high": (effect) => effect.high,
    "gain-seeds": (effect) => (orNull(effect.gain) === null ? null : effect.num_seeds),
  };
  const FAILED = ["crash", "timeout", "invalid", "interrupted"];
  const isNumber = (value) => typeof value === "number";
  const of = (event, name) => (event ? orNull(event[name]) : null);

  function countOf(recorded, statuses) {
    const decided = Object.entries(recorded.decided).filter(([number]) => Number(number) > 0);
    return decided.filter(([, event]) => statuses.includes(event.status)).length;
  }
  /** Of the difference: that of a duel, else of two independent means. */
  function errorOf(decided) {
    if (isNumber(decided.difference_error)) return decided.difference_error;
    const errors = [decided.standard_error, decided.incumbent_standard_error];
    return errors.every(isNumber) ? Math.hypot(...errors) : null;
  }
  /** Difference of the champion from the baseline, each as it was decided, and its error; empty without both. */
  function betweenDecisions(recorded) {
    const [mine, theirs] = [recorded.decided[recorded.incumbent || 0], recorded.decided[0]];
    if (!recorded.incumbent || of(mine, "val_bpb") === null || of(theirs, "val_bpb") === null) return {};
    const errors = [mine.standard_error, theirs.standard_error];
    return { difference: mine.val_bpb - theirs.val_bpb, error: errors.every(isNumber) ? Math.hypot(...errors) : null };
  }
  /** What the last session measured of the champion and of the baseline; empty where it did not. */
  function atEnd(recorded) {
    const found = recorded.finished || {}, hasChampion = betweenDecisions(recorded).difference !== undefined;
    if (!hasChampion || found.champion !== recorded.incumbent || !found.baseline_bpb) return {};
    return { ...found, difference: found.champion_bpb - found.baseline_bpb };
  }
  /** How many runs the baseline's score is the mean of; null where it has no score. */
  function baselineRuns(recorded) {
    if (of(recorded.decided[0], "val_bpb") === null) return null;
    return judgedRuns(recorded, 0);
  }
  /** Of an experiment, in their order. */
  function runsOf(recorded, number) {
    const runs = need(recorded.runs, number);
    return Object.keys(runs).map(Number).filter(Number.isInteger).sort((a, b) => a - b).map((index) => runs[index]);
  }
  /** How many scored runs of an experiment began before its decision. */
  function judgedRuns(recorded, number) {
    return runsOf(recorded, number).filter((run) => hasScore(run) && run.decided === null).length;
  }
  /** Of all runs of an experiment so far, on the kind of machine of its first score. */
  function scoresSoFar(recorded, number) {
    const scored = runsOf(recorded, number).filter(hasScore);
    return scored.filter((run) => run.machine === scored[0].machine).map((run) => run.val_bpb);
  }
  /** What the scorer said of each run, before the audit. */
  function claimsOf(recorded, number) {
    const claims = runsOf(recorded, number).map((run) => (run.claimed === null ? run.val_bpb : run.claimed));
    return claims.filter((claim) => claim !== null);
  }
  const meanOf = (values) => (values.length ? average(values) : null);
  /** Of the mean of all runs so far, with the sigma of the decision. */
  function errorSoFar(recorded, number) {
    const sigma = of(need(recorded.decided, number), "sigma"), scores = scoresSoFar(recorded, number);
    return sigma !== null && scores.length ? sigma / Math.sqrt(scores.length) : null;
  }
  /** US dollars of the calls whose price is known; null without one. */
  function costOf({ calls }) {
    const known = calls.map((call) => orNull(call.cost)).filter((cost) => cost !== null);
    return known.length ? sum(known) : null;
  }
  /** A mean with the error that its scores give it, where they are those that it is the mean of. */
  function estimateOf(scores, count, mean) {
    const used = scores.slice(-count), own = used.reduce((sum, score) => sum + score, 0) / used.length;
    if (used.length !== count || !(Math.abs(own - mean) <= 1e-9 * Math.max(1, Math.abs(mean)))) return { mean };
    if (count < 2) return { mean: own };
    const variance = used.reduce((sum, score) => sum + (score - own) ** 2, 0) / (count - 1) / count;
    return { mean: own, variance, freedom: count - 1 };
  }
  /** The ends of the result's interval, 95 % by Student's t with the degrees of freedom of Welch: core/contrast.py. */
  function intervalOf(recorded) {
    const result = recorded.result;
    if (!result) return [null, null];
    const one = estimateOf(recorded.testScores(0), result.num_baseline_runs, result.baseline_test_bpb);
    const other = estimateOf(recorded.testScores(result.champion), result.num_champion_runs, result.champion_test_bpb);
    let value = other.mean - one.mean, error, freedom = 1;
    if (one.variance === undefined || other.variance === undefined)
      [value, error] = [result.test_difference, result.test_standard_error];
    else {
      const uncertain = one.variance ** 2 / one.freedom + other.variance ** 2 / other.freedom;
      error = Math.sqrt(one.variance + other.variance);
      if (uncertain) freedom = (one.variance + other.variance) ** 2 / uncertain;
    }
    const isKnown = isNumber(error) && result.num_baseline_runs > 0 && result.num_champion_runs > 0;
    if (!isKnown) return [null, null];
    const half = error ? quantile(0.025, Math.max(1, Math.floor(freedom + ROUNDING))) * error : 0;
    return [value - half, value + half];
  }
  /** The names of the figures that a page of this history, of this version, must have and has not. */
  function missing(page, recorded, version) {
    const names = ["experiments", "kept"];
    const isThere = (value) => orNull(value) !== null, isNew = order(version, 12) >= 0, isLatest = order(version, 13) >= 0;
    if (recorded.result) names.push("result-difference", "result-error", "result-baseline-bpb", "result-champion-bpb");
    if (isNew) {
      names.push(...["discarded", "failed", "refused"].filter((name) => FIGURES[name](recorded)));
      const known = ["result-low", "result-high", "result-val-difference", "result-val-error"];
      known.push("result-judged-difference", "result-judged-error");
      if (isThere(FIGURES["baseline-bpb"](recorded))) {
        known.push("baseline-bpb", "baseline-error");
        if (recorded.incumbent) known.push("champion-bpb");
      }
      if (isLatest) known.push(...Object.keys(SINCE_0_13), ...figuresOfChanges(recorded));
      names.push(...known.filter((name) => valueOf(name, recorded) !== null));
    }
    if (isLatest) names.push(...experimentsOf(recorded, false).map(({ number }) => `runs-${number}`));
    for (const number of Object.keys(recorded.decided).map(Number).sort((a, b) => a - b))
      names.push(...neededOf(number, recorded, version));
    return absentFrom(page, names);
  }
  function figuresOfChanges(recorded) {
    try {
      const changes = Object.keys(presentEffects(recorded).effects);
      return changes.flatMap((change) => Object.keys(OF_CHANGE).map((kind) => `${kind}-${change}`));
    } catch (error) {
      if (error instanceof Misfit || error instanceof TypeError) return []; // the command names what cannot be read
      throw error;
    }
  }
  /** The same of the page of an experiment, which has marks since 0.13. */
  function missingOf(page, number, recorded, version) {
    const isMarked = order(version, 13) >= 0 && recorded.decided[number];
    if (!isMarked) return [];
    return absentFrom(page, [...neededOf(number, recorded, version), ...neededAtTop(number, recorded)]);
  }
  /** What the page of an experiment marks beside them. */
  function neededAtTop(number, recorded) {
    const decided = recorded.decided[number], judged = judgedRuns(recorded, number), names = [];
    if (of(decided, "val_bpb") === null)
      return decided.status === "rejected" && claimsOf(recorded, number).length ? [`claimed-${number}`] : [];
    if (of(decided, "incumbent_bpb") === null && decided.standard_error) names.push(`error-${number}`);
    if (judged > 1) names.push(`judged-runs-${number}`);
    if (judged > 0 && judged < scoresSoFar(recorded, number).length) {
      names.push(`runs-so-far-${number}`, `bpb-so-far-${number}`);
      if (errorSoFar(recorded, number)) names.push(`error-so-far-${number}`);
    }
    return names;
  }
  function absentFrom(page, names) {
    const has = new Set(page.figures.map(({ name }) => name));
    return Array.from(new Set(names)).filter((name) => !has.has(name));
  }
  /** The figures of a decided experiment. */
  function neededOf(number, recorded, version) {
    const decided = recorded.decided[number], hasValue = (name) => of(decided, name) !== null, names = [];
    const hasScore = hasValue("val_bpb"), isCompared = hasScore && hasValue("incumbent_bpb");
    const isNew = order(version, 12) >= 0, isLatest = order(version, 13) >= 0;
    if (hasScore) names.push(`bpb-${number}`);
    if (isCompared) names.push(`incumbent-bpb-${number}`, `difference-${number}`);
    if (isNew && isCompared && errorOf(decided) !== null) names.push(`difference-error-${number}`);
    if (isLatest && isCompared && sigmasOf(decided) !== null) names.push(`sigmas-${number}`);
    const isEndedEarly = decided.status === "discard" && !hasScore;
    const isBaseline = recorded.parents[number] === null && decided.status === "keep";
    if (isNew && !isEndedEarly && !isBaseline) names.push(`status-${number}`);
    return names;
  }
  /** Of a version against 0.minor.0: below, 0 or above; one that cannot be read counts as new, none as old. */
  function order(version, minor) {
    const found = /^(\d+)\.(\d+)\.(\d+)/.exec(typeof version === "string" ? version : "");
    if (!found) return version === null ? -1 : 1;
    const numbers = found.slice(1).map(Number);
    return numbers[0] || numbers[1] - minor || numbers[2];
  }

  /** The value of a figure; null where the history has none. */
  function valueOf(name, recorded) {
    try {
      const value = orNull(computed(name, recorded));
      return Number.isNaN(value) ? null : value;
    } catch (error) {
      if (error instanceof Misfit || error instanceof TypeError) return null;
      throw error;
    }
  }
  function computed(name, recorded) {
    if (Object.hasOwn(FIGURES, name)) return FIGURES[name](recorded);
    const [, kind, number] = /^(.+)-(\d+)$/.exec(name) || [];
    if (Object.hasOwn(OF_CHANGE, kind || "")) {
      const effect = presentEffects(recorded).effects[Number(number)];
      return effect ? OF_CHANGE[kind](effect) : null;
    }
    if (Object.hasOwn(OF_RUNS, kind || "")) return OF_RUNS[kind](recorded, Number(number));
    const decided = number === undefined ? undefined : recorded.decided[Number(number)];
    return Object.hasOwn(OF_EXPERIMENT, kind || "") && decided ? OF_EXPERIMENT[kind](decided) : null;
  }
  function fits(text, value) {
    if (typeof value === "string") return text.trim() === value;
    const plain = text.trim().replaceAll("\u2212", "-").replaceAll("\u2009", "");
    const found = /^([+-]?\d+(?:\.(\d+))?)( k| M)?$/.exec(plain);
    if (value === null || !found) return false;
    const unit = { " k": 1e3, " M": 1e6 }[found[3]] || 1, last = 10 ** -(found[2] || "").length * unit;
    return Math.abs(Number(found[1]) * unit - value) <= 0.5 * last + ROUNDING;
  }

  function checkFigures(page, text, recorded, version) {
    const table = text(TABLE);
    const row = { name: "figures", checked: 0, unchecked: 0, why: "a file with figures is not whole", findings: [] };
    const look = (path, { figures }, lacks) => {
      row.checked += figures.length + lacks.length;
      for (const { name, text: said } of figures)
        if (!fits(said, valueOf(name, recorded)))
          row.findings.push([path, `its figure "${name}" says "${said.trim()}", and the history does not`]);
      for (const name of lacks) row.findings.push([path, `its figure "${name}" is not there, and the history has it`]);
    };
    if (page) look(PAGE, page, missing(page, recorded, version));
    for (const { number } of experimentsOf(recorded, false)) {
      const path = `experiments/${numbered(number)}/${PAGE}`, html = text(path);
      if (html === null) continue;
      const own = pageOf(new DOMParser().parseFromString(html, "text/html"));
      look(path, own, missingOf(own, number, recorded, version));
    }
    for (const problem of table === null ? [] : problemsOfTable(table, recorded)) {
      row.checked++;
      if (problem) row.findings.push([TABLE, problem]);
    }
    row.unchecked = page && table !== null ? 0 : 1;
    return row;
  }
  function problemsOfTable(table, recorded) {
    const lines = table.split("\n").slice(1).filter(Boolean).map((line) => line.split("\t"));
    const numbers = Object.keys(recorded.decided).map(Number).sort((a, b) => a - b);
    if (lines.length !== numbers.length)
      return [`it has ${lines.length} experiments, and the history has ${numbers.length}`];
    return numbers.map((number, index) => {
      const decided = recorded.decided[number], score = of(decided, "val_bpb"), cells = lines[index];
      const isScore = cells.length > 3 && (score === null ? cells[1] === "" : fits(cells[1], score));
      return isScore && cells[3] === decided.status ? "" : `line ${index + 2} does not follow from the history`;
    });
  }

  // --- the page

  function pageOf(document) {
    const script = document.querySelector("script#bundle");
    const figures = Array.from(document.querySelectorAll("[data-figure]"), (element) => ({
      name: element.getAttribute("data-figure"),
      text: element.textContent,
    }));
    return { figures, data: script ? script.textContent : "" };
  }
  function isEqual(one, other) {
    if (one === null || other === null || typeof one !== "object" || typeof other !== "object") return one === other;
    if (Array.isArray(one) !== Array.isArray(other)) return false;
    const names = Object.keys(one);
    const areNamed = names.length === Object.keys(other).length && names.every((name) => Object.hasOwn(other, name));
    return areNamed && names.every((name) => isEqual(one[name], other[name]));
  }
  function embedded(manifest) {
    const { seal, ...rest } = manifest;
    const { [PAGE]: page, ...files } = manifest.files;
    return { ...rest, files };
  }
  function checkPage(page, text, manifest) {
    const row = { name: "page", checked: 0, unchecked: 0, why: "", findings: [] };
    if (!page) return { ...row, unchecked: 1, why: "index.html is not whole" };
    const part = (what, isSo) => {
      row.checked++;
      if (!isSo) row.findings.push([PAGE, `it holds another ${what}`]);
    };
    try {
      const data = JSON.parse(page.data);
      if (manifest) part(MANIFEST, isEqual(need(data, "manifest"), embedded(manifest)));
      part(HISTORY, [...need(data, "history"), ""].join("\n") === text(HISTORY));
      for (const [kind, file] of [["sources", "train.py"], ["diffs", "change.diff"]])
        for (const number of Object.keys(data[kind] || {}).sort()) {
          const name = `experiments/${number}/${file}`;
          if (text(name) !== null) part(name, data[kind][number] === text(name));
        }
    } catch (error) {
      if (!(error instanceof Misfit || error instanceof TypeError || error instanceof SyntaxError)) throw error;
      return { ...row, checked: 1, findings: [[PAGE, "it holds no data of the study that can be read"]] };
    }
    return row;
  }

  // --- all rows

  async function manifestOf(bundle) {
    const bytes = bundle.files.get(MANIFEST), text = bytes ? textOf(bytes) : "";
    const seal = /("seal": ")([0-9a-f]{64})("\n\}\n)$/.exec(text);
    const open = seal ? text.slice(0, seal.index) + seal[1] + seal[3] : "";
    if (!seal || (await sha256(bytesOf(open))) !== seal[2]) return null;
    try {
      const manifest = JSON.parse(text);
      const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
      return manifest.format === FORMAT && isObject(manifest.files) && isObject(manifest.history) ? manifest : null;
    } catch {
      return null;
    }
  }
  async function checkFiles(bundle) {
    const row = { name: "files", checked: 0, unchecked: 0, why: "", findings: [] }, manifest = await manifestOf(bundle);
    if (!manifest) {
      row.findings.push([MANIFEST, bundle.broken.get(MANIFEST) || CHANGED]);
      return [{ ...row, unchecked: bundle.files.size, why: "the manifest is not whole" }, null];
    }
    const names = new Set([...Object.keys(manifest.files), ...bundle.files.keys(), ...bundle.broken.keys()]);
    names.delete(MANIFEST);
    for (const name of [...names].sort()) {
      const known = Object.hasOwn(manifest.files, name) ? manifest.files[name] : null, bytes = bundle.files.get(name);
      let problem = bundle.broken.get(name) || "";
      if (!problem && !known) problem = "it is not in the manifest";
      else if (!problem && !bytes) problem = "it is missing";
      else if (!problem && (known.bytes !== bytes.length || known.sha256 !== (await sha256(bytes)))) problem = CHANGED;
      if (problem) row.findings.push([name, problem]);
    }
    row.checked = 1 + Object.keys(manifest.files).length;
    return [row, manifest];
  }
  async function checkHistory(text, settings, known) {
    const row = { name: "history", checked: 0, unchecked: 0, why: "", findings: [] };
    if (text === null) return [{ ...row, unchecked: 1, why: "history.jsonl is not whole" }, null];
    const lines = text.split("\n"), problems = lines.pop() === "" ? [] : ["its last line has no end"];
    problems.push(...(await brokenLines(lines)));
    const events = lines.map(eventOf);
    events.forEach((event, i) => {
      if (!event || event.seq !== i + 1) problems.push(`line ${i + 1}: it is not record ${i + 1}`);
    });
    if (known && !isEqual(known, { events: lines.length, head: chainHead(lines) }))
      problems.push("its length and its last chain are not those of the manifest");
    row.checked = lines.length;
    row.findings = problems.map((problem) => [HISTORY, problem]);
    if (!problems.length && settings !== null)
      row.findings = problemsOfSettings(settings, events).map((problem) => [SETTINGS, problem]);
    return [row, problems.length ? null : events];
  }

  /** What is wrong with the text of study.json; each field that differs is named by its path: share/settings.py. */
  function problemsOfSettings(text, events) {
    const began = events.filter((event) => event.event === "study_started").map((event) => orNull(event.study));
    if (!began.length) return ["the history does not say what the study began with"];
    let facts;
    try {
      facts = JSON.parse(text);
    } catch {
      return ["it cannot be read"];
    }
    const names = new Set(began.flatMap((recorded) => differing(recorded, facts, "")));
    const end = "is not what the history says the study began with";
    return Array.from(names, (name) => (name ? `its field "${name}" ${end}` : `it ${end}`));
  }
  function differing(one, other, path) {
    const areObjects = [one, other].every((value) => typeof value === "object" && value !== null);
    if (!areObjects || Array.isArray(one) !== Array.isArray(other)) return one === other ? [] : [path];
    const names = new Set([...Object.keys(one), ...Object.keys(other)]);
    const part = (value, name) => (Object.hasOwn(value, name) ? value[name] : undefined);
    return Array.from(names).flatMap((name) =>
      differing(part(one, name), part(other, name), path ? `${path}.${name}` : name));
  }
  function eventOf(line) {
    try {
      const event = JSON.parse(line);
      return event && typeof event.event === "string" && Number.isInteger(event.seq) ? event : null;
    } catch {
      return null;
    }
  }

  /** Figures by their names, with their values: for tests. */
  function figuresOf(events, names) {
    const recorded = new Recorded();
    for (const event of events) recorded.add(event);
    return Object.fromEntries(names.map((name) => [name, valueOf(name, recorded)]));
  }

  /** The rows of the check of a bundle, as share/check.py has them. */
  async function checkBundle(bundle) {
    const [files, manifest] = await checkFiles(bundle), bad = new Set(files.findings.map(([name]) => name));
    const whole = new Map([...bundle.files].filter(([name]) => !bad.has(name)));
    const html = whole.has(PAGE) ? new DOMParser().parseFromString(textOf(whole.get(PAGE)), "text/html") : null;
    const rows = await checkRest(whole, html && pageOf(html), manifest);
    const text = (name) => (whole.has(name) ? textOf(whole.get(name)) : null);
    const page = rows.isHistoryWhole ? checkPage(html && pageOf(html), text, manifest) : skipped("page");
    return [files, ...rows.rows, page];
  }
  const skipped = (name) => ({ name, checked: 0, unchecked: 1, why: "the history is not whole", findings: [] });

  async function checkRest(files, page, manifest) {
    const text = (name) => (files.has(name) ? textOf(files.get(name)) : null);
    const [history, events] = await checkHistory(text(HISTORY), text(SETTINGS), manifest && manifest.history);
    if (!events)
      return { isHistoryWhole: false, rows: [history, ...["lineage", "decisions", "figures"].map(skipped)] };
    const [found, recorded] = checkDecisions(events);
    const decisions = {
      name: "decisions", checked: found.checked, unchecked: found.unchecked,
      why: found.unchecked ? OLD : "there is none", findings: found.problems.map((problem) => [HISTORY, problem]),
    };
    const lineage = await checkLineage(text, files, recorded);
    const figures = checkFigures(page, text, recorded, manifest && orNull(manifest.version));
    return { isHistoryWhole: true, rows: [history, lineage, decisions, figures] };
  }

  /** The rows that the page can check of what it holds itself, without a file. */
  async function checkOwnPage(document) {
    const page = pageOf(document), data = JSON.parse(page.data), files = new Map();
    files.set(HISTORY, bytesOf([...data.history, ""].join("\n")));
    for (const [number, text] of Object.entries(data.sources || {}))
      files.set(`experiments/${number}/train.py`, bytesOf(text));
    for (const [number, text] of Object.entries(data.diffs || {}))
      files.set(`experiments/${number}/change.diff`, bytesOf(text));
    const rows = (await checkRest(files, page, data.manifest)).rows;
    const figures = rows.find((row) => row.name === "figures");
    if (figures.checked) figures.unchecked = 0; // results.tsv is a file
    const why = "choose the zip or its folder";
    return [{ name: "files", checked: 0, unchecked: 1, why, findings: [] }, ...rows];
  }

  const readZip = async (bytes) => bundleOf(await entriesOfZip(bytes));
  async function readFolder(list) {
    const entries = [];
    for (const file of list)
      entries.push([file.webkitRelativePath || file.name, new Uint8Array(await file.arrayBuffer())]);
    return bundleOf(entries);
  }

  // --- what a person sees

  const thousands = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, "\u2009");
  const counted = (number, noun) => `${thousands(number)} ${noun}${number === 1 ? "" : "s"}`;
  function wordsOf(row) {
    const [noun, isSo] = WORDS[row.name];
    if (!row.findings.length && !row.checked) return `not checked: ${row.why}`;
    const rest = row.unchecked ? `; ${row.unchecked} not checked: ${row.why}` : "";
    return `${counted(row.checked, noun)} ${isSo}${rest}`;
  }
  function element(tag, text, className) {
    const made = document.createElement(tag);
    if (text) made.textContent = text;
    if (className) made.className = className;
    return made;
  }
  function shown(rows) {
    const problems = rows.reduce((sum, row) => sum + row.findings.length, 0), part = document.createDocumentFragment();
    const open = rows.filter((row) => !row.checked && !row.findings.length).length;
    const good = open ? "Nothing that was checked is wrong." : "Everything that can be checked is as it should be.";
    const verdict = problems ? `${counted(problems, "problem")} found.` : good;
    part.append(element("p", verdict, problems ? "verify-verdict verify-bad" : "verify-verdict verify-ok"));
    const list = element("ul", "", "verify-rows");
    for (const row of rows) {
      const isBad = row.findings.length > 0, isOpen = !isBad && !row.checked;
      const item = element("li", "", isBad ? "verify-bad" : isOpen ? "verify-open" : "verify-ok");
      item.append(element("b", `${isBad ? "✗" : isOpen ? "–" : "✓"} ${row.name}`), " ");
      if (!isBad) item.append(wordsOf(row));
      else {
        const inner = element("ul");
        for (const [file, problem] of row.findings.slice(0, 20)) {
          const line = element("li");
          line.append(element("code", file), `: ${problem}`);
          inner.append(line);
        }
        if (row.findings.length > 20) inner.append(element("li", `and ${row.findings.length - 20} more`));
        item.append(counted(row.findings.length, "problem"), inner);
      }
      list.append(item);
    }
    part.append(list, element("p", "What no check of a bundle can know:"));
    const unknown = element("ul", "", "verify-unknown");
    for (const words of UNKNOWN) unknown.append(element("li", words));
    part.append(unknown);
    return part;
  }

  function build(section) {
    const result = element("div", "", "verify-result");
    result.setAttribute("role", "status");
    result.setAttribute("aria-live", "polite");
    const run = async (check) => {
      result.replaceChildren(element("p", "Checking …"));
      section.setAttribute("aria-busy", "true");
      try {
        result.replaceChildren(shown(await check()));
      } catch (error) {
        result.replaceChildren(element("p", String(error.message || error), "verify-bad"));
      }
      section.removeAttribute("aria-busy");
    };
    const button = element("button", "Verify what this page holds");
    button.type = "button";
    button.addEventListener("click", () => run(() => checkOwnPage(document)));
    const picker = (words, isFolder, read) => {
      const label = element("label", words + " "), input = element("input");
      input.type = "file";
      if (isFolder) input.webkitdirectory = true;
      else input.accept = ".zip";
      input.addEventListener("change", () => {
        if (input.files.length) run(async () => checkBundle(await read(input.files)));
      });
      label.append(input);
      return label;
    };
    const ofZip = async (list) => readZip(new Uint8Array(await list[0].arrayBuffer()));
    const controls = element("div", "", "verify-controls");
    controls.append(button, " ", picker("All files, from the zip:", false, ofZip), " ");
    controls.append(picker("or from its folder:", true, readFolder));
    section.addEventListener("dragover", (event) => event.preventDefault());
    section.addEventListener("drop", (event) => {
      event.preventDefault();
      if (event.dataTransfer.files.length) run(async () => checkBundle(await ofZip(event.dataTransfer.files)));
    });
    section.append(
      element(
        "p",
        "The button recomputes, from what this page holds, the chain of the history, each diff, and each decision from " +
          "its numbers. Choose the zip or the unpacked folder, or drop the zip here, to check all files. Nothing is sent.",
      ),
      controls,
      result,
    );
  }

  globalThis.verifyBundle = {
    sha256, ownSha256, crc32, readZip, checkBundle, checkOwnPage, quantile, ofRuns, ofDuel, asKnown, figuresOf,
  };
  const section = globalThis.document && document.getElementById("verify");
  if (section) build(section);
})();
