/**
 * Put a loop around the graph that is open in the editor, and take it off again. Works on LiteGraph's own objects.
 * The server finds prompt, seed, image and output beforehand (POST /interleave_thinker/choose, nodes/routes.py).
 * Loop Open's properties hold a record of every change. Unwrapping reads the record and gives the graph back.
 */

import { LOOP_OPEN_OUTPUTS, MAX_STEPS, NODE_IDS, PACKAGED_CLIP, PACKAGED_CLIP_URL, PREFIX } from "./contract.mjs";
import { allNodes, linkInto, nodeById, pathsTo, raiseIds, setWidget, slotOf, widgetOf } from "./graph.mjs";
import { clearLayout, layOut, markFed } from "./wrap_layout.mjs";

const PACK = "interleave-thinker";
export const RECORD = "interleave_wrap";
const INPUT_NODE = -10; // LiteGraph's id of a subgraph's own inputs, a number or a text
const BYPASSED = 4; // LiteGraph's mode
const OPEN = Object.fromEntries(LOOP_OPEN_OUTPUTS.map((name, number) => [name, number]));

/** Something that the person has to change first. */
export class WrapError extends Error {}

/**
 * Wrap `scope`, the graph that is open.
 * @param places {prompt: ["57:27", "text"], also: [[...]], seeds: [[...]], image: ["41", "image", 0] or null, output: "9", shows: "images"} by ids of the queued prompt
 * @param prompt the queued prompt (API format) that the places were chosen from
 * @param agents how agents are loaded: {planner: {kind, name}, critic: {kind, name} or null}. Kind "node": by a Load
 *   CLIP that is there, which `name` is the id of
 * @param make makes a node by its type
 * @param makeGroup makes a frame by its title
 * @returns the Loop Open node
 */
export function wrap(root, scope, prompt, places, agents, make, makeGroup) {
  const record = { added: [], fed: [], exposed: [], chosen: places, layout: { note: null, groups: [], titles: [] } };
  raiseIds(root);
  try {
    return build(root, scope, prompt, places, agents, make, makeGroup, record);
  } catch (error) {
    restore(scope, record, record.request); // half a loop is worse than none
    throw error;
  }
}

function build(root, scope, prompt, places, agents, make, makeGroup, record) {
  const [scopePath, ...others] = pathsTo(root, scope);
  if (!scopePath) throw new WrapError("The open graph is not part of this workflow.");
  if (others.length) throw new WrapError(`This subgraph is used ${others.length + 1} times, and each would get a loop. Go up one level and wrap there.`);
  if (Object.values(prompt).some((node) => node.class_type.startsWith(PREFIX)) || scope.nodes.some((node) => node.type?.startsWith(PREFIX))) {
    throw new WrapError("This workflow has a loop already. Unwrap it first, or change the loop that is there.");
  }
  for (const [id, input] of [places.prompt, ...places.also, ...places.seeds, [places.output]]) {
    if (!prompt[id] || (input && !(input in prompt[id].inputs))) throw new WrapError("The workflow changed meanwhile. Wrap it again.");
  }
  record.was = changedPlaces(prompt, places);
  const request = String(prompt[places.prompt[0]].inputs[places.prompt[1]]);
  const seed = seedOf(places.seeds.length ? prompt[places.seeds[0][0]].inputs[places.seeds[0][1]] : 0);

  const promptSockets = [places.prompt, ...places.also].map((place) => socketInScope(scope, scopePath, place, "The prompt", record));
  const seedSockets = places.seeds.map((place) => socketInScope(scope, scopePath, place, "The seed", record));
  for (const socket of [...promptSockets, ...seedSockets]) refuseTypedOutside(root, scopePath, socket);
  const readers = places.image ? readersOf(scope, scopePath, record.was) : [];
  const result = resultOf(scope, scopePath, prompt, places, record);

  const added = [];
  const add = (kind, values = {}) => {
    const node = make(kind);
    if (!node) throw new WrapError(`This ComfyUI has no node ${kind}. Update ComfyUI or the pack.`);
    scope.add(node);
    if (kind.startsWith(PREFIX)) node.properties.cnr_id ??= PACK; // so that ComfyUI can name the pack where it is missing
    record.added.push({ id: node.id, type: kind });
    for (const [name, value] of Object.entries(values)) setWidget(node, name, value);
    added.push(node);
    return node;
  };
  const ownClip = (id) => originInScope(scope, pathInScope(scopePath, id, "The text encoder"), 0, record);
  const plannerAgent = addAgent(scope, add, agents.planner, ownClip);
  const criticAgent = agents.critic ? addAgent(scope, add, agents.critic, ownClip) : plannerAgent;
  const planner = add(NODE_IDS.planner, { request, max_steps: MAX_STEPS, seed });
  const open = add(NODE_IDS.loop_open, { seed });
  const critic = add(NODE_IDS.critic_refine);
  const close = add(NODE_IDS.loop_close);
  const save = add(NODE_IDS.save_document);

  connect(plannerAgent, 0, planner, "agent");
  connect(criticAgent, 0, critic, "agent");
  connect(planner, 0, open, "plan");
  if (readers.length) {
    const picture = originOf(scope, readers[0]);
    for (const taker of [planner, open]) link(scope, picture, taker, slotOf(taker, "images.image_0"));
    for (const reader of readers) feed(scope, record, open, OPEN.reference, reader);
    connect(open, OPEN.reference, critic, "before");
  }
  for (const socket of promptSockets) feed(scope, record, open, OPEN.prompt, socket);
  for (const socket of seedSockets) feed(scope, record, open, OPEN.seed, socket);
  link(scope, result, critic, slotOf(critic, "after"));
  connect(open, OPEN.instruction, critic, "instruction");
  connect(open, OPEN.prompt, critic, "prompt");
  connect(open, OPEN.loop, close, "loop");
  link(scope, result, close, slotOf(close, "image"));
  connect(critic, 0, close, "judgment");
  connect(close, 0, save, "document");

  markFed(scope, [places.prompt, ...places.also].map(([id]) => pathInScope(scopePath, id, "The prompt")), record.layout);
  const agentNodes = added.filter((node) => ![planner, open, critic, close, save].includes(node));
  layOut(scope, { left: [agentNodes, [planner], [open]], right: [[critic], [close], [save]] }, record.layout, make, makeGroup);
  record.request = request;
  record.open = open.id;
  open.properties[RECORD] = record;
  return open;
}

