// The page of a set: funnel, measures with limits that can be moved, clips by the reason of their rejection.
"use strict";

const page = document.getElementById("page");
const BINS = 24;

function number(value) {
  if (value === null || value === undefined) return "";
  return String(Number(value.toPrecision(3)));
}

function funnelTable() {
  const rows = DATA.funnel.map((step) => {
    const share = DATA.clips ? step.passed / DATA.clips : 0;
    const reasons = Object.entries(step.reasons).map(([reason, count]) => `${reason}: ${count}`).join("; ");
    return element("tr", {},
      element("td", {}, step.stage), element("td.number", {}, String(step.entered)),
      element("td.number", {}, String(step.passed)),
      element("td", {}, element("span.bar", { style: `width:${Math.round(160 * share)}px`, role: "img",
        "aria-label": `${Math.round(100 * share)} % of all clips` })),
      element("td", {}, reasons));
  });
  const head = element("tr", {}, element("th", {}, "stage"), element("th.number", {}, "in"), element("th.number", {}, "out"),
    element("th", {}, "of all clips"), element("th", {}, "rejected"));
  return element("div.scroll", {}, element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
}

function shape(kind, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// Values on an axis that is logarithmic where they spread over more than two decades.
function axisOf(values, limit) {
  const all = [...values, limit];
  const low = Math.min(...all), high = Math.max(...all);
  const isLog = low > 0 && high / low > 100;
  const [from, to] = isLog ? [Math.log(low), Math.log(high)] : [low, high];
  const span = to > from ? to - from : 1;
  return {
    place: (value) => ((isLog ? Math.log(Math.max(value, low)) : value) - from) / span,
    value: (place) => (isLog ? Math.exp(from + place * span) : from + place * span),
  };
}

function measureCard(measure) {
  const values = measure.values.map((each) => each.value);
  const title = element("h3", {}, `${measure.stage}: ${measure.measure}`);
  const rule = `rejected as “${measure.reason}” ${measure.side === "least" ? "below" : "above"} the limit`;
  if (!values.length) return element("section.card", {}, title, element("p.soft", {}, "no clip came this far"));
  const axis = axisOf(values, measure.limit);
  const text = element("p", { "aria-live": "polite" });
  const drawing = shape("svg", { viewBox: "0 0 240 90", preserveAspectRatio: "none", "aria-hidden": "true" });
  const passes = (value, limit) => (measure.side === "least" ? value >= limit : value <= limit);
  function draw(limit) {
    const bins = Array.from({ length: BINS }, () => [0, 0]);
    for (const value of values) {
      const bin = Math.min(BINS - 1, Math.max(0, Math.floor(axis.place(value) * BINS)));
      bins[bin][passes(value, limit) ? 0 : 1] += 1;
    }
    const most = Math.max(...bins.map(([good, bad]) => good + bad));
    drawing.replaceChildren();
    bins.forEach(([good, bad], at) => {
      const tall = [good, bad].map((count) => (80 * count) / most);
      drawing.append(shape("rect", { class: "pass", x: at * 10, width: 9, y: 85 - tall[0], height: tall[0] }));
      drawing.append(shape("rect", { class: "fail", x: at * 10, width: 9, y: 85 - tall[0] - tall[1], height: tall[1] }));
    });
    const x = Math.min(239, Math.max(1, 240 * axis.place(limit)));
    drawing.append(shape("line", { class: "mark", x1: x, x2: x, y1: 0, y2: 90 }));
    const left = values.filter((value) => passes(value, limit)).length;
    const moved = limit === measure.limit ? "" : ` (limit was ${number(measure.limit)})`;
    text.textContent = `${left} of ${values.length} pass at ${number(limit)}${moved}`;
  }
  const slider = element("input", { type: "range", min: "0", max: "1000", "aria-label": `limit ${measure.field}`,
    value: String(Math.round(1000 * axis.place(measure.limit))),
    oninput: () => draw(axis.value(Number(slider.value) / 1000)) });
  const back = element("button", { type: "button", onclick: () => {
    slider.value = String(Math.round(1000 * axis.place(measure.limit)));
    draw(measure.limit);
  } }, `back to ${measure.field} = ${number(measure.limit)}`);
  draw(measure.limit);
  return element("section.card", {}, title, element("p.soft", {}, rule), drawing, slider, text, back);
}

function sampleCard(sample) {
  const image = element("img", { loading: "lazy", alt: `stills of ${sample.id}`, src: mediaUrl(sample.medium) });
  const why = sample.reason
    ? `${sample.stage}: ${sample.reason}${sample.value === null ? "" : ` (${number(sample.value)}, limit ${number(sample.limit)})`}`
    : "passed";
  const texts = Object.entries(sample.texts).map(([task, text]) => element("p", {}, `${task}: ${text}`));
  const where = `${sample.film}, ${sample.start.toFixed(1)} to ${sample.stop.toFixed(1)} s`;
  return element("section.card", {}, image, element("p", {}, why), ...texts, element("p.soft", {}, where));
}

function samples() {
  const reasons = [...new Set(DATA.samples.map((sample) => sample.reason))].sort();
  const grid = element("div.samples", {});
  const buttons = reasons.map((reason) => {
    const count = DATA.samples.filter((sample) => sample.reason === reason).length;
    return element("button", { type: "button", "aria-pressed": "false", onclick: () => show(reason) },
      `${reason || "passed"} (${count})`);
  });
  function show(reason) {
    reasons.forEach((each, at) => buttons[at].setAttribute("aria-pressed", String(each === reason)));
    grid.replaceChildren(...DATA.samples.filter((sample) => sample.reason === reason).map(sampleCard));
  }
  if (reasons.length) show(reasons[0]);
  return [element("div.filters", {}, ...buttons), grid];
}

page.append(
  element("h1", {}, "Training pairs from films"),
  element("p.soft", {}, `${DATA.clips} clips. Rows of a sample: the clip, what was taken as its subject, the clip without it.`),
  element("h2", {}, "Funnel"), funnelTable(),
  element("h2", {}, "Clips to look at"), ...samples(),
  element("h2", {}, "Measures and limits"),
  element("p.soft", {}, "Move a limit to see what would pass; write it into a file for --limits to use it."),
  element("div.measures", {}, ...DATA.measures.map(measureCard)),
);
