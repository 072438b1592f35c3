// The report: tables and plots of a judge; every output beside its source, sorted, filtered, a few at a time.
"use strict";

const page = document.getElementById("page");
const AT_ONCE = 24;
const view = { tab: "tables", judge: 0, editor: "", task: "", text: "", show: "all", sort: "worst", shown: AT_ONCE };
let groups = [];
const judgeName = () => (DATA.judges[view.judge] || {}).name;
const scoreOf = (entry) => entry.scores[judgeName()];

const watcher = new IntersectionObserver((seen) => {
  for (const each of seen) {
    const { group } = each.target;
    if (!group) continue;
    if (each.isIntersecting && !each.target.isHeld) group.play();
    else if (!each.isIntersecting) group.pause();
  }
});

function table(of) {
  const isText = (column) => of.rows.every((row) => !/^-?[\d.]+$/.test(row.cells[column].text));
  const texts = of.columns.map((_, column) => isText(column));
  const head = element("tr", {}, ...of.columns.map((name, column) =>
    element(`th${texts[column] ? ".text" : ""}`, { scope: "col" }, name)));
  let last = null;
  const rows = of.rows.map((row) => {
    const first = row.cells[0].text;
    const isBlock = /^(Task)$/.test(of.columns[0]) && last !== null && last !== first;
    last = first;
    const classes = (row.is_published ? ".published" : "") + (isBlock ? ".block" : "");
    return element(`tr${classes}`, {}, ...row.cells.map((cell, column) => {
      const kinds = [texts[column] ? "text" : "", ["", "first", "second"][cell.rank],
        cell.text.length > 24 ? "wrap" : ""].filter(Boolean);
      const shown = element("td", {}, element("span", {}, cell.text), cell.interval ? element("small", {}, cell.interval) : null);
      shown.className = kinds.join(" ");
      return shown;
    }));
  });
  const isNamedTwice = of.columns[0] === "Task" && of.columns[1] === "Model"; // both stay in sight on a phone
  return element("section", {}, element("h2", {}, of.title),
    element(`div.scroll${isNamedTwice ? ".two" : ""}`, { tabindex: "0", role: "region", "aria-label": of.title },
      element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows))),
    ...of.notes.map((note) => element("p.soft", {}, note)));
}

function figure(svg) {
  const made = element("figure", {});
  made.innerHTML = svg; // written by plots.py, names escaped there
  return made;
}

function numbers() {
  const judge = DATA.judges[view.judge];
  if (!judge) return [element("p", {}, "No scores yet."), ...DATA.tables.map(table)];
  return [
    element("p.soft", {}, `Judged by ${judge.name}. In brackets: 95 % bootstrap intervals over items. Best (bold) and ` +
      "second best (underlined) of several editors are marked." + (judge.tables.some((of) => of.rows.some((row) =>
      row.is_published)) ? " Rows in italics are the paper's, by its judge, and stand outside of that." : "")),
    ...judge.tables.map(table),
    element("h2", {}, "Means and intervals"),
    element("div.plots", {}, ...judge.plots.map(figure)),
    ...judge.not_drawn.map((why) => element("p.soft", {}, why)),
    ...DATA.tables.map(table), ...checked(judge.name)].filter(Boolean);
}

function checked(name) {
  const check = DATA.checks[name];
  if (!check) return [];
  const percent = (value) => (value === null ? "-" : `${(100 * value).toFixed(0)} %`);
  const rows = Object.entries(check.dimensions).map(([key, of]) => ({ cells: [key, percent(of.accuracy),
    of.correlation === null ? "-" : of.correlation.toFixed(2), String(of.pairs)].map((text) => ({ text, rank: 0 })) }));
  return [table({ title: `How far ${name} can be trusted`, columns: ["Dimension", "Planted pairs in order",
    "Rank correlation", "Pairs"], rows, notes: [] })];
}

// Gallery

function value(entry, key) {
  const score = scoreOf(entry);
  const found = score && score.values[key];
  return found === undefined ? null : found;
}

const SORTS = { worst: "Worst first", best: "Best first", order: "As in the benchmark", apart: "Editors apart most" };

function spread() {
  const ends = new Map();
  for (const entry of DATA.entries) {
    const score = value(entry, "overall");
    if (score === null) continue;
    const [low, high] = ends.get(entry.item) || [score, score];
    ends.set(entry.item, [Math.min(low, score), Math.max(high, score)]);
  }
  return (entry) => (ends.has(entry.item) ? ends.get(entry.item)[1] - ends.get(entry.item)[0] : -1);
}

