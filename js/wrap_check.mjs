/**
 * What keeps Wrap and Unwrap from damage: nodes that are not installed are named before anything is changed, and the
 * queued prompt is compared before and after. If anything but the chosen places differs, the graph is loaded as it was.
 */

import { asOneUndoStep, nodeById, rootOf } from "./graph.mjs";
import { RECORD, WrapError, bodyOf, isLink } from "./wrap.mjs";

const MOST_NAMED = 6;
const MORE_TAKES = 6;

/** The prompt as it would be queued, of its own: later changes of the graph do not reach it. */
export async function takePrompt(app) {
  return JSON.parse(JSON.stringify((await app.graphToPrompt()).output));
}

/** Ids of the nodes that this ComfyUI does not have: the editor cannot say what they are. */
export function missingIn(prompt) {
  return Object.keys(prompt).filter((id) => !prompt[id].class_type);
}

/** The prompt less its missing nodes and the links to them. */
export function withoutMissing(prompt) {
  const missing = new Set(missingIn(prompt));
  if (!missing.size) return prompt;
  const linked = (value) => isLink(value) && missing.has(String(value[0]));
  const kept = Object.entries(prompt).filter(([id]) => !missing.has(id));
  return Object.fromEntries(kept.map(([id, node]) => [id, { ...node, inputs: Object.fromEntries(Object.entries(node.inputs).filter(([, value]) => !linked(value))) }]));
}

/** Refuse where a missing node is on the way to `output`. */
export function refuseMissing(root, prompt, output) {
  const way = bodyOf(prompt, output).add(output);
  const missing = missingIn(prompt).filter((id) => way.has(id));
  if (missing.length) throw new WrapError(missingWords(root, missing));
}

export function missingWords(root, ids) {
  const names = ids.map((id) => {
    const node = nodeById(root, id);
    const type = node?.last_serialization?.type || node?.type || "unknown type";
    return node?.title && node.title !== type ? `${short(node.title)} (${short(type)}, node ${id})` : `${short(type)} (node ${id})`;
  });
  return `This workflow needs nodes that are not installed: ${listed(names)}. Install them first (Manager > Install Missing Custom Nodes), then wrap again.`;
}

/**
 * Do `act` to the graph as one undo step, and compare. Where it fails, or changes more than it should, the graph is
 * loaded as it was.
 * @param act does it: gets the prompt as it is, less missing nodes; what it returns is returned
 * @param changesOf (before, after, what act returned) => what differs that should not, as [[id, input or none], ...]
 */
export async function compared(app, what, act, changesOf) {
  const root = rootOf(app);
  const workflow = openWorkflow(app);
  const isOpen = () => rootOf(app) === root && openWorkflow(app) === workflow;
  const saved = JSON.parse(JSON.stringify(root.serialize()));
  const take = async () => withoutMissing(await takePrompt(app));
  const before = await take();
  const unstable = new Set(differences(before, await take()).map(keyOf)); // random seeds, {a|b}, a camera
  const lasting = async (changesIn) => {
    let after = await take();
    let changes = changesIn(after).filter((change) => !unstable.has(keyOf(change)));
    for (let n = 0; changes.length && n < MORE_TAKES; n++) {
      const again = await take();
      const still = new Set(changesIn(again).map(keyOf));
      changes = changes.filter((change) => still.has(keyOf(change)) && same(heldAt(after, change), heldAt(again, change)));
      after = again;
    }
    return changes;
  };
  return asOneUndoStep(app, async () => {
    if (!isOpen()) throw new WrapError("Another workflow was opened meanwhile; nothing was changed.");
    try {
      const made = act(before);
      const changes = await lasting((after) => changesOf(before, after, made));
      if (changes.length) throw new WrapError(`${what} would have changed ${changedWords(before, changes)}; nothing was changed. Please report this workflow.`);
      return made;
    } catch (error) {
      if (!isOpen()) throw new WrapError(`Another workflow was opened before ${what.toLowerCase()} was checked. Go back to the first one, and undo there what is not right.`);
      const differs = await lasting((after) => differences(before, after)).then((changes) => changes.length > 0, () => true);
      if (differs) await loadAgain(app, saved);
      throw error;
    }
  });
}

