/** "Wrap in Interleave Loop" and "Unwrap": commands, menus and key binding. */
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { ask } from "./choice_dialog.mjs";
import { pathTo, rootOf, showToast } from "./graph.mjs";
import { NODE_IDS, PACKAGED_CLIP, PREFIX } from "./contract.mjs";
import { RECORD, WrapError, recordIn, unwrap, wrap } from "./wrap.mjs";
import { compared, missingIn, missingWords, refuseMissing, takePrompt, unwrapChanges, withoutMissing, wrapChanges } from "./wrap_check.mjs";
import { NEXT, lookAt } from "./wrap_layout.mjs";

const WRAP = `${PREFIX}.Wrap`;
const UNWRAP = `${PREFIX}.Unwrap`;

const toast = (severity, detail) => showToast(app, severity, detail, 8000);

function openGraph() {
  return app.canvas?.graph ?? app.graph;
}

/** What each place could be, as the core finds it. */
async function candidates(workflow, output, among) {
  const reply = await api.fetchApi("/interleave_thinker/choose", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ workflow, output, among }),
  });
  const found = await reply.json();
  if (!reply.ok) throw new WrapError(String(found.error ?? "The server could not read the workflow."));
  return found;
}

/** Ids of the selected nodes as the queued prompt has them, or null where none is selected. */
function selection(above) {
  const chosen = Object.values(app.canvas?.selected_nodes ?? {});
  return chosen.length > 1 ? chosen.map((node) => [...above, node.id].join(":")) : null;
}

/** A node for a person; with `input`, one of its boxes. */
function label(prompt, id, detail, input = "") {
  const title = prompt[id]?._meta?.title ?? prompt[id]?.class_type ?? "node";
  return { title: `${title}${input && `, ${input}`} (node ${id})`, detail: String(detail ?? "") };
}

/** The places, and the CLIP that can be the agent; asked of the person where there are several; null where the person cancelled. */
async function choose(prompt, among) {
  let found = await candidates(prompt, null, among);
  if (found.outputs.length > 1) {
    const options = found.outputs.map((id) => ({ value: id, ...label(prompt, id, prompt[id].class_type) }));
    const picked = await ask("Wrap in Interleave Loop", [{ name: "output", legend: "Which result should each step make?", options }]);
    if (!picked) return null;
    found = await candidates(prompt, picked.output, among);
  }
  if (among && !found.outputs.length) throw new WrapError("None of the selected nodes saves or shows a picture. Select that node too, or select nothing.");
  if (among && !found.prompts.length) throw new WrapError("No text in the selected nodes reaches the picture. Select the prompt's node too, or select nothing.");
  if (!found.outputs.length) throw new WrapError("No node of this workflow saves or shows a picture. Add Save Image or Preview Image.");
  if (!found.prompts.length) throw new WrapError("No text of this workflow reaches the picture. Connect a prompt first, or un-bypass its nodes.");
  const questions = [];
  if (found.prompts.length > 1) {
    const options = found.prompts.map(([[id, input]], at) => ({ value: String(at), ...label(prompt, id, prompt[id].inputs[input] || "(empty)", input) }));
    questions.push({ name: "prompt", legend: "Which prompt should the loop control?", options });
  }
  if (found.images.length > 1 || found.images.some((image) => !image.known)) {
    const options = found.images.map((image, at) => ({ value: String(at), ...label(prompt, image.node, prompt[image.node].inputs[image.input]) }));
    options.push({ value: "none", title: "None of them", detail: "Each picture is drawn from its text." });
    questions.push({ name: "image", legend: "Which picture should each step edit? The others stay as they are.", options });
  }
  const picked = questions.length ? await ask("Wrap in Interleave Loop", questions) : {};
  if (!picked) return null;
  const [first, ...also] = found.prompts[Number(picked.prompt ?? 0)];
  const image = found.images[Number(picked.image ?? 0)]; // no number, no picture
  return {
    prompt: first,
    also,
    seeds: found.seeds,
    image: image ? [image.node, image.input, image.slot] : null,
    output: found.outputs[0],
    shows: found.shows,
    agentClip: found.agent_clip,
    installedAgent: found.installed_agent,
  };
}

/**
 * How the agents are loaded, and in words why: as the settings say, else by the workflow's own CLIP where it can plan
 * and judge, else what this ComfyUI has: a text encoder that can (`installed`), folders, or the name of the usual file.
 */
async function agentsFor(prompt, clip, installed, path) {
  const wanted = app.extensionManager?.setting?.get?.(`${PREFIX}.Agent`);
  if (typeof wanted === "string" && /^(clip|folder|server):./.test(wanted)) {
    const [kind, ...rest] = wanted.split(":");
    return { planner: { kind, name: rest.join(":") }, critic: null, why: "" };
  }
  const outside = Boolean(clip.node) && !path.every((id, at) => clip.node.split(":")[at] === id);
  if (clip.node && !outside) {
    const loras = clip.loras.length ? ` ${clip.loras.join(", ")} is on it for your pictures; the agent works without.` : "";
    const note = clip.note ? ` ${clip.note}` : "";
    return { planner: { kind: "node", name: clip.node }, critic: null, why: `The agent is your workflow's own CLIP, ${label(prompt, clip.node).title}.${loras}${note}` };
  }
  const why = `The agent is a second model: ${outside ? "the workflow's own CLIP lies outside this subgraph" : clip.why_not}.`;
  return { ...(await agentsHere(installed)), why };
}

