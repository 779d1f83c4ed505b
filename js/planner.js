/** The plan on Planner and Plan from Text: read it, edit it as cards, make it alone. */
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { changing, idOf, nodeById, rootOf, setWidget, tell, widgetOf } from "./graph.mjs";
import { firstNumber, outline, toCards, toText } from "./plan.mjs";
import { editPlan } from "./plan_dialog.mjs";

/** The widget that holds a plan's text, by node. */
const HOLDS = { InterleaveThinkerPlanner: "edited_plan", InterleaveThinkerPlanFromText: "text" };
const PLANNER = "InterleaveThinkerPlanner";

/** The last plan that each Planner wrote in this page, by node. */
const planned = new WeakMap();
const shown = new WeakMap();

/** {plan, error} of a plan's text, as the server reads it. */
async function read(text, maxSteps) {
  const reply = await api.fetchApi("/interleave_thinker/plan", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ text, max_steps: maxSteps }),
  });
  return reply.ok ? reply.json() : { plan: null, error: "The server cannot check the plan." };
}

async function planOf(node) {
  const typed = String(widgetOf(node, HOLDS[node.type])?.value ?? "");
  if (typed.trim()) return (await read(typed)).plan;
  return planned.get(node) ?? null;
}

/** Open the editor on a node's plan. `change` may prepare the cards. Resolves to whether a plan was taken. */
export async function edit(node, change = (cards) => cards) {
  const name = HOLDS[node.type];
  if (node.inputs?.find((input) => input.name === name && input.link != null)) {
    tell(app, "warn", "The plan's text comes from another node; edit it there.");
    return false;
  }
  const plan = await planOf(node);
  if (!plan && node.type === PLANNER) tell(app, "info", "There is no plan yet: Plan only asks the agent for one. You can also write your own.");
  const limit = Number(widgetOf(node, "max_steps")?.value) || undefined;
  const text = await editPlan(change(toCards(plan)), firstNumber(plan), async (t) => (await read(t, limit)).error);
  if (text === null) return false;
  await setPlan(node, text);
  return true;
}

/** Change a node's plan without the dialog. Raises what the server says against it. */
export async function rewrite(node, change) {
  const plan = await planOf(node);
  if (!plan) throw new Error("The plan is not known here. Open the workflow that made this run.");
  const text = toText(change(toCards(plan)), firstNumber(plan));
  const { error } = await read(text, Number(widgetOf(node, "max_steps")?.value) || undefined);
  if (error) throw new Error(error);
  await setPlan(node, text);
}

async function setPlan(node, text) {
  await changing(app, () => setWidget(node, HOLDS[node.type], text));
  await draw(node);
}

/** Queue only what the plan needs, so that it can be read before any picture is made. */
async function planOnly(node) {
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

async function draw(node) {
  const place = shown.get(node);
  if (!place) return;
  const typed = String(widgetOf(node, HOLDS[node.type])?.value ?? "").trim();
  const { plan, error } = typed ? await read(typed) : { plan: planned.get(node) ?? null, error: "" };
  const cards = toCards(plan);
  place.list.replaceChildren(
    ...outline(cards, firstNumber(plan)).map((line) => {
      const item = document.createElement("li");
      item.textContent = line;
      return item;
    }),
  );
  const isPlanner = node.type === PLANNER;
  const said = isPlanner && typed ? "Your edited plan is used; the agent is not asked." : plan ? `${cards.length} steps` : "No plan yet.";
  place.note.textContent = error || said;
  place.note.classList.toggle("itk-reason", Boolean(error));
  place.back.hidden = !(isPlanner && typed);
}

function addPlace(node) {
  const root = document.createElement("div");
  root.className = "itk itk-planview";
  const bar = document.createElement("div");
  bar.className = "itk-tabs";
  const note = document.createElement("div");
  note.className = "itk-facts";
  note.setAttribute("role", "status");
  const list = document.createElement("ol");
  list.className = "itk-outline";
  const button = (text, act) => {
    const made = document.createElement("button");
    made.type = "button";
    made.className = "itk-tab";
    made.textContent = text;
    made.addEventListener("click", act);
    bar.append(made);
    return made;
  };
  if (node.comfyClass === PLANNER) button("Plan only", () => planOnly(node));
  button("Edit plan…", () => edit(node));
  const back = button("Let the agent plan again", () => setPlan(node, ""));
  back.hidden = true;
  root.append(bar, note, list);
  shown.set(node, { root, note, list, back });
  return root;
}

app.registerExtension({
  name: "InterleaveThinker.plan",
  setup() {
    api.addEventListener("interleave_thinker", ({ detail }) => {
      if (detail?.event !== "planned") return;
      const node = nodeById(rootOf(app), detail.node);
      if (!node || !HOLDS[node.type]) return;
      planned.set(node, detail.plan);
      draw(node);
    });
  },
  nodeCreated(node) {
    if (!HOLDS[node.comfyClass]) return;
    const widget = widgetOf(node, HOLDS[node.comfyClass]);
    if (node.comfyClass === PLANNER && widget) hide(widget);
    node.addDOMWidget("plan_view", "interleave_plan", addPlace(node), {
      serialize: false,
      hideOnZoom: true,
      getMinHeight: () => 110,
      getValue: () => "",
      setValue: () => {},
    });
    if (!widget) return;
    const callback = widget.callback;
    let waiting = 0;
    widget.callback = function (...given) {
      clearTimeout(waiting);
      waiting = setTimeout(() => draw(node), 300);
      return callback?.apply(this, given);
    };
    setTimeout(() => draw(node), 0); // its values come after it was created
  },
  loadedGraphNode(node) {
    if (HOLDS[node.comfyClass ?? node.type]) draw(node);
  },
});

/** The text lives in its widget, so that it is saved and shared; people edit it as cards. */
function hide(widget) {
  widget.hidden = true;
  widget.options = { ...widget.options, hidden: true };
  widget.computeSize = () => [0, -4];
  if (widget.element) widget.element.hidden = true;
}
