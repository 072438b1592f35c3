// Which node an event or a stored output of the host belongs to, subgraphs included.

import { app } from "../../../scripts/app.js";

function rootGraph() {
  return app.rootGraph ?? app.graph;
}

/** Node of an execution id: "7", or "3:7" for node 7 inside subgraph node 3. */
export function nodeOfExecution(id) {
  let graph = rootGraph();
  let node = null;
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById(part) ?? null;
    graph = node?.subgraph;
  }
  return node;
}

/** Every node of the graph, or of the one given, those inside subgraphs too. */
export function* walk(graph = rootGraph()) {
  for (const node of graph?.nodes ?? []) {
    yield node;
    if (node.subgraph) yield* walk(node.subgraph);
  }
}

/** Key under which the frontend stores a node's outputs: its id, after the id of its subgraph where it is in one. */
export function locator(node) {
  return node.graph && node.graph !== rootGraph() ? `${node.graph.id}:${node.id}` : String(node.id);
}