function chosen() {
  const words = view.text.toLowerCase();
  const list = DATA.entries.filter((entry) => {
    const item = DATA.items[entry.item];
    if (view.editor && entry.editor !== view.editor) return false;
    if (view.task && item.task !== view.task) return false;
    if (view.show === "unscored" && value(entry, "overall") !== null) return false;
    if (view.show === "scored" && value(entry, "overall") === null) return false;
    return !words || `${item.id} ${item.instruction}`.toLowerCase().includes(words);
  });
  const [kind, key = "overall"] = view.sort.split(":");
  const apart = kind === "apart" ? spread() : null;
  // Without a score: first among the worst, last among the best.
  const rank = { worst: (e) => value(e, key) ?? -1, best: (e) => -(value(e, key) ?? -1), order: (e) => e.item,
    apart: (e) => -apart(e) }[kind];
  return list.map((entry, place) => [rank(entry), entry.item, place, entry])
    .sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]).map((each) => each[3]);
}

function compare(entry) {
  const item = DATA.items[entry.item];
  const medium = DATA.media[item.source];
  const stage = element("div.compare", { style: `--ratio: ${medium.size[1]} / ${medium.size[0]}; --split: 50%` });
  const before = picture(medium, "Source");
  const shown = entry.output === null ? null : DATA.media[entry.output];
  if (!shown || shown.kind === "none") {
    stage.classList.add("none");
    const why = shown ? `Cannot be shown: ${shown.why}` : `No output: ${entry.error || "not made"}`;
    stage.append(before, element("div.lack", {}, why));
    return [stage];
  }
  const after = picture(shown, `Output of ${entry.editor}`);
  before.classList.add("before");
  const slider = element("input", { type: "range", min: 0, max: 100, value: 50, step: 1,
    "aria-label": `Boundary between source (left) and output (right) of ${item.id}, ${entry.editor}` });
  slider.addEventListener("input", () => stage.style.setProperty("--split", `${slider.value}%`));
  stage.append(after, before, slider, element("div.line", {}), element("span.tag.left", {}, "source"),
    element("span.tag.right", {}, "output"));
  const videos = [before, after].filter((each) => each.tagName === "VIDEO");
  if (!videos.length) return [stage];
  stage.group = new ClipGroup(videos);
  groups.push(stage.group);
  watcher.observe(stage);
  const button = element("button", { type: "button", onclick: () => {
    stage.isHeld = stage.group.isPlaying;
    if (stage.isHeld) stage.group.pause();
    else stage.group.play();
    button.textContent = stage.isHeld ? "Play" : "Pause";
  } }, "Pause");
  const time = element("input", { type: "range", min: 0, max: 1, step: "any", value: 0, style: "flex: 1; min-width: 0",
    "aria-label": `Time in the clips of ${item.id}` });
  time.addEventListener("input", () => {
    stage.isHeld = true;
    button.textContent = "Play";
    stage.group.pause();
    stage.group.seek(Number(time.value) * stage.group.length);
  });
  stage.group.onTime = (now, length) => { time.value = now / length; };
  return [stage, element("div", { style: "display: flex; gap: 8px; align-items: center" }, button, time)];
}

function chips(entry) {
  const [low, high] = DATA.scale;
  const score = scoreOf(entry);
  if (!score) return element("div.chips", {}, element("span", {}, "not judged"));
  if (score.status !== "ok") return element("div.chips", {}, element("span.low", {}, score.status));
  const kind = (number) => {
    const share = (number - low) / (high - low);
    return share < 1 / 3 ? ".low" : share >= 2 / 3 ? ".high" : "";
  };
  return element("div.chips", {}, ...Object.entries(score.values).map(([name, number]) =>
    element(`span${kind(number)}`, {}, `${name} ${Number(number.toFixed(2))}`)));
}

function card(entry) {
  const item = DATA.items[entry.item];
  const score = scoreOf(entry);
  const metrics = Object.entries(entry.metrics).map(([name, number]) => `${name} ${Number(number.toFixed(4))}`);
  const made = element("article.entry", { tabindex: "-1" }, ...compare(entry),
    element("h3", {}, item.instruction),
    element("div.about", {}, `${entry.editor} - ${item.task} - ${item.id}` +
      (entry.seed === null || entry.seed === undefined ? "" : ` - seed ${entry.seed}`)), chips(entry));
  if (item.reference !== null) {
    made.append(element("div.reference", {}, picture(DATA.media[item.reference], "Reference"), "reference"));
  }
  if (score && score.reason && entry.output !== null) {
    const why = score.status === "ok" ? "Why, in the judge's words" : "Why there is no score";
    made.append(element("details", {}, element("summary", {}, why), element("p", {}, score.reason)));
  }
  if (metrics.length) made.append(element("div.about", {}, metrics.join(", ")));
  return made;
}

