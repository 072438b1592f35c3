// The form of a study: who rates -> one item after the other -> a file to send back. Answers stay in this browser.
"use strict";

const page = document.getElementById("page");
const state = { rater: "", order: [], at: 0, ratings: {}, started: "", seconds: {} };
let clips = new ClipGroup([]);
let shownMedia = [];
let since = 0;
let canSave = true;

// Seeded order: FNV-1a of a text -> mulberry32. The same rater gets the same order on every machine.
function generator(text) {
  let seed = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) seed = Math.imul(seed ^ byte, 0x01000193);
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

function shuffled(list, text) {
  const random = generator(text);
  const copy = [...list];
  for (let i = copy.length - 1; i > 0; i -= 1) {
    const j = Math.floor(random() * (i + 1));
    [copy[i], copy[j]] = [copy[j], copy[i]];
  }
  return copy;
}

function makeOrder(rater) {
  const seed = `${DATA.study}/${rater}`;
  return shuffled(DATA.items, seed).map((item) => ({ item, results: shuffled(item.results, `${seed}/${item.id}`) }));
}

const place = () => `instructx-study-${DATA.study}-${state.rater}`;

function save() {
  try {
    const { ratings, started, at, seconds } = state;
    localStorage.setItem(place(), JSON.stringify({ ratings, started, at, seconds }));
    canSave = true;
  } catch {
    canSave = false;
  }
  const warning = document.getElementById("unsaved");
  if (warning) warning.hidden = canSave;
}

function isRated(item, code) {
  const given = (state.ratings[item.id] || {})[code] || {};
  return DATA.questions.every((question) => given[question.key]);
}

const isDone = (item) => item.results.every((result) => isRated(item, result.code));
const countDone = () => DATA.items.filter(isDone).length;

function start(rater) {
  state.rater = rater;
  state.order = makeOrder(rater);
  state.started = new Date().toISOString();
  try {
    const kept = JSON.parse(localStorage.getItem(place()) || "null");
    if (kept) Object.assign(state, kept);
  } catch {
    canSave = false;
  }
  state.at = Math.min(Math.max(0, state.at), state.order.length - 1);
  save();
  show();
  window.scrollTo(0, 0);
}

function countTime() {
  const { item } = state.order[state.at];
  state.seconds[item.id] = Math.round(((state.seconds[item.id] || 0) + (performance.now() - since) / 1000) * 10) / 10;
  since = performance.now();
}

function go(to) {
  if (to < 0 || to >= state.order.length) return;
  countTime();
  state.at = to;
  save();
  show();
  window.scrollTo(0, 0);
}

function goUndone() {
  const total = state.order.length;
  for (let step = 1; step <= total; step += 1) {
    const to = (state.at + step) % total;
    if (!isDone(state.order[to].item)) return go(to);
  }
  return undefined;
}

function exported() {
  if (state.order.length) countTime();
  return {
    kind: "instructx study answers",
    study: DATA.study,
    rater: state.rater,
    started: state.started,
    exported: new Date().toISOString(),
    seconds: state.seconds,
    order: state.order.map(({ item, results }) => [item.id, results.map((result) => result.code)]),
    ratings: state.ratings,
  };
}

function saveFile() {
  const name = state.rater.replace(/[^\w-]+/g, "_");
  download(`study-${DATA.study}-${name}.json`, JSON.stringify(exported(), null, 1), "application/json");
}

function showStart() {
  const name = element("input", { type: "text", id: "rater", required: true, maxlength: 60, autocomplete: "off",
    placeholder: "Your name or number" });
  const submit = (event) => {
    event.preventDefault();
    if (name.value.trim()) start(name.value.trim());
  };
  page.replaceChildren(element("div.start", {},
    element("h1", {}, DATA.title),
    element("p", {}, DATA.introduction),
    scale(true),
    element("p", {}, `${DATA.items.length} items. You can stop at any time and go on later in this browser under the ` +
      "same name. At the end, save your answers as a file and send it back."),
    element("form", { onsubmit: submit },
      element("label.visually-hidden", { for: "rater" }, "Your name or number"), name,
      element("button.main", { type: "submit" }, "Start"))));
  name.focus({ preventScroll: true }); // on a phone the introduction stands above it
}

function scale(isOpen) {
  const list = element("dl", {});
  for (const question of DATA.questions) {
    list.append(element("dt", {}, `${question.title}: ${question.text}`));
    for (const [score, text] of question.scale) list.append(element("dd", {}, `${score}: ${text}`));
  }
  return element("details.scale", { open: isOpen }, element("summary", {}, "What the scores mean"), list);
}

function stage(number, label) {
  const medium = DATA.media[number];
  shownMedia.push(number);
  const shown = picture(medium, label);
  if (medium.kind === "video") clips.videos.push(shown);
  return element("div.stage", { style: `--ratio: ${medium.size[1]} / ${medium.size[0]}` }, shown);
}

function resultCard(item, result, number) {
  const label = `Result ${number + 1}`;
  const here = stage(result.media, label);
  const over = element("div.over", { hidden: true });
  here.append(over);
  const look = (isOn) => {
    if (isOn && !over.firstChild) {
      const source = picture(DATA.media[item.source], "Original");
      over.append(source);
      if (source.tagName === "VIDEO") {
        clips.videos.push(source);
        clips.follow(0);
        if (clips.isPlaying) source.play().catch(() => {});
      }
    }
    over.hidden = !isOn;
  };
  const button = element("button", { type: "button", "aria-pressed": "false", onclick: () => {
    look(over.hidden);
    button.setAttribute("aria-pressed", String(!over.hidden));
    button.textContent = over.hidden ? "See original here" : "See result";
  } }, "See original here");
  const card = element("section.card.result", { "aria-label": label },
    element("h2", {}, label, button), here,
    element("div.rows", {}, ...DATA.questions.map((question) => row(item, result.code, question, label))));
  card.classList.toggle("rated", isRated(item, result.code));
  return card;
}

