// Names, ids and reasons come from anywhere: they are put into the page as text or as
// attributes, never as HTML.

const ROWS_A_PAGE = 100;
const ROWS_PRINTED = 1000;
const CAUSES_SHOWN = 50;
const SCORE_BINS = 50;
const TIME_BINS = 40;
const COSTS = {
  not_sent: "not sent",
  answered: "answered",
  maybe_charged: "maybe charged",
};

const byId = (id) => document.getElementById(id);
const readData = (id) => JSON.parse(byId(id).textContent);

const facts = readData("facts-data");
const causes = facts.causes.map(([error, reason, charge, remedy]) => {
  const title = reason ? `${error}: ${reason}` : error;
  return { error, charge, remedy, title, count: 0 };
});
const probes = readData("probes-data").map(readProbe);
const answered = probes.filter((probe) => !probe.cause);

const view = {
  threshold: 0,
  words: "",
  outcome: "",
  by: "index",
  down: false,
  page: 0,
  printing: false,
  opened: new Set(),
};
let sorted = [...probes];
let shown = sorted;

// A row as _page.py writes it; its matches lie flat at its end.
function readProbe([index, key, ms, attempts, causeNumber, picture, ...flat]) {
  const matches = [];
  for (let at = 0; at < flat.length; at += 2) {
    matches.push({ id: flat[at], score: flat[at + 1] });
  }
  const cause = causes[causeNumber];
  if (cause) cause.count += 1;
  const words = [key, ...matches.map((match) => match.id), cause ? cause.title : ""];
  const text = words.join("\n").toLowerCase();
  return { index, key, ms, attempts, cause, picture, matches, best: matches[0], text, kept: 0 };
}

// -- what the threshold decides --------------------------------------------------------

// The service told no score: nothing says that it is below.
const isKept = (match) => match.score === null || match.score >= view.threshold;

function kindOf(probe) {
  if (probe.cause) return "failed";
  return probe.kept ? "match" : "none";
}

function outcomeText(probe) {
  if (probe.cause) return probe.cause.title;
  if (probe.kept) return "match";
  return probe.best ? "below threshold" : "no match";
}

function judge() {
  const totals = { match: 0, none: 0, failed: 0, matches: 0 };
  for (const probe of probes) {
    probe.kept = probe.matches.filter(isKept).length;
    totals.matches += probe.kept;
    totals[kindOf(probe)] += 1;
  }
  return totals;
}

// -- making elements -------------------------------------------------------------------

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const make = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

const draw = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const english = new Intl.NumberFormat("en");
const countText = (count) => english.format(count);
const countOf = (count, one, many) => `${countText(count)} ${count === 1 ? one : many}`;
const scoreText = (score) => (score === null ? "-" : score.toFixed(3));
const timeText = (ms) => english.format(ms < 100 ? ms : Math.round(ms));

// -- summary ---------------------------------------------------------------------------

function showTiles(totals) {
  const tiles = [
    ["Probes", probes.length],
    ["Answered", answered.length],
    ["With a match", totals.match],
    ["Without a match", totals.none],
    ["Matches", totals.matches],
  ];
  for (const [charge, text] of Object.entries(COSTS)) {
    const ofCharge = causes.filter((cause) => cause.charge === charge);
    tiles.push([`Failed, ${text}`, ofCharge.reduce((sum, cause) => sum + cause.count, 0)]);
  }
  const boxes = tiles.map(([name, count]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, countText(count))));
  byId("tiles").replaceChildren(...boxes);
}

function showOutcomes(totals) {
  const failed = new Map();
  for (const { error, count } of causes) {
    failed.set(error, (failed.get(error) ?? 0) + count);
  }
  const rows = [["With a match", totals.match, "good"], ["Without a match", totals.none, "dim"]];
  for (const [error, count] of [...failed].sort((a, b) => b[1] - a[1])) {
    rows.push([error, count, "bad"]);
  }
  const most = Math.max(1, ...rows.map((row) => row[1]));
  const made = rows.map(([name, count, style]) => {
    const bar = draw("rect", { class: style, width: percent(count, most), height: 1 });
    const box = { viewBox: "0 0 100 1", preserveAspectRatio: "none", "aria-hidden": "true" };
    return make("tr", {},
      make("th", { scope: "row" }, name),
      make("td", { class: "number" }, countText(count)),
      make("td", {}, draw("svg", box, bar)));
  });
  byId("outcomes").replaceChildren(...made);
}

