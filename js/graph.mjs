/** Where things are in the editor's graphs, which may be nested (subgraphs). */

/** Ids of the subgraph nodes, from the root, that lead to `scope`; [] for the root itself, null where it is not in it. */
export function pathTo(root, scope) {
  if (root === scope) return [];
  for (const node of root.nodes) {
    if (!node.subgraph) continue;
    const inner = pathTo(node.subgraph, scope);
    if (inner) return [String(node.id), ...inner];
  }
  return null;
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
