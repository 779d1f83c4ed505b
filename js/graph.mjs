/** Where things are in the editor's graphs, which may be nested (subgraphs). */

/** Ids of the subgraph nodes, from the root, that lead to `scope`; [] for the root itself, null where it is not in it. */
export function pathTo(root, scope) {
  return pathsTo(root, scope)[0] ?? null;
}

/** All paths to `scope`: several nodes may use one subgraph. */
export function pathsTo(root, scope) {
  if (root === scope) return [[]];
  return root.nodes.filter((node) => node.subgraph).flatMap((node) => pathsTo(node.subgraph, scope).map((path) => [String(node.id), ...path]));
}

/** The nodes of a graph and of the subgraphs in it. */
export function allNodes(graph) {
  return graph.nodes.flatMap((node) => [node, ...(node.subgraph ? allNodes(node.subgraph) : [])]);
}

/** The root and every subgraph of it, those without a node included. */
function graphsOf(root) {
  const found = new Set([root, ...(root.subgraphs?.values() ?? [])]);
  for (const graph of found) for (const node of graph.nodes) if (node.subgraph) found.add(node.subgraph);
  return found;
}

/**
 * Raise the counters of new ids above every id that is in use. Some files declare a lower last id than they use
 * (`last_link_id`), and a new link would then take the place of an old one.
 */
export function raiseIds(root) {
  const used = { lastNodeId: [], lastLinkId: [], lastRerouteId: [], lastGroupId: [] };
  for (const graph of graphsOf(root)) {
    used.lastNodeId.push(...graph.nodes.map((node) => node.id));
    for (const links of [graph.links, graph.floatingLinks]) used.lastLinkId.push(...[...(links?.values() ?? [])].map((link) => link.id));
    for (const node of [graph, ...graph.nodes]) {
      // Also what only a socket names: a new link with that number would go there as well.
      used.lastLinkId.push(...[...(node.inputs ?? []), ...(node.outputs ?? [])].flatMap(({ link, links, linkIds }) => [link, ...(links ?? []), ...(linkIds ?? [])]));
    }
    used.lastRerouteId.push(...(graph.reroutes?.keys() ?? []));
    used.lastGroupId.push(...(graph.groups ?? []).map((group) => group.id));
  }
  const countable = (id) => Number.isSafeInteger(id) && id < Number.MAX_SAFE_INTEGER / 2;
  for (const [counter, ids] of Object.entries(used)) {
    const highest = ids.map((id) => (id === null ? NaN : Number(id))).filter(countable).reduce((most, id) => Math.max(most, id), 0);
    for (const { state } of graphsOf(root)) if (state && Number(state[counter] ?? 0) < highest) state[counter] = highest;
  }
}

/** The node that a queued prompt's id means ("57:27" for one in a subgraph), or null. */
export function nodeById(root, id) {
  let node = null;
  let graph = root;
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById?.(Number(part)) ?? graph?.getNodeById?.(part) ?? null;
    graph = node?.subgraph;
  }
  return node;
}

/** The id of a node in the queued prompt. */
export function idOf(root, node) {
  const path = pathTo(root, node.graph);
  return path ? [...path, node.id].join(":") : String(node.id);
}

/**
 * The link that comes into a node's input number, or null. (`input.link` is on its way out of the editor, and a
 * subgraph node's getInputLink answers for the inside.)
 */
export function linkInto(node, slot) {
  if (!node?.inputs?.[slot]) return null;
  if (!node.subgraph && node.getInputLink) return node.getInputLink(slot) ?? null;
  for (const link of node.graph.links.values()) {
    if (String(link.target_id) === String(node.id) && link.target_slot === slot) return link;
  }
  return null;
}

export function slotOf(node, name) {
  return (node?.inputs ?? []).findIndex((input) => input.name === name || input.widget?.name === name);
}

/** The node that is connected to an input, through reroutes; null where there is none in this graph. */
export function sourceOf(node, name) {
  const link = linkInto(node, slotOf(node, name));
  const found = link ? node.graph.getNodeById(link.origin_id) : null;
  if (found?.isVirtualNode && found.inputs?.length === 1) return sourceOf(found, found.inputs[0].name);
  return found ?? null;
}

export function widgetOf(node, name) {
  return node?.widgets?.find((widget) => widget.name === name) ?? null;
}

/** Set a widget as a person would. */
export function setWidget(node, name, value) {
  const widget = widgetOf(node, name);
  if (!widget) return false;
  widget.value = value;
  widget.callback?.(value);
  return true;
}

/** Do what `work` does to the graph as one step of undo. */
export async function asOneUndoStep(app, work) {
  app.canvas?.emitBeforeChange?.();
  try {
    return await work();
  } finally {
    app.canvas?.emitAfterChange?.();
    app.canvas?.setDirty?.(true, true);
  }
}

export function rootOf(app) {
  return app.rootGraph ?? app.graph?.rootGraph ?? app.graph;
}

export function showToast(app, severity, detail, life = 6000) {
  app.extensionManager?.toast?.add({ severity, summary: "Interleave", detail, life: severity === "error" ? 15000 : life });
}