function showCauses() {
  const worst = [...causes].sort((a, b) => b.count - a.count);
  const rows = worst.slice(0, CAUSES_SHOWN).map((cause) =>
    make("tr", {},
      make("th", { scope: "row", class: "text" }, cause.title),
      make("td", { class: "number" }, countText(cause.count)),
      make("td", {}, COSTS[cause.charge]),
      make("td", {}, cause.remedy || "-")));
  byId("causes").replaceChildren(...rows);
  const more = worst.length - CAUSES_SHOWN;
  byId("more-causes").textContent =
    `And ${countOf(more, "more cause", "more causes")}: see the table of probes.`;
  byId("more-causes").hidden = more <= 0;
  byId("failed").hidden = !worst.length;
  byId("unfailed").hidden = Boolean(worst.length);
}

// -- plots -----------------------------------------------------------------------------

// Whatever there is at all shall be seen.
const percent = (count, most) => (count ? Math.max(1, (100 * count) / most) : 0);

// Each bar is dim but for the part of it that counts.
function showBars(svg, bars, lines) {
  const most = Math.max(1, ...bars.map((bar) => bar.count));
  const made = bars.map(({ count, counts, title }, at) => {
    const rect = (part, style) => {
      const height = percent(part, most);
      return draw("rect", { x: at + 0.08, y: 100 - height, width: 0.84, height, class: style });
    };
    return draw("g", {}, draw("title", {}, title), rect(count, "dim"), rect(counts, "good"));
  });
  svg.setAttribute("viewBox", `0 0 ${bars.length} 100`);
  svg.replaceChildren(...made, ...lines);
}

const lineAt = (x, style = "") => draw("line", { x1: x, x2: x, y1: 0, y2: 100, class: style });

const showAxis = (id, ...texts) =>
  byId(id).replaceChildren(...texts.map((text) => make("span", {}, text)));

// Rounded down, without the errors of score * 100.
function hundredths(score) {
  const near = Math.round(score * 100);
  return near / 100 <= score ? near : near - 1;
}

function lowestScore() {
  let lowest = 0.95; // so that there is something to move, if all scores are 1
  for (const { matches } of probes) {
    for (const { score } of matches) lowest = Math.min(lowest, score ?? lowest);
  }
  return hundredths(lowest);
}

const binWidth = Math.ceil((100 - lowestScore()) / SCORE_BINS);
const binCount = Math.ceil((100 - lowestScore()) / binWidth);
const origin = 100 - binCount * binWidth;
const bestScores = answered
  .map((probe) => probe.best?.score ?? null)
  .filter((score) => score !== null);

function showScores(totals) {
  const { threshold } = view;
  const bars = Array.from({ length: binCount }, () => ({ count: 0, counts: 0 }));
  for (const score of bestScores) {
    // The last bin has 1.00 too.
    const at = Math.floor((hundredths(score) - origin) / binWidth);
    const bar = bars[Math.min(at, binCount - 1)];
    bar.count += 1;
    bar.counts += score >= threshold;
  }
  bars.forEach((bar, at) => {
    const from = ((origin + at * binWidth) / 100).toFixed(2);
    bar.title = `${from} and above: ${countOf(bar.count, "probe", "probes")}`;
  });
  showBars(byId("scores"), bars, [lineAt((threshold * 100 - origin) / binWidth)]);
  const all = countOf(probes.length, "probe", "probes");
  const matches = countOf(totals.matches, "match", "matches");
  byId("reached").textContent =
    `${threshold.toFixed(2)}: ${countText(totals.match)} of ${all} with a match; ${matches} in all.`;
}

