/**
 * A small stand-in for LiteGraph and the editor's graphs: only what js/wrap.mjs uses. It keeps the habits that wrap has
 * to reckon with: an input holds one link; a new link or node takes the next number, and the place of what has it; a primitive node loses its widget with its last link, and takes its value
 * from the input that it is connected to; a subgraph's inputs become sockets and widgets of the node around it.
 */

const INPUT_NODE = -10;
const OUTPUT_NODE = -20;

class Graph {
  constructor(id = "root") {
    Object.assign(this, { id, nodes: [], links: new Map(), inputs: [], outputs: [], groups: [], state: { lastNodeId: 100, lastLinkId: 0, lastGroupId: 0 } });
  }

  serialize() {
    return saved(this);
  }

  getNodeById(id) {
    return this.nodes.find((node) => String(node.id) === String(id)) ?? null;
  }

  getLink(id) {
    return this.links.get(id);
  }

  add(node) {
    if (node instanceof Group) return void this.groups.push(Object.assign(node, { id: ++this.state.lastGroupId }));
    node.id ??= ++this.state.lastNodeId;
    node.graph = this;
    this.nodes = [...this.nodes.filter((old) => old.id !== node.id), node];
  }

  remove(node) {
    if (node instanceof Group) return void this.groups.splice(this.groups.indexOf(node), 1);
    node.inputs.forEach((_, slot) => node.disconnectInput(slot));
    for (const link of [...this.links.values()]) if (String(link.origin_id) === String(node.id)) this.cut(link);
    this.nodes.splice(this.nodes.indexOf(node), 1);
  }

  /** A new link in the place of the one that the target has. */
  tie(type, [origin_id, origin_slot], [target_id, target_slot]) {
    for (const old of [...this.links.values()]) {
      if (String(old.target_id) === String(target_id) && old.target_slot === target_slot) this.cut(old);
    }
    const link = { id: ++this.state.lastLinkId, type, origin_id, origin_slot, target_id, target_slot };
    this.links.set(link.id, link);
    this.getNodeById(origin_id)?.onConnected?.(this.getNodeById(target_id), target_slot);
    return link;
  }

  cut(link) {
    this.links.delete(link.id);
    const origin = this.getNodeById(link.origin_id);
    const last = ![...this.links.values()].some((other) => other.origin_id === link.origin_id);
    if (origin && last) origin.onLastDisconnected?.();
  }
}

class Group {
  constructor(title) {
    Object.assign(this, { title, pos: [0, 0], size: [10, 10] });
  }
}

class Subgraph extends Graph {
  addInput(name, type) {
    const graph = this;
    const input = {
      name,
      type,
      connect(slot, node) {
        graph.tie(type, [INPUT_NODE, graph.inputs.indexOf(input)], [node.id, node.inputs.indexOf(slot)]);
        graph.holder.promote(graph.inputs.indexOf(input), node, slot);
      },
    };
    this.inputs.push(input);
    this.holder.inputs.push({ name, type });
    return input;
  }

  removeInput(input) {
    const at = this.inputs.indexOf(input);
    for (const link of [...this.links.values()].filter((other) => other.origin_id === INPUT_NODE)) {
      if (link.origin_slot === at) this.cut(link);
      else if (link.origin_slot > at) link.origin_slot--;
    }
    this.inputs.splice(at, 1);
    this.holder.dropInput(at);
  }

  addOutput(name, type) {
    const graph = this;
    const output = {
      name,
      type,
      linkIds: [],
      connect(slot, node) {
        output.linkIds = [graph.tie(type, [node.id, node.outputs.indexOf(slot)], [OUTPUT_NODE, graph.outputs.indexOf(output)]).id];
      },
    };
    this.outputs.push(output);
    this.holder.outputs.push({ name, type });
    return output;
  }

  removeOutput(output) {
    const at = this.outputs.indexOf(output);
    for (const id of output.linkIds) this.cut(this.getLink(id));
    this.outputs.splice(at, 1);
    this.holder.outputs.splice(at, 1);
  }
}

class Node {
  constructor(type, { id, title = "", inputs = {}, widgets = {}, outputs = {} } = {}) {
    Object.assign(this, { id, type, title, mode: 0, properties: {}, pos: [0, 0], size: [200, 100] });
    this.widgets = Object.entries(widgets).map(([name, value]) => ({ name, value }));
    const sockets = Object.entries(inputs).map(([name, kind]) => ({ name, type: kind }));
    const ofWidgets = this.widgets.map(({ name, value }) => ({ name, type: typeof value === "number" ? "INT" : "STRING", widget: { name } }));
    this.inputs = [...sockets, ...ofWidgets];
    this.outputs = Object.entries(outputs).map(([name, kind]) => ({ name, type: kind }));
  }