/** The places that the loop takes over, as {id, input, value, output}: by ids of the queued prompt, with what each held. */
function changedPlaces(prompt, places) {
  const at = (output) => ([id, input]) => ({ id, input, value: prompt[id].inputs[input], output });
  const readers = [];
  for (const id of places.image ? bodyOf(prompt, places.output) : []) {
    for (const [input, value] of Object.entries(prompt[id].inputs)) if (isPicture(value, places)) readers.push([id, input]);
  }
  return [...[places.prompt, ...places.also].map(at(OPEN.prompt)), ...places.seeds.map(at(OPEN.seed)), ...readers.map(at(OPEN.reference))];
}

/** A seed that the loop's nodes take. What was there, such as -1, comes back with the record. */
function seedOf(typed) {
  const value = typeof typed === "string" && typed.trim() ? Number(typed) : typed;
  return Number.isInteger(value) && value >= 0 && value < 2 ** 64 ? value : 0;
}

function isPicture(value, places) {
  return isLink(value) && String(value[0]) === places.image[0] && value[1] === (places.image[2] ?? 0);
}

/** The record of the loop in `scope`, and the request as it is now: {record, request}. */
export function recordIn(scope) {
  const opens = scope.nodes.filter((node) => node.type === NODE_IDS.loop_open);
  if (!opens.length) throw new WrapError(`There is no loop in this graph.${whereElse(scope.rootGraph ?? scope)}`);
  const open = opens.find((node) => node.properties?.[RECORD]);
  if (!open) throw new WrapError("This loop was not made by Wrap; there is nothing written down to go back to.");
  const record = open.properties[RECORD];
  if (String(record.open) !== String(open.id)) {
    throw new WrapError("This loop is a copy: its record names the nodes of the loop that it was copied from. Take it off by hand.");
  }
  const planner = addedNodes(scope, record).find((node) => node.type === NODE_IDS.planner);
  return { record, request: widgetOf(planner, "request")?.value ?? record.request };
}

/** Where the loop is that is not in the open graph, as a sentence. */
function whereElse(root) {
  const open = allNodes(root).find((node) => node.type === NODE_IDS.loop_open);
  if (!open) return "";
  return open.graph === root ? " It is outside this subgraph: go up and unwrap there." : ` It is in the subgraph "${open.graph.name}": open that and unwrap there.`;
}

/**
 * Take the loop off `scope`, as its record says. A request that was changed since is kept as the prompt.
 * @returns {left, passed, kept}: the loop's nodes that stay because another node reads them; how many places a person
 *   changed; whether the prompt is the request as it is now
 */
export function unwrap(scope) {
  const { record, request } = recordIn(scope);
  refuseReplaced(scope, record);
  raiseIds(scope.rootGraph ?? scope);
  return restore(scope, record, request);
}