function row(item, code, question, label) {
  const name = `${code}-${question.key}`;
  const given = ((state.ratings[item.id] || {})[code] || {})[question.key];
  const choices = element("div.choices", {});
  for (let score = 1; score <= 5; score += 1) {
    const input = element("input", { type: "radio", name, value: score, checked: given === score,
      "aria-label": `${question.title}, ${label}: ${score}` });
    input.addEventListener("change", () => rate(item, code, question.key, score, input));
    choices.append(element("label", {}, input, String(score)));
  }
  return element("fieldset", { "data-name": name }, element("legend", {}, question.title), choices);
}

function rate(item, code, key, score, input) {
  const ofItem = (state.ratings[item.id] ||= {});
  (ofItem[code] ||= {})[key] = score;
  countTime();
  save();
  input.closest(".card").classList.toggle("rated", isRated(item, code));
  update();
}

function update() {
  const done = countDone();
  document.getElementById("done").textContent = `${done} of ${DATA.items.length} done`;
  document.getElementById("progress").value = done;
  const jump = document.getElementById("jump");
  state.order.forEach(({ item }, number) => {
    jump.options[number].textContent = `Item ${number + 1}${isDone(item) ? " - done" : ""}`;
  });
  document.getElementById("undone").disabled = done === DATA.items.length;
}

function show() {
  clips.stop();
  shownMedia.forEach(release);
  shownMedia = [];
  clips = new ClipGroup([]);
  since = performance.now();
  const { item, results } = state.order[state.at];
  const cards = [element("section.card.source", { "aria-label": "Original" }, element("h2", {}, "Original"),
    stage(item.source, "Original"))];
  if (item.reference !== undefined) {
    cards.push(element("section.card.reference", { "aria-label": "Reference" }, element("h2", {}, "Reference"),
      stage(item.reference, "Reference")));
  }
  results.forEach((result, number) => cards.push(resultCard(item, result, number)));
  const jump = element("select", { id: "jump", "aria-label": "Go to item", onchange: () => go(jump.selectedIndex) },
    ...state.order.map((_, number) => element("option", {}, `Item ${number + 1}`)));
  jump.selectedIndex = state.at;
  page.replaceChildren(
    element("div.top", {}, jump,
      element("progress", { id: "progress", max: DATA.items.length, value: 0, "aria-label": "Items done" }),
      element("span", { id: "done", "aria-live": "polite" }),
      element("button", { type: "button", id: "export", onclick: saveFile }, "Save answers")),
    element("p.warn", { id: "unsaved", hidden: canSave }, "This browser does not keep your answers: save them as a " +
      "file before you close the page."),
    element("p.instruction", {}, `"${item.instruction}"`), scale(false),
    element(`div.grid${results.length <= 4 ? ".few" : ""}`, {}, ...cards),
    element("div.bar", {},
      element("button", { type: "button", id: "previous", disabled: state.at === 0, onclick: () => go(state.at - 1) },
        "Previous"),
      element("button.main", { type: "button", id: "next", disabled: state.at === state.order.length - 1,
        onclick: () => go(state.at + 1) }, "Next"),
      element("button", { type: "button", id: "undone", onclick: goUndone }, "Next that is not done"),
      element("span.keys.soft", {}, "Keys: ", element("kbd", {}, "1"), " to ", element("kbd", {}, "5"),
        " rate the marked row and go on, ", element("kbd", {}, "n"), " next, ", element("kbd", {}, "p"), " previous, ",
        element("kbd", {}, "space"), " play or pause.")));
  update();
  clips.play();
  mark(firstOpen());
}

const rows = () => [...page.querySelectorAll("fieldset")];
const firstOpen = () => rows().find((each) => !each.querySelector("input:checked")) || rows()[0];

function mark(fieldset) {
  for (const each of rows()) each.classList.toggle("current", each === fieldset);
}

page.addEventListener("focusin", (event) => {
  const fieldset = event.target.closest("fieldset");
  if (fieldset) mark(fieldset);
});

document.addEventListener("keydown", (event) => {
  if (!state.rater || event.ctrlKey || event.metaKey || event.altKey) return;
  if (["SELECT", "TEXTAREA"].includes(event.target.tagName) || event.target.type === "text") return;
  if (/^[1-5]$/.test(event.key)) {
    const fieldset = page.querySelector("fieldset.current") || firstOpen();
    fieldset.querySelectorAll("input")[Number(event.key) - 1].click();
    const all = rows();
    const following = all[all.indexOf(fieldset) + 1];
    if (following) {
      mark(following);
      following.querySelector("input:checked, input").focus({ preventScroll: true });
      following.scrollIntoView({ block: "nearest" });
    } else document.getElementById("next").focus();
  } else if (event.key === "n") go(state.at + 1);
  else if (event.key === "p") go(state.at - 1);
  else if (event.key === " " && event.target.tagName !== "BUTTON" && event.target.tagName !== "SUMMARY") {
    if (clips.isPlaying) clips.pause();
    else clips.play();
  } else return;
  event.preventDefault();
});

showStart();