  getInputLink(slot) {
    return [...this.graph.links.values()].find((link) => String(link.target_id) === String(this.id) && link.target_slot === slot) ?? null;
  }

  connect(slot, target, at) {
    const [from, to] = [this.outputs[slot].type, target.inputs[at].type];
    if (target.refuses || (from !== to && from !== "*" && to !== "*")) return null;
    return this.graph.tie(from, [this.id, slot], [target.id, at]);
  }

  disconnectInput(slot) {
    const link = this.incoming(slot);
    if (link) this.graph.cut(link);
  }

  incoming(slot) {
    return Node.prototype.getInputLink.call(this, slot);
  }
}

/** Its getInputLink answers for the inside, as the editor's does: whoever asks it about the outside hears of no link. */
class SubgraphNode extends Node {
  constructor(id, title) {
    super("subgraph-type", { id, title });
    this.subgraph = new Subgraph(`subgraph ${id}`);
    this.subgraph.holder = this;
  }

  getInputLink() {
    return null;
  }

  /** The widget behind a subgraph's input is shown outside as well. */
  promote(at, node, slot) {
    const inner = node.widgets.find((widget) => widget.name === slot.widget?.name);
    if (!inner) return;
    const { name } = this.inputs[at];
    if (this.widgets.some((widget) => widget.name === name)) return;
    this.inputs[at].widget = { name };
    this.widgets.push({ name, get value() { return inner.value; }, set value(value) { inner.value = value; } });
  }

  dropInput(at) {
    this.disconnectInput(at);
    const [{ name }] = this.inputs.splice(at, 1);
    this.widgets = this.widgets.filter((widget) => widget.name !== name);
    for (const link of this.graph.links.values()) if (String(link.target_id) === String(this.id) && link.target_slot > at) link.target_slot--;
  }
}

/** The editor's own Primitive: its widget is made for the input that it feeds, and goes with its last link. */
class PrimitiveNode extends Node {
  constructor(id) {
    super("PrimitiveNode", { id, outputs: { value: "*" } });
    this.isVirtualNode = true;
  }

  onConnected(target, slot) {
    if (this.widgets.length) return;
    this.widgets = [{ name: "value", value: target.widgets.find((widget) => widget.name === target.inputs[slot].widget?.name)?.value }];
  }

  onLastDisconnected() {
    this.widgets = [];
  }
}

/** A node of the pack, with the sockets that a loop uses. */
const KINDS = {
  MarkdownNote: { widgets: { text: "" } },
  CLIPLoader: { widgets: { clip_name: "", type: "" }, outputs: { CLIP: "CLIP" } },
  InterleaveThinkerAgentFromCLIP: { inputs: { clip: "CLIP" }, outputs: { AGENT: "AGENT" } },
  InterleaveThinkerLoadAgent: { widgets: { model: "" }, outputs: { AGENT: "AGENT" } },
  InterleaveThinkerAgentFromServer: { widgets: { endpoint: "" }, outputs: { AGENT: "AGENT" } },
  InterleaveThinkerPlanner: { inputs: { agent: "AGENT", "images.image_0": "IMAGE" }, widgets: { request: "", max_steps: 12, seed: 0 }, outputs: { PLAN: "PLAN" } },
  InterleaveThinkerLoopOpen: {
    inputs: { plan: "PLAN", "images.image_0": "IMAGE" },
    widgets: { seed: 0 },
    outputs: { LOOP: "LOOP", PROMPT: "STRING", REFERENCE: "IMAGE", HAS_REFERENCE: "BOOLEAN", INSTRUCTION: "STRING", SEED: "INT", STEP: "INT", ATTEMPT: "INT" },
  },
  InterleaveThinkerCriticRefine: { inputs: { agent: "AGENT", after: "IMAGE", before: "IMAGE" }, widgets: { instruction: "", prompt: "" }, outputs: { JUDGMENT: "JUDGMENT" } },
  InterleaveThinkerLoopClose: { inputs: { loop: "LOOP", image: "IMAGE", judgment: "JUDGMENT" }, widgets: { t_max: 3 }, outputs: { DOCUMENT: "DOCUMENT" } },
  InterleaveThinkerSaveDocument: { inputs: { document: "DOCUMENT" }, outputs: { PATH: "STRING" } },
};