/** Refuse where a node that the loop feeds was put into a subgraph, or taken out of one: the record does not know the new one. */
function refuseReplaced(scope, record) {
  const known = new Set(record.fed.map(({ node }) => String(node)));
  if (record.fed.every(({ node, type }) => scope.getNodeById(node)?.type === type)) return;
  const added = addedNodes(scope, record);
  const others = realReaders(scope, scope.getNodeById(record.open)).filter((reader) => reader && !added.includes(reader) && !known.has(String(reader.id)));
  if (!others.length) return;
  throw new WrapError(`Other nodes than those that Wrap connected read the loop now: ${[...new Set(others.map(titleOf))].join(", ")}. Undo what you changed, or connect them to something else, then unwrap again.`);
}

/** The nodes that read a node, through reroutes; null for the subgraph's own output. */
function realReaders(scope, node) {
  const targets = [...scope.links.values()].filter((from) => String(from.origin_id) === String(node.id)).map((from) => scope.getNodeById(from.target_id));
  return targets.flatMap((target) => (isReroute(target) ? realReaders(scope, target) : [target]));
}

/** The link that comes into a node's input, on the far side of reroutes. */
function linkThroughReroutes(scope, node, slot) {
  const from = linkInto(node, slot);
  const origin = from ? scope.getNodeById(from.origin_id) : null;
  return isReroute(origin) ? linkThroughReroutes(scope, origin, 0) : from;
}

function isReroute(node) {
  return Boolean(node?.isVirtualNode) && node.inputs?.length === 1 && !node.widgets?.length;
}

/** The nodes that a record added, as far as they are still there. */
function addedNodes(scope, record) {
  return record.added.map(({ id, type }) => [scope.getNodeById(id), type]).filter(([node, type]) => node?.type === type).map(([node]) => node);
}

/** Put back the links and values of a record. `request` takes the place of the record's prompt. Returns what `unwrap` does. */
function restore(scope, record, request) {
  if (record.layout) clearLayout(scope, record.layout);
  const added = addedNodes(scope, record);
  let kept = request === record.request;
  const text = (value) => {
    if (value !== record.request) return value;
    kept = true;
    return request;
  };
  let passed = 0;
  for (const place of record.fed) {
    const node = scope.getNodeById(place.node);
    const slot = slotOf(node, place.input);
    const from = slot < 0 ? null : linkThroughReroutes(scope, node, slot);
    if (node?.type !== place.type || !from || !added.some((one) => String(one.id) === String(from.origin_id))) {
      passed++; // a person changed it
      continue;
    }
    const origin = place.from && Number(place.from[0]) !== INPUT_NODE ? scope.getNodeById(asId(scope, place.from[0])) : null;
    if (place.from && (origin || Number(place.from[0]) === INPUT_NODE)) {
      if (origin?.isVirtualNode && "value" in place) setWidget(node, place.input, text(place.value)); // it takes its value from here
      link(scope, place.from, node, slot); // takes the place of the loop's link; a growing input would shrink in between
      const typed = origin?.widgets?.find((widget) => widget.value === record.request);
      if (typed && request !== record.request) setWidget(origin, typed.name, text(typed.value));
      continue;
    }
    node.disconnectInput(slot);
    if ("value" in place) setWidget(node, place.input, text(place.value));
  }
  for (const node of added) {
    if (realReaders(scope, node).every((reader) => added.includes(reader))) scope.remove(node);
  }
  for (const { path, name, output } of [...record.exposed].reverse()) { // an outer output reads the inner one
    const holder = nodeById(scope, path.join(":"));
    const slot = (output ? holder?.subgraph?.outputs : holder?.subgraph?.inputs)?.find((socket) => socket.name === name);
    if (!slot) continue;
    // What a person connected to it since stays.
    if (!output && !linkInto(holder, slotOf(holder, name))) holder.subgraph.removeInput(slot);
    if (output && !isRead(holder, name)) holder.subgraph.removeOutput(slot);
  }
  return { left: addedNodes(scope, record).map(titleOf), passed, kept };
}

function isRead(node, name) {
  const slot = node.outputs.findIndex((output) => output.name === name);
  return [...node.graph.links.values()].some((one) => fromNode(one, node.id, slot));
}

