/** The nodes that hold a plan. A person reads the plan, edits it as cards, rewrites a step, or queues the Planner alone. */
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { NODE_IDS } from "./contract.mjs";
import { asOneUndoStep, idOf, linkInto, nodeById, rootOf, setWidget, showToast, slotOf, sourceOf, widgetOf } from "./graph.mjs";
import { toCards, toText } from "./plan.mjs";
import { editPlan } from "./plan_dialog.mjs";

/** The widget that holds a plan's text, by type of node. */
export const PLAN_WIDGET = { [NODE_IDS.planner]: "edited_plan", [NODE_IDS.plan_from_text]: "text" };

/** The last plan of each Planner that this page received, by node. */
export const lastPlans = new WeakMap();
const watchers = [];

/** Call `watcher(node)` when a node's plan was changed here. */
export function onPlan(watcher) {
  watchers.push(watcher);
}

/** Keep the plan that a node gave, and show it there. */
export function rememberPlan(node, plan) {
  lastPlans.set(node, plan);
  for (const watcher of watchers) watcher(node);
}

/** {plan, error} of a plan's text, as the server reads it. */
export async function parsePlan(text, maxSteps) {
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
  return node && PLAN_WIDGET[node.type] ? node : null;
}

/** Open the editor on a node's plan, or on `plan` where a run has another one. True: it was taken. */
export async function openPlanEditor(node, plan = null) {
  if (linkInto(node, slotOf(node, PLAN_WIDGET[node.type]))) {
    showToast(app, "warn", "The plan's text comes from another node; edit it there.");
    return false;
  }
  const id = idOf(rootOf(app), node);
  const shown = plan ?? (await planOf(node));
  if (!shown && node.type === NODE_IDS.planner) showToast(app, "info", "There is no plan yet: Plan only asks the agent for one. You can also write your own.");
  const text = await editPlan(shown, async (t) => (await parsePlan(t, limitOf(node))).error);
  if (text === null) return false;
  await setPlan(nodeById(rootOf(app), id) ?? node, text); // an undo meanwhile makes the node anew
  return true;
}

/** Change a run's plan and write it into a node. Throws the server's error where the new plan is not valid. */
export async function rewritePlan(node, plan, change) {
  if (!plan) throw new Error("The plan of this run is not known. Open the workflow that made it.");
  const text = toText(change(toCards(plan)), plan);
  const { error } = await parsePlan(text, limitOf(node));
  if (error) throw new Error(error);
  await setPlan(node, text);
}

export async function setPlan(node, text) {
  await asOneUndoStep(app, () => setWidget(node, PLAN_WIDGET[node.type], text));
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
    showToast(app, "info", "The plan is being made; no picture is.");
  } catch (error) {
    showToast(app, "error", `The plan could not be queued: ${error?.response?.error?.message ?? error.message}`);
  }
}

async function planOf(node) {
  const typed = String(widgetOf(node, PLAN_WIDGET[node.type])?.value ?? "");
  if (typed.trim()) return (await parsePlan(typed)).plan;
  return lastPlans.get(node) ?? null;
}

function limitOf(node) {
  return Number(widgetOf(node, "max_steps")?.value) || undefined;
}