export function createNode(type) {
  const node = KINDS[type] ? new Node(type, { title: type, ...KINDS[type] }) : null;
  if (type === "MarkdownNote") node.isVirtualNode = true;
  return node;
}

export function createGroup(title) {
  return new Group(title);
}

export function newGraph() {
  return new Graph();
}

export function addNode(graph, id, type, parts = {}) {
  const node = new Node(type, { id, ...parts });
  graph.add(node);
  return node;
}

export function addPrimitive(graph, id) {
  const node = new PrimitiveNode(id);
  graph.add(node);
  return node;
}

export function addReroute(graph, id, type) {
  const node = new Node("Reroute", { id, inputs: { "": type }, outputs: { "": type } });
  node.isVirtualNode = true;
  graph.add(node);
  return node;
}

export function addSubgraph(graph, id, title = "") {
  const node = new SubgraphNode(id, title);
  graph.add(node);
  return node;
}

/** Connect by the names of output and input. */
export function connect(from, output, to, input) {
  const slot = from.outputs.findIndex((one) => one.name === output);
  const at = to.inputs.findIndex((one) => one.name === input);
  if (!from.connect(slot, to, at)) throw new Error(`${from.type} ${output} does not fit ${to.type} ${input}`);
}

/** All that a saved workflow would hold: nodes, values, links by their ends, properties, and what is in subgraphs. */
export function saved(graph) {
  const origin = (node, slot) => {
    const link = node.incoming(slot);
    return link && [String(link.origin_id), link.origin_slot];
  };
  return {
    inputs: graph.inputs.map(({ name, type }) => [name, type]),
    outputs: graph.outputs.map(({ name, type }) => [name, type]),
    links: graph.links.size,
    groups: graph.groups.map(({ title, pos, size }) => [title, pos, size]),
    nodes: graph.nodes.map((node) => ({
      id: node.id,
      type: node.type,
      title: node.title,
      properties: structuredClone(node.properties),
      widgets: node.widgets.map(({ name, value }) => [name, value]),
      inputs: node.inputs.map(({ name }, slot) => [name, origin(node, slot)]),
      subgraph: node.subgraph ? saved(node.subgraph) : null,
    })),
  };
}

/** The prompt that the editor would queue: {"57:27": {class_type, inputs}}, subgraphs unfolded. A node that is not installed has no type there. */
export function promptOf(graph, path = []) {
  const prompt = {};
  for (const node of graph.nodes) {
    if (node.subgraph) Object.assign(prompt, promptOf(node.subgraph, [...path, node]));
    else if (!node.isVirtualNode && node.mode !== 4) prompt[idIn(path, node)] = { class_type: node.missing ? undefined : node.type, _meta: { title: node.title }, inputs: inputsOf(node, path) };
  }
  return prompt;
}

function idIn(path, node) {
  return [...path, node].map(({ id }) => id).join(":");
}

function inputsOf(node, path) {
  const inputs = Object.fromEntries(node.widgets.map(({ name, value }) => [name, value]));
  node.inputs.forEach(({ name }, slot) => {
    const value = valueOf(node, slot, path);
    if (value !== undefined) inputs[name] = value;
  });
  return inputs;
}

/** What comes into an input: ["id", slot], a primitive's value, or undefined. */
function valueOf(node, slot, path) {
  const link = node.incoming(slot);
  if (!link) return undefined;
  if (Number(link.origin_id) === INPUT_NODE) return valueOf(path.at(-1), link.origin_slot, path.slice(0, -1));
  return outputOf(node.graph.getNodeById(link.origin_id), link.origin_slot, path);
}

function outputOf(node, slot, path) {
  if (node.type === "PrimitiveNode") return node.widgets[0]?.value;
  if (node.isVirtualNode) return valueOf(node, 0, path);
  if (node.mode === 4) return valueOf(node, node.inputs.findIndex((input) => input.type === node.outputs[slot].type), path);
  if (!node.subgraph) return [idIn(path, node), slot];
  const link = node.subgraph.getLink(node.subgraph.outputs[slot].linkIds[0]);
  return outputOf(node.subgraph.getNodeById(link.origin_id), link.origin_slot, [...path, node]);
}