async function agentsHere(installed) {
  if (installed) return { planner: { kind: "clip", name: installed }, critic: null };
  const folders = await comboOptions(NODE_IDS.load_agent, "model");
  const named = (word) => folders.find((folder) => folder.toLowerCase().includes(word));
  const planner = named("planner") ?? folders[0];
  if (!planner) return { planner: { kind: "clip", name: PACKAGED_CLIP }, critic: null };
  const critic = named("critic") ?? planner;
  return { planner: { kind: "folder", name: planner }, critic: critic === planner ? null : { kind: "folder", name: critic } };
}

/** What a combo input of a node offers here. */
async function comboOptions(kind, input) {
  const reply = await api.fetchApi(`/object_info/${kind}`);
  const info = reply.ok ? (await reply.json())[kind] : null;
  const spec = info?.input?.required?.[input];
  const list = Array.isArray(spec?.[0]) ? spec[0] : (spec?.[1]?.options ?? []);
  return list.filter((name) => typeof name === "string" && name && !/^(none|no .*|<.*>)$/i.test(name));
}

let busy = false;

/** The places, chosen among the nodes that are there. A missing node on the way to the result is named instead. */
async function chooseInstalled(root, whole, among) {
  const places = await choose(withoutMissing(whole), among).catch((error) => {
    const missing = missingIn(whole);
    throw missing.length && error instanceof WrapError ? new WrapError(`${missingWords(root, missing)} Without them: ${error.message}`) : error;
  });
  if (places) refuseMissing(root, whole, places.output);
  return places;
}

function sayFailure(error, what) {
  // What JavaScript says of an error of ours helps nobody; the console has it.
  const known = error instanceof WrapError;
  toast("error", known ? error.message : `${what} failed, and nothing was changed. The browser's console (F12) says why.`);
  if (!known) throw error;
}

async function wrapOpenGraph() {
  if (busy) return; // a key that is held down
  busy = true;
  try {
    const scope = openGraph();
    const root = rootOf(app);
    const id = root.id;
    const path = pathTo(root, scope) ?? [];
    const whole = await takePrompt(app);
    const prompt = withoutMissing(whole);
    if (Object.values(prompt).some((node) => node.class_type.startsWith(PREFIX))) {
      throw new WrapError("This workflow has a loop already. Unwrap it first, or change the loop that is there.");
    }
    const chosen = await chooseInstalled(root, whole, selection(path));
    if (!chosen) return;
    const { agentClip, installedAgent, ...places } = chosen;
    const { why, ...agents } = await agentsFor(prompt, agentClip, installedAgent, path);
    if (openGraph() !== scope || rootOf(app) !== root || root.id !== id) throw new WrapError("Another graph was opened meanwhile; nothing was changed.");
    const make = (kind) => window.LiteGraph.createNode(kind);
    const makeGroup = (title) => (window.LiteGraph.LGraphGroup ? new window.LiteGraph.LGraphGroup(title) : null);
    const act = (now) => wrap(root, scope, now, places, agents, make, makeGroup);
    const open = await compared(app, "Wrapping", act, (before, after, made) => wrapChanges(before, after, made, path));
    const { added, layout } = open.properties[RECORD];
    const planner = added.find(({ type }) => type === NODE_IDS.planner);
    lookAt(app.canvas, [planner, layout.note].filter(Boolean).map((one) => scope.getNodeById(one.id)));
    const reference = places.image
      ? `Each step edits the picture of ${label(prompt, places.image[0]).title}, then the last accepted one.`
      : "No picture is edited here: each step is drawn from its text.";
    const also = places.also.filter((place) => place[0] !== places.prompt[0]).map((place) => label(prompt, place[0]).title);
    const words = [label(prompt, places.prompt[0]).title, ...also].join(" and ");
    toast("success", `${NEXT} Prompt: ${words}. ${reference}${places.seeds.length ? "" : " No seed was found: a retry differs by its prompt alone."} ${why}`);
  } catch (error) {
    sayFailure(error, "Wrapping");
  } finally {
    busy = false;
  }
}

async function unwrapOpenGraph() {
  if (busy) return;
  busy = true;
  try {
    const scope = openGraph();
    const path = pathTo(rootOf(app), scope) ?? [];
    const { record, request } = recordIn(scope);
    const { left, passed, kept } = await compared(app, "Unwrapping", () => unwrap(scope), (before, after) => unwrapChanges(before, after, record, request, path));
    if (left.length) return toast("warn", `The loop is off, but ${left.join(", ")} had to stay: other nodes read it. Connect these to something else, then delete it.`);
    if (!kept) return toast("warn", "The loop is off. The prompt comes from outside this graph and is as it was, without what you changed in the request. Undo brings that back.");
    const words = request === record.request ? "prompt, seed and pictures are as they were" : "your request is the prompt now, seed and pictures are as they were";
    toast("success", `The loop is off; ${passed ? "what you changed since stays, the rest is as it was" : words}.`);
  } catch (error) {
    sayFailure(error, "Unwrapping");
  } finally {
    busy = false;
  }
}

app.registerExtension({
  name: `${PREFIX}.wrap`,
  commands: [
    { id: WRAP, label: "Wrap in Interleave Loop", icon: "pi pi-sync", function: wrapOpenGraph },
    { id: UNWRAP, label: "Unwrap Interleave Loop", icon: "pi pi-undo", function: unwrapOpenGraph },
  ],
  keybindings: [{ commandId: WRAP, combo: { key: "l", ctrl: true, shift: true } }],
  menuCommands: [{ path: ["Extensions", "Interleave"], commands: [WRAP, UNWRAP] }],
  getCanvasMenuItems: () => [
    { content: "Wrap in Interleave Loop", callback: () => wrapOpenGraph() },
    { content: "Unwrap Interleave Loop", callback: () => unwrapOpenGraph() },
  ],
  getSelectionToolboxCommands: () => ((app.canvas?.selectedItems?.size ?? 0) > 1 ? [WRAP] : []),
});