function choice(name, label, options) {
  const select = element("select", { id: `choose-${name}`, onchange: () => {
    view[name] = select.value;
    view.shown = AT_ONCE;
    fill();
  } }, ...options.map(([key, text]) => element("option", { value: key, selected: view[name] === key }, text)));
  return element("label", {}, label, select);
}

function gallery() {
  const tasks = [...new Set(DATA.items.map((item) => item.task))];
  const dimensions = [...new Set(DATA.entries.flatMap((e) => Object.keys((scoreOf(e) || { values: {} }).values)))];
  const sorts = [...Object.entries(SORTS),
    ...dimensions.filter((name) => name !== "overall").map((name) => [`worst:${name}`, `Worst ${name} first`])];
  const search = element("input", { type: "search", id: "search", placeholder: "instruction or id", value: view.text,
    oninput: () => { view.text = search.value; view.shown = AT_ONCE; fill(); } });
  return [element("div.filters", {},
    choice("sort", "Order", sorts),
    choice("editor", "Editor", [["", "all"], ...DATA.editors.map((name) => [name, name])]),
    choice("task", "Kind of edit", [["", "all"], ...tasks.map((name) => [name, name])]),
    choice("show", "Scores", [["all", "all"], ["scored", "with a score"], ["unscored", "without a score"]]),
    element("label", {}, "Search", search)),
  element("p.soft", { id: "count", "aria-live": "polite" }), element("div.cards", { id: "cards" }),
  element("div.more", { id: "more" })];
}

function fill() {
  groups.forEach((group) => group.stop());
  groups = [];
  watcher.disconnect();
  [...urls.keys()].forEach(release);
  const list = chosen();
  const cards = document.getElementById("cards");
  cards.replaceChildren(...list.slice(0, view.shown).map(card));
  more(list);
}

function more(list) {
  const left = list.length - view.shown;
  document.getElementById("count").textContent = `${Math.min(view.shown, list.length)} of ${list.length} outputs`;
  document.getElementById("more").replaceChildren(...(left <= 0 ? [] : [element("button", { type: "button", onclick: () => {
    const from = view.shown;
    view.shown += AT_ONCE;
    const cards = list.slice(from, view.shown).map(card);
    document.getElementById("cards").append(...cards);
    more(list);
    cards[0].focus({ preventScroll: true });
  } }, `Show ${Math.min(AT_ONCE, left)} more`)]));
}

function show() {
  groups.forEach((group) => group.stop());
  groups = [];
  const tab = (name, text) => element("button", { type: "button", role: "tab", "aria-selected": String(view.tab === name),
    onclick: () => { view.tab = name; show(); window.scrollTo(0, 0); } }, text);
  const judges = DATA.judges.length < 2 ? null : element("select", { "aria-label": "Judge", onchange: (event) => {
    view.judge = event.target.selectedIndex;
    show();
  } }, ...DATA.judges.map((judge, number) => element("option", { selected: number === view.judge }, judge.name)));
  page.replaceChildren(element("h1", {}, DATA.title),
    ...DATA.warnings.map((text) => element("p.warn", { role: "alert" }, text)),
    element("nav.tabs", { role: "tablist" }, tab("tables", "Numbers"), tab("gallery", "Outputs"), judges),
    ...(view.tab === "tables" ? numbers() : gallery()));
  if (view.tab === "gallery") fill();
}

// Keys: j and k go to the next and the previous output, / to the search.
document.addEventListener("keydown", (event) => {
  if (view.tab !== "gallery" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (["text", "search"].includes(event.target.type)) return;
  const cards = [...document.querySelectorAll(".entry")];
  const here = cards.findIndex((each) => each.contains(document.activeElement));
  if (event.key === "/") document.getElementById("search").focus();
  else if (event.key === "j" || event.key === "k") {
    const next = cards[Math.max(0, Math.min(cards.length - 1, here + (event.key === "j" ? 1 : -1)))];
    if (!next) return;
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "start", behavior: "auto" });
  } else return;
  event.preventDefault();
});

show();
