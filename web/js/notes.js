// What our nodes say of their run, below their widgets: what was cropped or padded, what a batch was taken for. The
// server chooses the language (nodes/parts/notes.py). The host's own text on a node goes away when the job ends.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { locator, nodeOfExecution, walk } from "./graph.js";

const UI_KEY = "instructx_notes";
const KIND_KEY = "instructx_node"; // of a job of another tab, the node of that number here may be something else
const WIDGET = "instructx_notes";

function show(node, output) {
  const lines = output?.[UI_KEY];
  if (!lines?.length || output[KIND_KEY]?.[0] !== node.comfyClass) return;
  let widget = node.widgets?.find((w) => w.name === WIDGET);
  if (!widget) {
    const element = document.createElement("div");
    element.className = "instructx-notes";
    element.setAttribute("role", "status");
    Object.assign(element.style, {
      overflow: "auto", padding: "4px 6px", boxSizing: "border-box", font: "12px/1.35 sans-serif",
      color: "var(--input-text, #ddd)", background: "var(--comfy-input-bg, #222)", borderRadius: "4px",
    });
    widget = node.addDOMWidget(WIDGET, "note", element, {
      getValue: () => "",
      setValue: () => {},
      // as high as its text, up to a limit; a line holds about 52 letters
      getMinHeight: () => {
        const rows = element.textContent.split("\n").map((line) => Math.max(1, Math.ceil(line.length / 52)));
        return Math.min(120, Math.max(40, 12 + 16.2 * rows.reduce((all, one) => all + one, 0)));
      },
      getMaxHeight: () => 160,
      hideOnZoom: false,
      serialize: false, // not sent to the server
    });
    widget.serialize = false; // not saved with the workflow
  }
  widget.element.textContent = lines.join("\n");
  widget.element.style.whiteSpace = "pre-line";
  const [width, height] = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
}

app.registerExtension({
  name: "InstructX.Notes",

  setup() {
    api.addEventListener("executed", ({ detail }) => {
      const node = nodeOfExecution(detail.display_node ?? detail.node);
      if (node) show(node, detail.output);
    });
  },

  onNodeOutputsUpdated(outputs) {
    for (const node of walk()) show(node, outputs[locator(node)]);
  },
});
