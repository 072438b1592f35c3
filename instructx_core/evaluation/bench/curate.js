// Curation of a benchmark: clips with what a model proposed -> accepted, reworded, rejected -> a file of decisions.
// Every decision is kept in this browser at once, each under its own name, so that two windows do not undo each other.
"use strict";

const page = document.getElementById("page");
DATA.clips.forEach((clip, number) => clip.proposals.forEach((proposal) => { proposal.number = number; }));
const ALL = DATA.clips.flatMap((clip) => clip.proposals);
const BY_ID = new Map(ALL.map((proposal) => [proposal.id, proposal]));
const PLACE = `instructx-bench-${DATA.bench}-`;
const HERE = `${PLACE}@clip`;
const VERDICTS = ["accept", "reject"];
let at = 0;
let marked = "";
let clips = new ClipGroup([]);
let shownMedia = [];
let canSave = true;

// Of one proposal: { verdict: "accept", "reject" or "", task, instruction, proposed }
const decisions = new Map();

const fresh = (proposal) => ({ verdict: "", task: proposal.task, instruction: proposal.instruction,
  proposed: proposal.instruction });
const decided = (proposal) => decisions.get(proposal.id) || fresh(proposal);

// What was decided of another wording of the model, as after it was asked anew, is not of this one.
function isOf(proposal, value) {
  return proposal && value && VERDICTS.concat("").includes(value.verdict) && typeof value.instruction === "string" &&
    value.proposed === proposal.instruction && value.task in DATA.targets;
}

function keep(id, value) {
  decisions.set(id, value);
  try {
    localStorage.setItem(PLACE + id, JSON.stringify(value));
    canSave = true;
  } catch {
    canSave = false;
  }
  update();
}

function recall() {
  try {
    for (const proposal of ALL) {
      const value = JSON.parse(localStorage.getItem(PLACE + proposal.id) || "null");
      if (isOf(proposal, value)) decisions.set(proposal.id, value);
    }
    at = Math.min(Math.max(0, Number(localStorage.getItem(HERE)) || 0), DATA.clips.length - 1);
  } catch {
    canSave = false;
  }
}

function accepted() {
  const counts = Object.fromEntries(Object.keys(DATA.targets).map((task) => [task, 0]));
  for (const value of decisions.values()) if (value.verdict === "accept") counts[value.task] += 1;
  return counts;
}

const isFull = (task, counts) => counts[task] >= DATA.targets[task];

function change(proposal, values) {
  keep(proposal.id, { ...decided(proposal), ...values });
}

function decide(proposal, verdict) {
  const value = decided(proposal);
  if (verdict === "accept" && !value.instruction.trim()) return;
  change(proposal, { verdict: value.verdict === verdict ? "" : verdict });
  if (value.verdict !== verdict) mark(after(proposal.id));
}

function after(id) {
  const ids = DATA.clips[at].proposals.map((proposal) => proposal.id);
  return ids[Math.min(ids.indexOf(id) + 1, ids.length - 1)];
}

function go(to, id) {
  if (to < 0 || to >= DATA.clips.length) return;
  at = to;
  try {
    localStorage.setItem(HERE, String(at));
  } catch {
    canSave = false;
  }
  show(id);
  window.scrollTo(0, 0);
}

// The next proposal without a decision whose kind is still wanted, from the marked one on and around.
function goOpen() {
  const counts = accepted();
  const from = ALL.findIndex((proposal) => proposal.id === marked);
  for (let step = 1; step <= ALL.length; step += 1) {
    const proposal = ALL[(from + step) % ALL.length];
    const value = decided(proposal);
    if (!value.verdict && !isFull(value.task, counts)) {
      if (proposal.number === at) mark(proposal.id);
      else go(proposal.number, proposal.id);
      return;
    }
  }
}

function exported() {
  const kept = {};
  for (const proposal of ALL) if (decisions.has(proposal.id)) kept[proposal.id] = decisions.get(proposal.id);
  return { kind: "instructx curation", bench: DATA.bench, saved: new Date().toISOString(), decisions: kept };
}

function saveFile() {
  download(`curation-${DATA.bench}.json`, JSON.stringify(exported(), null, 1), "application/json");
}

async function loadFile(file) {
  let values = null;
  try {
    values = JSON.parse(await file.text());
  } catch {
    values = null;
  }
  const known = values && values.kind === "instructx curation" ? Object.entries(values.decisions || {}) : [];
  const fitting = known.filter(([id, value]) => isOf(BY_ID.get(id), value));
  for (const [id, value] of fitting) keep(id, value);
  show(marked);
  say(!known.length ? `${file.name} holds no decisions of a curation.` :
    `${fitting.length} of ${known.length} decisions taken from ${file.name}.`);
}