function showTimes() {
  const times = answered.map((probe) => probe.ms).sort((a, b) => a - b);
  byId("timed").hidden = !times.length;
  byId("untimed").hidden = Boolean(times.length);
  if (!times.length) return;
  // The smallest value that the share does not exceed.
  const percentile = (share) => times[Math.max(0, Math.ceil(share * times.length) - 1)];
  const marks = [["p50", percentile(0.5)], ["p95", percentile(0.95)], ["p99", percentile(0.99)]];
  const step = Math.max(percentile(0.99), 0.1) / TIME_BINS;
  const bars = Array.from({ length: TIME_BINS + 1 }, () => ({ count: 0, counts: 0 }));
  for (const ms of times) bars[Math.min(Math.floor(ms / step), TIME_BINS)].count += 1;
  bars.forEach((bar, at) => {
    bar.title = `${timeText(at * step)} ms and above: ${countOf(bar.count, "search", "searches")}`;
    bar.counts = at < TIME_BINS ? bar.count : 0;
  });
  showBars(byId("times"), bars, marks.map(([name, ms]) => lineAt(ms / step, name)));
  const said = marks.map(([name, ms]) => `${name} ${timeText(ms)} ms`).join(", ");
  byId("times").setAttribute("aria-label", `Histogram of the times: ${said}`);
  showAxis("times-axis", "0 ms", `${timeText(percentile(0.99))} ms and above`);
  byId("percentiles").replaceChildren(...marks.map(([name, ms]) => {
    const sample = draw("line", { x2: 28, y1: 4, y2: 4, class: name });
    return make("div", {},
      draw("svg", { viewBox: "0 0 28 8", "aria-hidden": "true" }, sample),
      make("dt", {}, name), make("dd", {}, `${timeText(ms)} ms`));
  }));
}

// -- table -----------------------------------------------------------------------------

// What a column is sorted by; null goes last, whichever way.
const VALUES = {
  index: (probe) => probe.index,
  key: (probe) => probe.key,
  outcome: outcomeText,
  best: (probe) => probe.best?.id ?? null,
  score: (probe) => probe.best?.score ?? null,
  matches: (probe) => (probe.cause ? null : probe.matches.length),
  ms: (probe) => probe.ms,
  attempts: (probe) => probe.attempts,
};

function sortProbes() {
  const value = VALUES[view.by];
  const less = view.down ? 1 : -1;
  for (const probe of probes) probe.value = value(probe);
  sorted.sort(({ value: x, index: i }, { value: y, index: j }) => {
    if (x === y) return i - j;
    if (x === null) return 1;
    if (y === null) return -1;
    return x < y ? less : -less;
  });
}

function isShown(probe) {
  if (view.words && !probe.text.includes(view.words)) return false;
  return ["", kindOf(probe), probe.cause?.error].includes(view.outcome);
}

function matchList(probe) {
  const items = probe.matches.map((match) => {
    const below = isKept(match) ? {} : { class: "below" };
    const note = isKept(match) ? "" : " (below threshold)";
    return make("li", below, make("bdi", {}, match.id), ` ${scoreText(match.score)}${note}`);
  });
  const list = make("ol", { class: "matches", "aria-label": `Matches of ${probe.key}` }, ...items);
  return make("tr", {}, make("td"), make("td", { colspan: 7 }, list));
}

function toggle(button, probe) {
  const open = !view.opened.delete(probe);
  if (open) view.opened.add(probe);
  button.setAttribute("aria-expanded", open);
  const row = button.closest("tr");
  if (open) row.after(matchList(probe));
  else row.nextElementSibling.remove();
}

function matchesCell(probe) {
  if (!probe.matches.length) return make("td", { class: "number" }, probe.cause ? "-" : "0");
  const name = `${countOf(probe.matches.length, "match", "matches")} of ${probe.key}`;
  const expanded = view.opened.has(probe);
  const button = make("button", { type: "button", "aria-expanded": expanded, "aria-label": name },
    countText(probe.matches.length));
  button.addEventListener("click", () => toggle(button, probe));
  return make("td", { class: "number" }, button);
}

function probeCell(probe) {
  const cell = make("div", { class: "probe" });
  if (probe.picture) cell.append(make("img", { src: probe.picture, alt: "" }));
  else if (facts.pictures) cell.append(make("span", { class: "missing" }, "no picture"));
  cell.append(make("bdi", {}, probe.key));
  return make("th", { scope: "row", class: "text" }, cell);
}

function probeRow(probe) {
  const { best, cause } = probe;
  return make("tr", best && !probe.kept ? { class: "below" } : {},
    make("td", { class: "number" }, countText(probe.index + 1)),
    probeCell(probe),
    make("td", cause ? { class: "bad text" } : {}, outcomeText(probe)),
    make("td", { class: "text" }, best ? best.id : "-"),
    make("td", { class: "number" }, best ? scoreText(best.score) : "-"),
    matchesCell(probe),
    make("td", { class: "number" }, timeText(probe.ms)),
    make("td", { class: "number" }, countText(probe.attempts)));
}