/** {node, slot} in `scope` for an input that may lie deeper, through subgraphs' own inputs (made where missing). */
function socketInScope(scope, scopePath, [id, input], what, record) {
  const path = pathInScope(scopePath, id, what);
  let holder = nodeAt(scope, path);
  let slot = slotOf(holder, input);
  if (slot < 0) throw new WrapError(`${what} is the widget "${input}" of ${titleOf(holder)}, which has no socket.`);
  for (let depth = path.length - 1; depth > 0; depth--) {
    const parent = nodeAt(scope, path.slice(0, depth));
    const inner = parent.subgraph;
    let index = ownInput(inner, holder, slot);
    if (index < 0) {
      const name = freeName(inner.inputs, holder.inputs[slot].name);
      inner.addInput(name, String(holder.inputs[slot].type)).connect(holder.inputs[slot], holder);
      index = inner.inputs.findIndex((i) => i.name === name);
      record.exposed.push({ path: path.slice(0, depth), name });
    }
    holder = parent;
    slot = index;
  }
  return { node: holder, slot };
}

/**
 * Refuse what is typed two or more levels further out: the editor shows the widget there until the workflow is loaded
 * again, and then gives its value to the next widget of that node.
 */
function refuseTypedOutside(root, scopePath, { node, slot }) {
  let from = linkInto(node, slot);
  for (let depth = scopePath.length; from && Number(from.origin_id) === INPUT_NODE && depth > 0; depth--) {
    const outer = nodeAt(root, scopePath.slice(0, depth));
    const typed = outer.inputs[from.origin_slot];
    from = linkInto(outer, from.origin_slot);
    if (!from && typed?.widget && depth < scopePath.length) throw new WrapError(`${typed.label ?? typed.name} is typed further out, in ${titleOf(outer)}. Go up one level and wrap there.`);
  }
}

/** Which of the subgraph's own inputs comes into a socket, directly or through bypassed nodes and reroutes; -1: none. */
function ownInput(inner, holder, at, depth = 0) {
  const from = linkInto(holder, at);
  if (!from || depth > 20) return -1;
  if (Number(from.origin_id) === INPUT_NODE) return from.origin_slot;
  const node = inner.getNodeById(from.origin_id);
  const passes = node && (node.mode === BYPASSED || node.isVirtualNode);
  if (!passes) return -1;
  const slots = node.inputs.map((input, slot) => (input.type === from.type || input.type === "*" || node.isVirtualNode ? slot : -1));
  return slots.filter((slot) => slot >= 0).map((slot) => ownInput(inner, node, slot, depth + 1)).find((slot) => slot >= 0) ?? -1;
}

/** The inputs in `scope` through which the body reads the picture. */
function readersOf(scope, scopePath, was) {
  const found = new Map();
  for (const { id, input } of was.filter(({ output }) => output === OPEN.reference)) {
    const path = pathInScope(scopePath, id, "A reader of the picture");
    let holder = nodeAt(scope, path);
    let slot = slotOf(holder, input);
    for (let depth = path.length - 1; depth > 0; depth--) {
      const parent = nodeAt(scope, path.slice(0, depth));
      slot = ownInput(parent.subgraph, holder, slot);
      if (slot < 0) throw new WrapError(`The picture is loaded inside ${titleOf(parent)}. Open that subgraph and wrap there, or move the node that loads it out of it.`);
      holder = parent;
    }
    if (linkInto(holder, slot)) found.set(`${holder.id}.${slot}`, { node: holder, slot });
  }
  if (!found.size) throw new WrapError("Nothing in this graph reads the picture.");
  return [...found.values()];
}

/** [origin id, slot] in `scope` of the picture that the output node shows, through subgraphs' own outputs (made where missing). */
function resultOf(scope, scopePath, prompt, { output, shows: name }, record) {
  const value = prompt[output].inputs[name];
  if (!isLink(value)) throw new WrapError(`Node ${output} shows no picture.`);
  const shown = output.split(":");
  if (shown.length === scopePath.length + 1 && scopePath.every((id, at) => shown[at] === id)) {
    const saver = scope.getNodeById(asId(scope, shown.at(-1)));
    return originOf(scope, { node: saver, slot: slotOf(saver, name) });
  }
  return originInScope(scope, pathInScope(scopePath, String(value[0]), "The result"), value[1], record);
}

/** [origin id, slot] in `scope` of an output that may lie deeper, through subgraphs' own outputs (made where missing). */
function originInScope(scope, path, output, record) {
  let id = path.at(-1);
  let slot = output;
  for (let depth = path.length - 1; depth > 0; depth--) {
    const inner = nodeAt(scope, path.slice(0, depth)).subgraph;
    const leaves = () => inner.outputs.findIndex((out) => out.linkIds?.some((l) => fromNode(inner.getLink(l), id, slot)));
    if (leaves() < 0) {
      const from = nodeAt(scope, [...path.slice(0, depth), id]);
      const made = freeName(inner.outputs, from.outputs[slot].name);
      inner.addOutput(made, String(from.outputs[slot].type)).connect(from.outputs[slot], from);
      record.exposed.push({ path: path.slice(0, depth), name: made, output: true });
    }
    slot = leaves();
    id = path[depth - 1];
  }
  return [asId(scope, id), slot];
}