function openWorkflow(app) {
  return app.extensionManager?.workflow?.activeWorkflow ?? null;
}

/** As undo does it; but loading would make an unsaved workflow look saved. */
async function loadAgain(app, saved) {
  const workflow = openWorkflow(app);
  const unsaved = workflow?.isModified;
  await app.loadGraphData(saved, false, false, workflow);
  if (unsaved) workflow.isModified = true;
}

/** What wrapping changed besides the places that its record names. */
export function wrapChanges(before, after, open, scopePath) {
  const { added, was } = open.properties[RECORD];
  const ours = idsOf(added, scopePath);
  const fed = (place) => [[...scopePath, open.id].join(":"), place.output];
  const right = (change) => {
    const reads = (place) => same(fed(place), heldAt(after, change));
    return ours.has(change[0]) || was.some((place) => isPlace(place, change) || (sameBox(place, change, scopePath) && same(place.value, heldAt(before, change)) && reads(place)));
  };
  const unfed = was.filter((place) => !same(fed(place), heldAt(after, [place.id, place.input]))).map(({ id, input }) => [id, input]);
  const lost = [...ours].filter((id) => !(id in after)).map((id) => [id]);
  return [...differences(before, after).filter((change) => !right(change)), ...unfed, ...lost];
}

/** What unwrapping changed besides the loop's own nodes and the places that they fed. `request` is the prompt now. */
export function unwrapChanges(before, after, record, request, scopePath) {
  const ours = idsOf(record.added, scopePath);
  const was = record.was ?? [];
  const edited = (old, now) => same(old, record.request) && same(now, request);
  return differences(before, after).filter((change) => {
    if (ours.has(change[0])) return change[0] in after && !(change[0] in before);
    const [old, now] = [heldAt(before, change), heldAt(after, change)];
    if (!isLink(old) || !ours.has(String(old[0]))) return !edited(old, now); // the node that the text came from
    const place = was.find((one) => isPlace(one, change)) ?? was.find((one) => sameBox(one, change, scopePath) && one.output === old[1]);
    return Boolean(place) && !same(place.value, now) && !edited(place.value, now);
  });
}

function isPlace(place, [id, input]) {
  return place.id === id && place.input === input;
}

/** Whether both lie in one subgraph, whose input may bring the same to several nodes: a box outside that feeds them all. */
function sameBox(place, [id], scopePath) {
  const [one, other] = [place.id.split(":"), id.split(":")];
  const depth = scopePath.length;
  return Math.min(one.length, other.length) > depth + 1 && one[depth] === other[depth];
}

function idsOf(added, scopePath) {
  return new Set(added.map(({ id }) => [...scopePath, id].join(":")));
}

/** [[id], ...] for nodes of one prompt only or of another type, [[id, input], ...] for what an input holds. */
function differences(one, other) {
  const found = [];
  for (const id of new Set([...Object.keys(one), ...Object.keys(other)])) {
    if (one[id]?.class_type !== other[id]?.class_type) {
      found.push([id]);
      continue;
    }
    for (const input of new Set([...Object.keys(one[id].inputs), ...Object.keys(other[id].inputs)])) {
      if (!same(one[id].inputs[input], other[id].inputs[input])) found.push([id, input]);
    }
  }
  return found;
}

function heldAt(prompt, [id, input]) {
  return input === undefined ? prompt[id]?.class_type : prompt[id]?.inputs[input];
}

function keyOf(change) {
  return JSON.stringify(change);
}

function same(one, other) {
  return JSON.stringify(one) === JSON.stringify(other);
}

function changedWords(before, changes) {
  const titled = (id) => `${short(before[id]?._meta?.title || before[id]?.class_type || "a new node")} (node ${id})`;
  return listed(changes.map(([id, input]) => (input === undefined ? titled(id) : `${input} of ${titled(id)}`)));
}

function listed(names) {
  const rest = names.length - MOST_NAMED;
  return `${names.slice(0, MOST_NAMED).join(", ")}${rest > 0 ? ` and ${rest} more` : ""}`;
}

function short(text) {
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