function showRows() {
  const pages = Math.max(1, Math.ceil(shown.length / ROWS_A_PAGE));
  view.page = Math.min(Math.max(view.page, 0), pages - 1);
  const from = view.printing ? 0 : view.page * ROWS_A_PAGE;
  const rows = shown.slice(from, from + (view.printing ? ROWS_PRINTED : ROWS_A_PAGE));
  byId("rows").replaceChildren(...rows.flatMap((probe) =>
    (view.opened.has(probe) ? [probeRow(probe), matchList(probe)] : [probeRow(probe)])));
  const all = countOf(probes.length, "probe", "probes");
  const span = `${countText(from + 1)} to ${countText(from + rows.length)}`;
  const told = rows.length ? `Rows ${span} of ${countText(shown.length)}` : "No rows";
  byId("shown").textContent = `${told}, of ${all} in all`;
  byId("printed").textContent = printedText(rows.length);
  byId("page").value = view.page + 1;
  byId("page").max = pages;
  byId("of-pages").textContent = `of ${countText(pages)}`;
  byId("pages").hidden = pages === 1;
  byId("previous").setAttribute("aria-disabled", view.page === 0);
  byId("next").setAttribute("aria-disabled", view.page === pages - 1);
}

function printedText(count) {
  const parts = [`${countText(count)} of ${countOf(shown.length, "row", "rows")}`];
  if (count < shown.length) parts.push(`no more than ${countText(ROWS_PRINTED)} are printed`);
  if (bestScores.length) parts.push(`threshold ${view.threshold.toFixed(2)}`);
  if (view.outcome) parts.push(`outcome: ${byId("outcome").selectedOptions[0].textContent}`);
  if (view.words) parts.push(`search: ${view.words}`);
  return parts.join("; ");
}

// -- what moves ------------------------------------------------------------------------

function filterRows() {
  shown = sorted.filter(isShown);
  showRows();
}

function applyThreshold() {
  view.threshold = Number(byId("threshold").value);
  const totals = judge();
  showTiles(totals);
  showOutcomes(totals);
  if (bestScores.length) showScores(totals);
  if (view.by === "outcome") sortProbes();
  filterRows();
}

function sortBy(button) {
  const { by } = button.dataset;
  // Scores and counts are first asked for from their upper end.
  const first = ["score", "matches", "ms", "attempts"].includes(by);
  view.down = by === view.by ? !view.down : first;
  view.by = by;
  view.page = 0;
  byId("headings").querySelector("[aria-sort]").removeAttribute("aria-sort");
  button.closest("th").setAttribute("aria-sort", view.down ? "descending" : "ascending");
  sortProbes();
  filterRows();
}

function turnTo(page) {
  view.page = page;
  showRows();
}

function setPrinting(printing) {
  view.printing = printing;
  showRows();
}

function listen() {
  byId("threshold").addEventListener("input", applyThreshold);
  byId("words").addEventListener("input", ({ target }) => {
    Object.assign(view, { words: target.value.toLowerCase(), page: 0 });
    filterRows();
  });
  byId("outcome").addEventListener("input", ({ target }) => {
    Object.assign(view, { outcome: target.value, page: 0 });
    filterRows();
  });
  byId("headings").addEventListener("click", ({ target }) => {
    if (target.dataset.by) sortBy(target);
  });
  byId("previous").addEventListener("click", () => turnTo(view.page - 1));
  byId("next").addEventListener("click", () => turnTo(view.page + 1));
  byId("page").addEventListener("change", ({ target }) => {
    turnTo(Math.trunc(Number(target.value)) - 1);
  });
  addEventListener("beforeprint", () => setPrinting(true));
  addEventListener("afterprint", () => setPrinting(false));
}

function start() {
  for (const error of new Set(causes.map((cause) => cause.error))) {
    byId("outcome").append(make("option", { value: error }, `Failed: ${error}`));
  }
  // A browser may restore what a control was at, though the page begins anew.
  byId("words").value = byId("outcome").value = "";
  Object.assign(byId("threshold"), { min: origin / 100, max: 1, value: origin / 100 });
  byId("scored").hidden = !bestScores.length;
  byId("unscored").hidden = Boolean(bestScores.length);
  showAxis("scores-axis", (origin / 100).toFixed(2), "1.00");
  byId("scores").setAttribute("aria-label",
    `Histogram of the best scores of ${countOf(bestScores.length, "probe", "probes")}`);
  showCauses();
  showTimes();
  sortProbes();
  applyThreshold();
  listen();
  byId("main").hidden = false;
}

start();
