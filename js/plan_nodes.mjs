/** The nodes that hold a plan, and what people do to it: read, edit as cards, rewrite a step, make it alone. */
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { changing, idOf, linkInto, nodeById, rootOf, setWidget, slotOf, sourceOf, tell, widgetOf } from "./graph.mjs";
import { toCards, toText } from "./plan.mjs";
import { editPlan } from "./plan_dialog.mjs";

/** The widget that holds a plan's text, by type of node. */
export const HOLDS = { InterleaveThinkerPlanner: "edited_plan", InterleaveThinkerPlanFromText: "text" };
export const PLANNER = "InterleaveThinkerPlanner";

/** The last plan that each Planner wrote in this page, by node. */
export const planned = new WeakMap();
const watchers = [];

/** Call `watcher(node)` when a node's plan was changed here. */
export function onPlan(watcher) {
  watchers.push(watcher);
}

/** {plan, error} of a plan's text, as the server reads it. */
export async function read(text, maxSteps) {
  const reply = await api.fetchApi("/interleave_thinker/plan", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ text, max_steps: maxSteps }),
  });
  return reply.ok ? reply.json() : { plan: null, error: "The server cannot check the plan." };
}

/** The plan that a Loop Close runs comes from this node; null where that is none of ours. */
export function planNodeOf(close) {
  const open = close && sourceOf(close, "loop");
  const node = open && sourceOf(open, "plan");
  return node && HOLDS[node.type] ? node : null;
}

/** Open the editor on a node's plan, or on `plan` where a run has another one. True: it was taken. */
export async function edit(node, plan = null) {
  if (linkInto(node, slotOf(node, HOLDS[node.type]))) {
    tell(app, "warn", "The plan's text comes from another node; edit it there.");
    return false;
  }
  const id = idOf(rootOf(app), node);
  const shown = plan ?? (await planOf(node));
  if (!shown && node.type === PLANNER) tell(app, "info", "There is no plan yet: Plan only asks the agent for one. You can also write your own.");
  const text = await editPlan(shown, async (t) => (await read(t, limitOf(node))).error);
  if (text === null) return false;
  await setPlan(nodeById(rootOf(app), id) ?? node, text); // an undo meanwhile makes the node anew
  return true;
}

/** Put a run's plan, changed, into a node. Throws what the server says against it. */
export async function rewrite(node, plan, change) {
  if (!plan) throw new Error("The plan of this run is not known. Open the workflow that made it.");
  const text = toText(change(toCards(plan)), plan);
  const { error } = await read(text, limitOf(node));
  if (error) throw new Error(error);
  await setPlan(node, text);
}

export async function setPlan(node, text) {
  await changing(app, () => setWidget(node, HOLDS[node.type], text));
  for (const watcher of watchers) watcher(node);
}

/** Queue only what the plan needs, so that it can be read before any picture is made. */
export async function planOnly(node) {
  const { output, workflow } = await app.graphToPrompt();
  const id = idOf(rootOf(app), node);
  const kept = {};
  const waiting = [id];
  while (waiting.length) {
    const next = waiting.pop();
    if (kept[next] || !output[next]) continue;
    kept[next] = output[next];
    for (const value of Object.values(output[next].inputs)) if (Array.isArray(value) && output[value[0]]) waiting.push(String(value[0]));
  }
  kept.interleave_plan = { class_type: "PreviewAny", inputs: { source: [id, 1] }, _meta: { title: "Plan only" } };
  try {
    await api.queuePrompt(0, { output: kept, workflow });
    tell(app, "info", "The plan is being made; no picture is.");
  } catch (error) {
    tell(app, "error", `The plan could not be queued: ${error?.response?.error?.message ?? error.message}`);
  }
}

async function planOf(node) {
  const typed = String(widgetOf(node, HOLDS[node.type])?.value ?? "");
  if (typed.trim()) return (await read(typed)).plan;
  return planned.get(node) ?? null;
}

function limitOf(node) {
  return Number(widgetOf(node, "max_steps")?.value) || undefined;
}