function say(text) {
  document.getElementById("said").textContent = text;
}

function stage(number, label) {
  const medium = DATA.media[number];
  shownMedia.push(number);
  const shown = picture(medium, label);
  if (medium.kind === "video") clips.videos.push(shown);
  return element("div.stage", { style: `--ratio: ${medium.size[1]} / ${medium.size[0]}` }, shown);
}

function card(proposal, number) {
  const value = decided(proposal);
  const clip = DATA.clips[proposal.number];
  const tasks = Object.keys(DATA.targets).filter((task) => clip.reference !== undefined || !task.startsWith("reference"));
  const kind = element("select", { "aria-label": `Kind of proposal ${number + 1}`,
    onchange: () => change(proposal, { task: kind.value }) },
  ...tasks.map((task) => element("option", { value: task, selected: task === value.task }, DATA.titles[task])));
  const text = element("textarea", { rows: 2, "aria-label": `Wording of proposal ${number + 1}`,
    oninput: () => change(proposal, { instruction: text.value }) });
  text.value = value.instruction;
  const back = element("button.back", { type: "button", onclick: () => {
    text.value = proposal.instruction;
    change(proposal, { instruction: proposal.instruction });
  } }, "As proposed");
  const made = element("section.card.proposal", { id: `of-${proposal.id}`, "aria-label": `Proposal ${number + 1}` },
    element("div.head", {}, kind, element("span.full.soft", {})), text,
    element("div.verdicts", {},
      element("button.accept", { type: "button", onclick: () => decide(proposal, "accept") }, "Accept"),
      element("button.reject", { type: "button", onclick: () => decide(proposal, "reject") }, "Reject"), back));
  made.addEventListener("focusin", () => mark(proposal.id, false));
  made.addEventListener("pointerdown", () => mark(proposal.id, false));
  return made;
}

function mark(id, follow = true) {
  marked = id;
  for (const each of page.querySelectorAll(".proposal")) each.classList.toggle("current", each.id === `of-${id}`);
  const here = document.getElementById(`of-${id}`);
  if (!follow || !here) return;
  if (document.activeElement && document.activeElement !== document.body) document.activeElement.blur();
  here.scrollIntoView({ block: "nearest" });
}

function update() {
  const counts = accepted();
  for (const proposal of DATA.clips[at].proposals) {
    const made = document.getElementById(`of-${proposal.id}`);
    if (!made) continue;
    const value = decided(proposal);
    for (const verdict of VERDICTS) {
      made.classList.toggle(verdict, value.verdict === verdict);
      const button = made.querySelector(`button.${verdict}`);
      button.setAttribute("aria-pressed", String(value.verdict === verdict));
      if (verdict === "accept") button.disabled = !value.instruction.trim();
    }
    made.querySelector(".back").hidden = value.instruction === proposal.instruction;
    const left = DATA.targets[value.task] - counts[value.task];
    made.querySelector(".full").textContent = left > 0 ? `${left} more wanted` :
      left === 0 ? "as many as wanted" : `${-left} too many`;
  }
  const total = Object.values(DATA.targets).reduce((a, b) => a + b, 0);
  const useful = Object.entries(counts).reduce((sum, [task, n]) => sum + Math.min(n, DATA.targets[task]), 0);
  document.getElementById("done").textContent = `${useful} of ${total}`;
  document.getElementById("progress").max = total;
  document.getElementById("progress").value = useful;
  document.getElementById("unsaved").hidden = canSave;
  const open = ALL.filter((proposal) => !decided(proposal).verdict);
  document.getElementById("left").textContent =
    `${ALL.length - open.length} of ${ALL.length} proposals decided`;
  document.getElementById("open").disabled = !open.some((proposal) => !isFull(decided(proposal).task, counts));
  for (const [task, n] of Object.entries(counts)) {
    const row = document.getElementById(`count-${task}`);
    row.lastChild.textContent = `${n} of ${DATA.targets[task]}`;
    row.classList.toggle("reached", n === DATA.targets[task]);
    row.classList.toggle("over", n > DATA.targets[task]);
  }
  const jump = document.getElementById("jump").options[at];
  jump.textContent = named(DATA.clips[at], at);
}

function named(clip, number) {
  const left = clip.proposals.filter((proposal) => !decided(proposal).verdict).length;
  return `${number + 1}: ${clip.name}${left ? "" : " - done"}`;
}

