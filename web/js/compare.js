// Widget of the node Compare (InstructX), on documented extension hooks only: getCustomWidgets gives the node's `view`
// input its widget, the `executed` event brings the result, onNodeOutputsUpdated brings it back after a change of tab.
// The widget's value tells the node that this extension shows the result; without it the node uses plain previews.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { CompareView } from "./compare_view.js";
import { locator, nodeOfExecution, walk } from "./graph.js";

const NODE = "InstructXCompare";
const WIDGET = "INSTRUCTX_COMPARE_VIEW";
const UI_KEY = "instructx_compare";
const MIN_HEIGHT = 240;
const views = new WeakMap(); // node -> CompareView

function urlOf({ filename, subfolder, type }) {
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
}

function show(node, output) {
  const results = output?.[UI_KEY]; // one, or one for each item of a list
  if (!results?.length) return;
  views.get(node)?.show(results.map((r) => ({ ...r, before: r.before.map(urlOf), after: r.after.map(urlOf) })));
}

function createView(node, name) {
  const language = app.extensionManager?.setting?.get?.("Comfy.Locale") ?? "en";
  const view = new CompareView(language);
  const widget = node.addDOMWidget(name, WIDGET, view.element, {
    getValue: () => "slider",
    setValue: () => {},
    getMinHeight: () => MIN_HEIGHT,
    hideOnZoom: false,
  });
  widget.serialize = false; // not part of a saved workflow; it still goes to the node with each run
  const removed = node.onRemoved;
  node.onRemoved = function () {
    removed?.apply(this, arguments);
    view.dispose();
  };
  views.set(node, view);
  return { widget, minWidth: 320, minHeight: MIN_HEIGHT };
}

app.registerExtension({
  name: "InstructX.Compare",

  getCustomWidgets() {
    return { [WIDGET]: createView };
  },

  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const [width, height] = node.size;
    node.setSize([Math.max(width, 360), Math.max(height, 440)]);
  },

  setup() {
    api.addEventListener("executed", ({ detail }) => {
      const node = nodeOfExecution(detail.display_node ?? detail.node);
      if (node) show(node, detail.output);
    });
  },

  onNodeOutputsUpdated(outputs) {
    for (const node of walk()) {
      if (node.comfyClass === NODE) show(node, outputs[locator(node)]);
    }
  },
});