function fromNode(from, id, slot) {
  return from && String(from.origin_id) === String(id) && from.origin_slot === slot;
}

function pathInScope(scopePath, id, what) {
  const path = String(id).split(":");
  if (path.length <= scopePath.length || !scopePath.every((part, at) => path[at] === part)) {
    throw new WrapError(`${what} (node ${id}) lies outside this subgraph. Go up one level and wrap there.`);
  }
  return path.slice(scopePath.length);
}

function nodeAt(graph, path) {
  let node = null;
  let inner = graph;
  for (const id of path) {
    node = inner?.getNodeById(asId(inner, id));
    if (!node) throw new WrapError(`The workflow has no node ${path.join(":")}.`);
    inner = node.subgraph;
  }
  return node;
}

/** Node ids are numbers in most graphs and texts in some. */
function asId(graph, id) {
  return graph.getNodeById(Number(id)) ? Number(id) : id;
}

function originOf(scope, { node, slot }) {
  const from = linkInto(node, slot);
  if (!from) throw new WrapError(`${titleOf(node)} has nothing connected to ${node.inputs[slot].name}.`);
  return [from.origin_id, from.origin_slot];
}

/** Connect an origin, which may be the subgraph's own input, to a socket. */
function link(scope, [origin, slot], node, at) {
  if (at < 0) throw new WrapError(`${titleOf(node)} lacks the socket that the loop needs. Update the pack.`);
  if (Number(origin) === INPUT_NODE) scope.inputs[slot].connect(node.inputs[at], node);
  else scope.getNodeById(asId(scope, origin)).connect(slot, node, at);
}

function connect(from, slot, to, name) {
  from.connect(slot, to, slotOf(to, name));
}

/** Connect an output of Loop Open to a socket. Record the link or value that the socket had. */
function feed(scope, record, open, output, { node, slot }) {
  const input = node.inputs[slot];
  const entry = { node: node.id, type: node.type, input: input.name };
  const from = linkInto(node, slot);
  const widget = widgetOf(node, input.widget?.name ?? input.name);
  if (from) entry.from = [from.origin_id, from.origin_slot];
  const origin = from && Number(from.origin_id) !== INPUT_NODE ? scope.getNodeById(from.origin_id) : null;
  if (origin?.isVirtualNode && origin.widgets?.length) entry.value = origin.widgets[0].value;
  else if (!from && widget) entry.value = widget.value;
  record.fed.push(entry);
  open.connect(output, node, slot);
  const newLink = linkInto(node, slot);
  if (String(newLink?.origin_id) !== String(open.id)) throw new WrapError(`${titleOf(node)} does not take what the loop gives for ${input.name}.`);
}

function addAgent(scope, add, { kind, name }, ownClip) {
  if (kind === "node") {
    const origin = ownClip(name); // before the agent is added: it may lie outside
    const agent = add(NODE_IDS.agent_from_clip);
    link(scope, origin, agent, slotOf(agent, "clip"));
    return agent;
  }
  if (kind === "folder") return add(NODE_IDS.load_agent, { model: name });
  if (kind === "server") return add(NODE_IDS.agent_from_server, { endpoint: name });
  const clip = add("CLIPLoader", { clip_name: name, type: "qwen_image" });
  // With it, ComfyUI offers the download where the file is missing.
  if (name === PACKAGED_CLIP) clip.properties.models = [{ name, url: PACKAGED_CLIP_URL, directory: "text_encoders" }];
  const agent = add(NODE_IDS.agent_from_clip);
  connect(clip, 0, agent, "clip");
  return agent;
}

function freeName(sockets, name) {
  let free = name;
  for (let n = 2; sockets.some((socket) => socket.name === free); n++) free = `${name}_${n}`;
  return free;
}

/** The nodes that the output depends on, the output left out. */
export function bodyOf(prompt, output) {
  const seen = new Set();
  const waiting = [output];
  while (waiting.length) {
    const id = waiting.pop();
    if (seen.has(id) || !prompt[id]) continue;
    seen.add(id);
    waiting.push(...Object.values(prompt[id].inputs).filter(isLink).map((value) => String(value[0])));
  }
  seen.delete(output);
  return seen;
}

export function isLink(value) {
  return Array.isArray(value) && value.length === 2 && Number.isInteger(value[1]);
}

function titleOf(node) {
  return `${node.title || node.type} (node ${node.id})`;
}