function controls() {
  const jump = element("select", { id: "jump", "aria-label": "Go to clip", onchange: () => go(jump.selectedIndex) },
    ...DATA.clips.map((clip, number) => element("option", {}, named(clip, number))));
  jump.selectedIndex = at;
  const file = element("input", { type: "file", accept: ".json,application/json", hidden: true,
    onchange: () => file.files[0] && loadFile(file.files[0]) });
  return element("div.top", {}, jump, element("progress", { id: "progress", value: 0, "aria-label": "Accepted" }),
    element("span", { id: "done", "aria-live": "polite" }), file,
    element("button", { type: "button", onclick: () => file.click() }, "Load"),
    element("button", { type: "button", id: "export", onclick: saveFile }, "Save file"));
}

function table() {
  const rows = Object.entries(DATA.titles).map(([task, title]) =>
    element("tr", { id: `count-${task}` }, element("th", { scope: "row" }, title), element("td", {})));
  return element("section.card.counts", { "aria-label": "Accepted by kind" }, element("h2", {}, "Accepted, of Table 4"),
    element("table", {}, ...rows), element("p.soft", { id: "left" }));
}

function show(id) {
  clips.stop();
  shownMedia.forEach(release);
  shownMedia = [];
  clips = new ClipGroup([]);
  const clip = DATA.clips[at];
  const seen = element("div.seen", {}, element("section.card", { "aria-label": "Clip" },
    element("h2", {}, clip.name), stage(clip.media, "Clip"),
    element("p.soft", {}, `${clip.size[1]} x ${clip.size[0]}, ${clip.seconds.toFixed(1)} s`)));
  if (clip.reference !== undefined) {
    seen.append(element("section.card", { "aria-label": "Reference" }, element("h2", {}, "Reference picture"),
      stage(clip.reference, "Reference")));
  }
  page.replaceChildren(element("h1", {}, DATA.title), controls(),
    element("p.warn", { id: "unsaved", hidden: true }, "This browser does not keep your decisions: save them as a file " +
      "before you close the page."),
    element("p.soft", { id: "said", "aria-live": "polite" }),
    element("div.sides", {}, seen, element("div.proposals", {}, ...clip.proposals.map(card)), table()),
    element("div.bar", {},
      element("button", { type: "button", id: "previous", disabled: at === 0, onclick: () => go(at - 1) }, "Previous"),
      element("button.main", { type: "button", id: "next", disabled: at === DATA.clips.length - 1,
        onclick: () => go(at + 1) }, "Next"),
      element("button", { type: "button", id: "open", onclick: goOpen }, "Next that is open")),
    element("p.keys.soft", {}, "Keys: ", ...[["a", "accept"], ["r", "reject"], ["e", "reword"], ["Esc", "leave the text"],
      ["j", "down"], ["k", "up"], ["n", "next clip"], ["p", "previous"], ["o", "next that is open"],
      ["space", "play or pause"]].flatMap(([key, what]) => [element("kbd", {}, key), ` ${what}  `])));
  const first = clip.proposals.find((proposal) => !decided(proposal).verdict) || clip.proposals[0];
  mark(id && clip.proposals.some((proposal) => proposal.id === id) ? id : first.id);
  update();
  clips.play();
}

function move(by) {
  const ids = DATA.clips[at].proposals.map((proposal) => proposal.id);
  mark(ids[Math.min(ids.length - 1, Math.max(0, ids.indexOf(marked) + by))]);
}

const KEYS = {
  a: () => decide(BY_ID.get(marked), "accept"),
  r: () => decide(BY_ID.get(marked), "reject"),
  e: () => {
    const text = document.getElementById(`of-${marked}`).querySelector("textarea");
    text.focus();
    text.setSelectionRange(text.value.length, text.value.length);
  },
  j: () => move(1),
  k: () => move(-1),
  n: () => go(at + 1),
  p: () => go(at - 1),
  o: goOpen,
  " ": () => (clips.isPlaying ? clips.pause() : clips.play()),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") mark(marked);
  if (["SELECT", "TEXTAREA", "INPUT"].includes(event.target.tagName) || !(event.key in KEYS)) return;
  if (event.key === " " && event.target.tagName === "BUTTON") return;
  KEYS[event.key]();
  event.preventDefault();
});

// Another window of the same curation decided something.
window.addEventListener("storage", (event) => {
  const id = event.key && event.key.startsWith(PLACE) ? event.key.slice(PLACE.length) : "";
  if (!BY_ID.has(id) || !event.newValue) return;
  const value = JSON.parse(event.newValue);
  if (!isOf(BY_ID.get(id), value)) return;
  decisions.set(id, value);
  const text = document.getElementById(`of-${id}`) && document.getElementById(`of-${id}`).querySelector("textarea");
  if (text && text !== document.activeElement) text.value = value.instruction;
  update();
});

recall();
show();
